"""Yields a dictionary where a record is wanted."""

import polyface


@polyface.hookimpl
def polyface_detectors():
    yield {"name": "wrong-record"}
