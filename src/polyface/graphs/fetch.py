"""Fetching weights: from the addresses of a manifest into polyface's home, whole and checked or not at all.

What a server does is not believed: neither the length it tells, nor that it ever comes to an end. Every transfer is
bounded in bytes and in time, and what is shown of an answer is short and has no escape sequences.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from polyface.errors import Fix, WeightsError, WeightsMismatchError, WeightsNotFoundError
from polyface.graphs.weights import Weights, path_of, select_weights
from polyface.plugins.manager import PluginManager, installed_plugins
from polyface.plugins.records import DetectorSpec, WeightsFile
from polyface.settings.values import read_flag
from polyface.storage.files import atomic_write, remove_abandoned

LOG = logging.getLogger(__name__)

TIMEOUT = 30.0
"""Seconds without a connection, or without another byte, after which an address is given up."""

WINDOW = 30.0
"""Seconds over which a download's speed is measured, again and again."""

LEAST = 30_000
"""Bytes that must come in each ``WINDOW``, or the address is given up."""

REDIRECTS = 10
CHUNK = 16 * 1024
SHOWN = 200
"""Characters of a server's answer that a message repeats."""


def fetch_weights(
    detector: str, weights: str | None = None, *, offline: bool = False, plugins: PluginManager | None = None
) -> Path | None:
    """Return where a detector's weights lie, their sha256 checked; fetch them first where they are not here.

    Weights that ship with a plugin and the user's own file are found, never fetched. A damaged file is fetched anew.

    Args:
        detector: the detector's name, or ``distribution/name``.
        weights: a name in the detector's manifest, or a path; ``None`` is its default.
        offline: transfer nothing, and raise where that means not to have the file; so does ``POLYFACE_OFFLINE=1``.
        plugins: where the detector is looked up; the installed plugins by default.

    Returns:
        The path; ``None`` for a detector that needs no weights.

    Raises:
        UnknownNameError: there is no such detector, or it has no weights of that name.
        WeightsNotFoundError: no address gave the file, and why each did not; or nothing may be fetched.
        WeightsMismatchError: the file here is damaged, and cannot be fetched anew.
        WeightsError: polyface's home cannot be written to.
        ConfigError: there is no home, or ``POLYFACE_OFFLINE`` says neither yes nor no.

    Warns:
        UserWarning: what is about to be fetched is for research only.
    """
    plugins = installed_plugins() if plugins is None else plugins
    return fetch(select_weights(plugins.get(DetectorSpec, detector), weights), offline=offline)


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=4)  # in the caller of fetch_weights


