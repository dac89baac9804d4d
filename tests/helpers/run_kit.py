"""Runs the conformance kit on a plugin that a test has just written."""

from __future__ import annotations

from polyface.plugins.manager import installed_plugins


def run_kit(pytester, *arguments):
    """Run the kit in this process, and return its reports by outcome: those of passed, skipped and failed checks."""
    pytester.syspathinsert()
    installed_plugins.cache_clear()
    try:
        record = pytester.inline_run("-p", "polyface.testing.plugin", "-p", "no:cacheprovider", *arguments)
    finally:
        installed_plugins.cache_clear()
    return record.listoutcomes()
