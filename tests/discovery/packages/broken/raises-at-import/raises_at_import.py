"""Fails while it is imported."""

raise RuntimeError("this plugin raises at import")