def fetch(
    weights: Weights,
    *,
    offline: bool = False,
    notice: Callable[[str], None] = _warn,
    progress: Callable[[int], None] = lambda _: None,
) -> Path | None:
    """Do what :func:`fetch_weights` does for weights already selected.

    Args:
        weights: what to fetch.
        offline: transfer nothing.
        notice: told once, before any transfer, that the weights are for research only.
        progress: told how many bytes came so far, from 0 again at each address.
    """
    file = weights.file
    if file is None or file.ref is not None:
        return weights.locate()
    path = path_of(file)
    remove_abandoned(path.parent)
    try:
        return weights.locate()
    except (WeightsNotFoundError, WeightsMismatchError) as error:
        if offline or read_flag("POLYFACE_OFFLINE"):
            raise type(error)(
                error.what,
                why=[*error.why, "offline: nothing is fetched"],
                fix=Fix("go online, and without POLYFACE_OFFLINE", command=weights.fetch_command),
            ) from error
    if file.research_only:
        notice(f"The weights '{file.name}' of '{weights.detector}' are for research only. Licence: {file.license}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        failures = _try_each(file, path, progress)
    except OSError as error:
        raise WeightsError(
            f"Cannot write to {path.parent}.",
            why=[str(error)],
            fix=Fix("name a folder that can be written to", command=f"POLYFACE_HOME=DIR {weights.fetch_command}"),
        ) from error
    if failures:
        raise WeightsNotFoundError(
            f"The weights '{file.name}' of '{weights.detector}' could not be fetched.",
            why=failures,
            fix=Fix("mend the connection and repeat", command=weights.fetch_command)
            | f"put the file at {path} by other means",
        )
    return path


class _RefusedError(Exception):
    """What an address gives is not the file; the message says why."""


def _try_each(file: WeightsFile, path: Path, progress: Callable[[int], None]) -> list[str]:
    """Try the addresses in order; return nothing once one gave the file, else what was wrong with each.

    The file is written and checked aside, then moved. So two processes may fetch it at once, and whoever reads ``path``
    never sees half of it.
    """
    failures: list[str] = []
    for url in file.urls:
        try:
            with atomic_write(path) as stream:
                digest, received = hashlib.sha256(), 0
                for chunk in _download(url, file.size):
                    digest.update(chunk)
                    stream.write(chunk)
                    received += len(chunk)
                    progress(received)
                if digest.hexdigest() != file.sha256:
                    raise _RefusedError(
                        f"sent another file: {received} bytes of {file.size}, "
                        f"sha256 {digest.hexdigest()}, not {file.sha256}"
                    )
        except _RefusedError as error:
            failures.append(f"{_without_password(url)}: {error}")
            LOG.info("not fetched from %s", failures[-1])
        else:
            LOG.info("fetched %s from %s", path, _without_password(url))
            return []
    return failures


def _download(url: str, size: int) -> Iterator[bytes]:
    """Yield what an address gives, ``size`` bytes at most.

    Raises:
        _RefusedError: it gives something else or nothing, or is too slow.
    """
    import requests
    from urllib3.exceptions import HTTPError

    slow = f"too slow: less than {LEAST} bytes in {WINDOW:g} seconds"
    with _Watch() as watch, requests.Session() as session:
        try:
            response = _answer(session, url, watch)
            with contextlib.closing(response):
                _check_answer(response, size)
                for chunk in response.iter_content(CHUNK):
                    watch.received += len(chunk)
                    if watch.received > size:
                        raise _RefusedError(f"sent another file: more than {size} bytes")
                    yield chunk
        except (OSError, ValueError, HTTPError, HTTPException) as error:
            raise _RefusedError(slow if watch.is_slow else _shown_error(error)) from error
        if watch.is_slow:  # a connection that is shut looks like the end where no length was told
            raise _RefusedError(slow)


def _answer(session: Any, url: str, watch: _Watch) -> Any:
    """Return the answer of the address, or of the one it redirects to; its content is still to come.

    requests would read the content of a redirect to its end, which may have none.
    """
    import requests

    session.mount("http://", _watched_adapter(watch))
    session.mount("https://", _watched_adapter(watch))
    for _ in range(REDIRECTS + 1):
        request = session.prepare_request(requests.Request("GET", url, headers={"Accept-Encoding": "identity"}))
        settings = session.merge_environment_settings(request.url, {}, True, None, None)
        response = session.get_adapter(request.url).send(request, timeout=TIMEOUT, **settings)
        target = session.get_redirect_target(response)
        if target is None:
            return response
        response.close()
        url = urljoin(request.url, target)
    raise _RefusedError(f"redirects more than {REDIRECTS} times")


def _check_answer(response: Any, size: int) -> None:
    """Refuse an answer that says itself that it is not the file."""
    if response.status_code != 200:
        raise _RefusedError(f"answers {response.status_code} {_shown(str(response.reason or ''))}".rstrip())
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length[:20]) != size and "Content-Encoding" not in response.headers:
        kind = response.headers.get("Content-Type", "no type")
        raise _RefusedError(f"sent another file: {_shown(length)} bytes, not {size}; it is of {_shown(kind)}")


class _Watch:
    """Ends a transfer that goes on for ever, by shutting its connections from a thread of its own.

    A timeout counts from byte to byte, also within the headers, a redirect, or the handshake of TLS.

    Args:
        received: bytes of the file so far; the transfer counts them.
        is_slow: whether the transfer was ended.
    """

    def __init__(self) -> None:
        self.received = 0
        self.is_slow = False
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="polyface-fetch-watch", daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for connection in self._connections:
            connection.close()

    def add(self, connection: socket.socket) -> None:
        """Watch a connection, too; its duplicate reaches it whatever TLS makes of the original."""
        with self._lock:
            if self.is_slow:
                raise TimeoutError
            self._connections.append(connection.dup())

    def _run(self) -> None:
        before = 0
        while not self._over.wait(WINDOW):
            if self.received - before < LEAST:
                break
            before = self.received
        else:
            return
        with self._lock:
            self.is_slow = True
            for connection in self._connections:
                with contextlib.suppress(OSError):  # closed by the other side
                    connection.shutdown(socket.SHUT_RDWR)


def _watched_adapter(watch: _Watch) -> Any:
    """Return what opens requests' connections, which a watch is told of."""
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):
        def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
            pool = super().get_connection_with_tls_context(*args, **kwargs)

            class Connection(pool.ConnectionCls):  # type: ignore[misc,name-defined]
                def _new_conn(self) -> Any:
                    connection = super()._new_conn()
                    watch.add(connection)
                    return connection

            pool.ConnectionCls = Connection
            return pool

    return Adapter()


def _shown_error(error: Exception) -> str:
    """What went wrong, without what requests and urllib3 wrap around it."""
    inner = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    reason = getattr(inner, "reason", None)
    inner = reason if isinstance(reason, Exception) else inner
    return _shown(f"{type(error).__name__}: {inner}")


def _shown(text: str) -> str:
    """What others wrote, for a message: short, without escape sequences and without a password."""
    printable = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return _without_password(printable)[:SHOWN]


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)
