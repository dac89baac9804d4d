"""Fetching weights: from the addresses of a manifest into polyface's home, whole and checked or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from polyface.errors import WeightsError, WeightsMismatchError, WeightsNotFoundError
from polyface.plugins import installed_plugins
from polyface.specs import WeightsFile
from polyface.weights import Weights, choose, place, sha256_of

TIMEOUT = 30.0
"""Seconds without a connection, or without another byte, after which an address is given up."""

ABANDONED = 3600.0
"""Seconds after which a partial file that has not grown was left behind by a process that was killed."""

CHUNK = 64 * 1024
PARTIAL = ".part"


def fetch_weights(detector: str, weights: str | None = None, *, offline: bool = False) -> Path | None:
    """Return where a detector's weights lie, their sha256 checked; fetch them first where they are not here.

    Weights that ship with a plugin and the user's own file are found, never fetched. A damaged file is fetched anew.

    Args:
        detector: the detector's name, or ``distribution/name``.
        weights: a name in the detector's manifest, or a path; ``None`` is its default.
        offline: transfer nothing, and raise where that means not to have the file; so does ``POLYFACE_OFFLINE=1``.

    Returns:
        The path; ``None`` for a detector that needs no weights.

    Raises:
        UnknownNameError: there is no such detector, or it has no weights of that name.
        WeightsNotFoundError: no address gave the file, and why each did not; or nothing may be fetched.
        WeightsMismatchError: the file here is damaged, and cannot be fetched anew.
        WeightsError: polyface's home cannot be written to.

    Warns:
        UserWarning: what is about to be fetched is for research only.
    """
    return fetch(choose(installed_plugins().detector(detector), weights), offline=offline)


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=4)  # in the caller of fetch_weights


def _ignore(received: int) -> None:
    pass


def fetch(
    weights: Weights,
    *,
    offline: bool = False,
    notice: Callable[[str], None] = _warn,
    progress: Callable[[int], None] = _ignore,
) -> Path | None:
    """Do what :func:`fetch_weights` does for weights already chosen.

    Args:
        weights: what to fetch.
        offline: transfer nothing.
        notice: told once, before any transfer, that the weights are for research only.
        progress: told how many bytes came so far, from 0 again at each address.
    """
    file = weights.file
    if file is None or file.ref is not None:
        return weights.locate()
    try:
        return weights.locate()
    except (WeightsNotFoundError, WeightsMismatchError) as error:
        if offline or os.environ.get("POLYFACE_OFFLINE", "") not in ("", "0"):
            raise type(error)(
                error.what,
                why=[*error.why, "offline: nothing is fetched"],
                fix=f"without --offline and POLYFACE_OFFLINE: {weights.fetch_command}",
            ) from error
    if file.research_only:
        notice(f"The weights '{file.name}' of '{weights.detector}' are for research only. Licence: {file.license}")
    path = place(file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        failures = _try_each(file, path, progress)
    except OSError as error:
        raise WeightsError(
            f"Cannot write to {path.parent}.",
            why=[str(error)],
            fix=f"name a folder that can be written to: POLYFACE_HOME=DIR {weights.fetch_command}",
        ) from error
    if failures:
        raise WeightsNotFoundError(
            f"The weights '{file.name}' of '{weights.detector}' could not be fetched.",
            why=failures,
            fix=f"mend the connection and repeat: {weights.fetch_command}; or put the file at {path} by other means",
        )
    return path


def _try_each(file: WeightsFile, path: Path, progress: Callable[[int], None]) -> list[str]:
    """Try the addresses in order; return nothing once one gave the file, else what was wrong with each.

    The file is written and checked aside, then moved. So two processes may fetch it at once, and whoever reads ``path``
    never sees half of it.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent)
    os.close(descriptor)
    partial = Path(name)
    failures: list[str] = []
    try:
        for url in file.urls:
            problem = _download(url, file, partial, progress)
            if problem is None:
                partial.chmod(0o644)
                partial.replace(path)
                return []
            failures.append(f"{url}: {problem}")
    finally:
        partial.unlink(missing_ok=True)
    return failures


def _download(url: str, file: WeightsFile, partial: Path, progress: Callable[[int], None]) -> str | None:
    """Write what an address gives to ``partial``; return why that is not the file, or ``None`` if it is."""
    import pooch  # type: ignore[import-untyped]

    download = pooch.HTTPDownloader(chunk_size=CHUNK, timeout=TIMEOUT)
    with partial.open("wb") as stream:
        try:
            download(url, _Bounded(stream, file.size, progress), None)
        except OSError as error:
            if error.errno is not None:  # the disk's errors have a number, those of requests have none
                raise
            return f"{type(error).__name__}: {error}"
        except ValueError as error:  # more bytes than there should be, or a header that makes no sense
            return str(error)
    actual = sha256_of(partial)
    if actual == file.sha256:
        return None
    return f"sent another file: {partial.stat().st_size} bytes of {file.size}, sha256 {actual}, not {file.sha256}"


class _Bounded:
    """A file that refuses to grow beyond the size it should have: a server may send without end."""

    def __init__(self, stream: BinaryIO, size: int, progress: Callable[[int], None]) -> None:
        self._stream = stream
        self._size = size
        self._progress = progress
        self._received = 0

    def write(self, chunk: bytes) -> None:
        self._received += len(chunk)
        if self._received > self._size:
            raise ValueError(f"sent another file: more than {self._size} bytes")
        self._stream.write(chunk)
        self._progress(self._received)

    def flush(self) -> None:
        self._stream.flush()


def _remove_abandoned(path: Path) -> None:
    """Remove the partial files of processes that were killed before they could."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*{PARTIAL}"):
        with contextlib.suppress(FileNotFoundError):  # another process is done with it
            if time.time() - partial.stat().st_mtime > ABANDONED:
                partial.unlink()
