"""What went wrong with one image, as polyface's own error."""

from __future__ import annotations

from polyface.errors import Fix, ImageError, PolyfaceError, described


def failure_of(error: Exception) -> PolyfaceError:
    """Return the error that the result of one item bears."""
    if isinstance(error, PolyfaceError):
        return error
    if isinstance(error, MemoryError):
        return ImageError("does not fit into memory", fix=Fix("lower", names=("max_side", "pad_to")))
    return ImageError("it cannot be read", why=[described(error)])
