"""Marks a function whose name is almost a hook."""

import polyface


@polyface.hookimpl
def polyface_detector():
    return ()
