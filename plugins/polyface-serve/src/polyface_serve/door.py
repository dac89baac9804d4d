"""What every request passes: it is counted, must have the token, and its answer says what a browser may do with it."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from polyface.errors import ConfigError
from polyface.storage.files import json_bytes
from polyface_serve.refusals import Refusal

if TYPE_CHECKING:
    from polyface_serve.metrics import Metrics

    Message: TypeAlias = MutableMapping[str, Any]
    Receive: TypeAlias = Callable[[], Awaitable[Message]]
    Send: TypeAlias = Callable[[Message], Awaitable[None]]

SAFE = [
    # The page has its scripts, styles and requests here and nowhere else, and stands in no other page.
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
        b"media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


class Door:
    """An ASGI application before another.

    Args:
        app: the other one.
        paths: those that are counted by their names; others together.
        token: what requests for ``/v1/`` and ``/metrics`` must present, if anything.
        metrics: where they are counted.
        linger: seconds for which the rest of a request is let come once it was answered, where its connection ends
            with the answer: else the client, which sends it all before it listens, hears of a broken connection only.
    """

    def __init__(self, app: Any, paths: Collection[str], token: str | None, metrics: Metrics, linger: float) -> None:
        self._app, self._paths, self._metrics, self._linger = app, frozenset(paths), metrics, linger
        self._wanted = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, more = time.perf_counter(), 500, _ends_with_its_answer(scope)

        async def take() -> Message:
            nonlocal more
            message = await receive()
            more = more and message.get("more_body", False)
            return message

        async def note(message: Message) -> None:
            nonlocal status, more
            if message["type"] == "http.response.start":
                status = message["status"]
                more = more and (b"connection", b"close") not in message["headers"]  # it came too slowly already
                message["headers"] = [*message["headers"], *SAFE]
            elif more and not message.get("more_body", False):
                await send({**message, "more_body": True})
                message = {**message, "body": b""}
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._linger):
                        while more:
                            await take()
            await send(message)

        path = scope["path"] if scope["path"] in self._paths else "other"
        try:
            if self._may_pass(scope):
                await self._app(scope, take, note)
            else:
                await _refuse(note)
        finally:
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - started)

    def _may_pass(self, scope: Any) -> bool:
        if self._wanted is None or not (scope["path"].startswith("/v1/") or scope["path"] == "/metrics"):
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(given, self._wanted)


def _ends_with_its_answer(scope: Any) -> bool:
    """Whether the client has no other request for its connection."""
    options = [value.lower() for name, value in scope["headers"] if name == b"connection"]
    return scope["http_version"] == "1.0" or b"close" in options


async def _refuse(send: Send) -> None:
    error = ConfigError(
        "The request has not the token of this server.", fix="send the header Authorization: Bearer TOKEN"
    )
    refusal = Refusal(401, error)
    body = json_bytes({"error": refusal.to_dict()})
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **refusal.headers}
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
