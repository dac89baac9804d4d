"""What one client may ask for, and what all may together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import frozen

from polyface.errors import PolyfaceError
from polyface_serve.refusals import Refusal

MAX_PIXELS = 40_000_000
"""Pixels of an image, unless the setting ``max_pixels`` says otherwise: 120 MB, decoded."""

HELD_BODIES = 10
"""The bodies of all requests together take at most so many times what one may."""


@frozen(kw_only=True)
class Limits:
    """The bounds of a service.

    Args:
        max_bytes: of the body of a request.
        max_images: in a request.
        queue: images that wait or are examined, of one model.
        upload_seconds: in which a request must have come, and its answer have been taken.
        answer_seconds: in which it must be answered from then on.
        idle_seconds: after which a connection is cut that sends no request, or takes nothing of its answer.
        gather_seconds: how long an image waits for others to share a run of the network, while one is examined.
    """

    max_bytes: int = 20_000_000
    max_images: int = 16
    queue: int = 64
    upload_seconds: float = 30.0
    answer_seconds: float = 60.0
    idle_seconds: float = 10.0
    gather_seconds: float = 0.002


class HeldBytes:
    """Counts the bytes of requests that are in memory.

    Args:
        most: all of them together.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._lock = threading.Lock()

    @contextmanager
    def lend(self) -> Iterator[Loan]:
        """Return what counts the bytes of one request, and gives them back at the end of the block."""
        loan = Loan(self)
        try:
            yield loan
        finally:
            self.add(-loan.count)

    def add(self, count: int) -> None:
        """Count so many bytes more.

        Raises:
            Refusal: there would be too many.
        """
        with self._lock:
            if count > 0 and self._held + count > self._most:
                what = PolyfaceError(
                    "The server has no memory for another request now.",
                    why=[f"the requests that it has hold {self._held:,} bytes"],
                    fix="send it again in a second",
                )
                raise Refusal(503, what, retry_after=1)
            self._held += count


class Loan:
    """The bytes of one request."""

    def __init__(self, held: HeldBytes) -> None:
        self._held = held
        self.count = 0

    def add(self, count: int) -> None:
        """Count so many bytes more.

        Raises:
            Refusal: there would be too many of all requests.
        """
        self._held.add(count)
        self.count += count
