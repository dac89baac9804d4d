"""Names a hook, but does not mark it as an implementation."""


def polyface_detectors():
    return ()
