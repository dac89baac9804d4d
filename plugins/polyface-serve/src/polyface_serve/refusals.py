"""Errors as HTTP bears them: a status, and what happened, why, and what mends it, as JSON."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from polyface.errors import (
    BackendUnavailableError,
    ConfigError,
    Fix,
    ImageError,
    OutOfMemoryError,
    PolyfaceError,
    UnknownNameError,
    UnsupportedError,
    described,
)
from polyface.images.reading import open_image

if TYPE_CHECKING:
    from polyface.settings.config import Config

_STATUS: tuple[tuple[type[PolyfaceError], int], ...] = (
    (ConfigError, 400),
    (UnsupportedError, 400),
    (UnknownNameError, 404),
    (ImageError, 422),
    (OutOfMemoryError, 503),
    (BackendUnavailableError, 500),
)


NO_IMAGE = "is not an image in a format that is read"
"""What core says of a file that begins as no image does."""


class Refusal(Exception):  # noqa: N818 - it is an answer
    """What a request is answered with that cannot be done.

    Args:
        status: of HTTP.
        error: what happened, why, and what mends it.
        retry_after: seconds after which it is worth trying again.
        close: whether the connection ends with the answer. Otherwise what is still to come of the request is let go by,
            for a while, so that clients that send it all before they listen hear of the reason.
    """

    def __init__(
        self, status: int, error: PolyfaceError, *, retry_after: int | None = None, close: bool = False
    ) -> None:
        super().__init__(error.summary)
        self.status = status
        self.error = error
        self.headers: dict[str, str] = {}
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)
        if close:
            self.headers["Connection"] = "close"
        if status == 401:
            self.headers["WWW-Authenticate"] = "Bearer"

    def to_dict(self) -> dict[str, Any]:
        """Return the error as plain values: ``what``, ``why`` (a list) and ``fix`` (see ``Fix.to_dict``)."""
        return {
            "what": self.error.what[:1].upper() + self.error.what[1:],
            "why": list(self.error.why),
            "fix": self.error.fix.to_dict(),
        }


def refuse(error: BaseException) -> Refusal:
    """Return what a request is answered with where this was raised."""
    if isinstance(error, Refusal):
        return error
    if not isinstance(error, PolyfaceError):
        return Refusal(500, PolyfaceError("The server failed.", why=[described(error)], fix="its log says more"))
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    return Refusal(status, error, retry_after=1 if status == 503 else None)


def refuse_image(error: PolyfaceError, data: bytes, config: Config) -> Refusal:
    """Return what stands for an image that could not be examined: 415 if it is none, 413 if it is too large, or 422."""
    if not isinstance(error, ImageError):
        return refuse(error)
    if NO_IMAGE in error.what:
        return Refusal(415, error)
    with contextlib.suppress(ImageError), open_image(data, formats=config.formats, damaged=True) as opened:
        width, height = opened.image.size
        if config.max_pixels and width * height > config.max_pixels:
            return Refusal(413, _too_large(width, height, config.max_pixels))
    return Refusal(422, error)


def _too_large(width: int, height: int, most: int) -> ImageError:
    return ImageError(
        f"The image has too many pixels: {width}x{height}.",
        why=[f"this server takes {most:,}"],
        fix=Fix("send it smaller") | Fix("have the server run with", settings={"max_pixels": width * height}),
    )
