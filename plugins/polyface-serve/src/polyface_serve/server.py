"""The process: a socket, uvicorn on it, and an eye on clients that hold a connection and do little with it."""

from __future__ import annotations

import asyncio
import math
import signal
import socket
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import uvicorn

from polyface.errors import ConfigError, Fix, reason_of
from polyface.machine import memory
from polyface_serve.limits import Limits

EVERY = 0.5
"""Seconds between two looks at the connections."""


GIVE_BACK_EVERY = 5.0
"""Seconds after which free memory goes back to the system. Giving back each large block at once made calls slower."""


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ConfigError: it cannot be had.
    """
    try:
        # With its protocol, which socket.create_server leaves out: asyncio sends small answers at once only then.
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, proto=socket.IPPROTO_TCP)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(2048)
        except BaseException:
            listener.close()
            raise
        return listener
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"The service cannot listen on {host} port {port}.",
            why=[reason_of(error)],
            fix=Fix("choose another", names=("port", "host")),
        ) from error


def make_server(make_app: Callable[[Callable[[], Any]], Any], limits: Limits) -> uvicorn.Server:
    """Return what answers requests once it runs on a socket.

    Args:
        make_app: returns the application; takes what returns a coroutine that must run beside it.
        limits: of connections; what a request may take bounds the end.
    """

    async def keep_watch() -> None:
        connections = server.server_state.connections
        await asyncio.gather(cut_slow(connections, limits), give_memory_back(GIVE_BACK_EVERY))

    config = uvicorn.Config(
        make_app(keep_watch),
        http="h11",
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=math.ceil(limits.upload_seconds + limits.answer_seconds) + 1,
    )
    server = uvicorn.Server(config)
    return server


def run(server: uvicorn.Server, listener: socket.socket) -> None:
    """Answer requests until the process is told to stop by SIGTERM or SIGINT; those that are in flight are answered.

    Args:
        server: of :func:`make_server`.
        listener: a socket that listens; it is closed.

    Raises:
        KeyboardInterrupt: it was SIGINT.
    """
    # uvicorn raises the signal again once it has ended; the process ends of itself then, and with status 0. One that
    # comes before uvicorn listens for it ends the service as well.
    before = signal.signal(signal.SIGTERM, server.handle_exit)
    try:
        server.run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)


async def give_memory_back(seconds: float) -> None:
    """Give free memory back to the system, each time so many seconds have passed.

    Images of ever other sizes leave holes in what the C library keeps.
    """
    while True:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(memory.give_back)


async def cut_slow(connections: Collection[Any], limits: Limits) -> None:
    """Cut connections that send no request, send on after their answer, or take nothing of it or not all of it in time.

    A request that is being read or examined has limits of its own.

    Args:
        connections: of uvicorn, each with its ``cycle``, a request and its answer, its ``flow`` and ``transport``.
        limits: ``idle_seconds`` is how long each may stay as it is, ``upload_seconds`` how long it may take an answer.
    """
    since: dict[Any, tuple[object, float]] = {}
    taking: dict[Any, float] = {}
    while True:
        await asyncio.sleep(min(EVERY, limits.idle_seconds / 4))
        now = time.monotonic()
        since = {connection: _stall(connection, since, now) for connection in list(connections)}
        paused = [connection.cycle for connection in since if connection.flow.write_paused]
        taking = {cycle: taking.get(cycle, now) for cycle in paused}
        for connection, (stall, began) in since.items():
            idle = stall is not None and now - began > limits.idle_seconds
            if idle or now - taking.get(connection.cycle, now) > limits.upload_seconds:
                connection.transport.abort()


def _stall(connection: Any, since: Mapping[Any, tuple[object, float]], now: float) -> tuple[object, float]:
    """What a connection does not go on from, and since when; ``None`` of one that goes on."""
    cycle = connection.cycle
    if connection.flow.write_paused:
        stall: object = connection.transport.get_write_buffer_size()  # which shrinks as the answer is taken
    elif cycle is None:
        stall = "it has sent no request"
    else:
        stall = cycle if cycle.response_complete else None
    before = since.get(connection)
    return before if before is not None and before[0] == stall else (stall, now)
