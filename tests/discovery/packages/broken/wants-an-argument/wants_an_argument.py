"""Asks for an argument that the hook does not have."""

import polyface


@polyface.hookimpl
def polyface_detectors(settings):
    return ()
