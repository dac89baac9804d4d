"""Calling a function in a Python process of its own, for what hangs or crashes, or switches what all threads share.

It costs a start of Python and the function's imports. Modules are found there where they are found here; the main
module and the current folder take no part.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import pickle
import pkgutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from polyface.errors import described

LOG = logging.getLogger(__name__)

START = 120.0
"""Seconds a process may take beyond those of a call that is bounded: to start, and to import the function."""

LAST = 1000
"""Bytes of what the process printed that an error repeats."""

BEGUN = b"polyface: begun\n"

# -I: neither the current folder nor the environment adds modules; the path is this process's, whatever made it.
_CHILD = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from polyface.machine.processes import answer
answer()
"""


class NotBegunError(Exception):
    """No process can be started here, or it cannot import the function or read its arguments."""


class NotDoneError(Exception):
    """The process ended before the function did."""


def call(function: str, *arguments: Any, seconds: float | None = None) -> Any:
    """Call a function in a process of its own, and return what it returns.

    What the process prints is logged at level debug; errors repeat the end of it.

    Args:
        function: ``module:name``; a module that only exists in this process's ``sys.modules`` is not found there.
        arguments: what pickles, as must what is returned.
        seconds: how long the call may take, once the function is imported. What is not trusted to end is not trusted
            to print little either: then what it prints is thrown away.

    Raises:
        NotBegunError: there is no such process, or it does not find the function.
        NotDoneError: the process crashed, or the seconds are over.
        Exception: what the function raised, if the class is polyface's or Python's own, else ``RuntimeError``.
    """
    if not is_python(sys.executable):
        raise NotBegunError(f"this program, {sys.executable or 'which has no name'}, is no Python interpreter")
    # "" is whatever folder is the current one.
    path = [entry for entry in sys.path if entry and isinstance(entry, str)]
    try:
        with tempfile.TemporaryFile() as printed:
            done = subprocess.run(  # noqa: S603 - this Python, and words of ours
                [sys.executable, "-I", "-c", _CHILD],
                input=pickle.dumps(path) + pickle.dumps((function, arguments, seconds)),
                stdout=subprocess.PIPE,
                stderr=printed,
                timeout=None if seconds is None else START + seconds,
                check=False,
            )
            printed.seek(max(0, printed.seek(0, os.SEEK_END) - LAST))
            said = printed.read().decode(errors="replace").strip()
    except subprocess.TimeoutExpired as error:
        raise NotDoneError(f"its process was not done after {error.timeout:.0f} seconds") from error
    except OSError as error:
        raise NotBegunError(described(error)) from error
    if said:
        LOG.debug("what %s printed in a process of its own ends with:\n%s", function, said)
    if not done.stdout.startswith(BEGUN):
        last = said.rpartition("\n")[2] or _ending(done.returncode)
        raise NotBegunError(f"a process of its own did not begin: {last[:200]}")
    try:
        result, raised = pickle.loads(done.stdout[len(BEGUN) :])  # noqa: S301 - this user's own process wrote it
    except (EOFError, pickle.UnpicklingError):
        if seconds is not None and done.returncode == 1:  # as faulthandler ends it
            raise NotDoneError(f"it was not done within {seconds:.0f} seconds") from None
        ending = f"its process ended with {_ending(done.returncode)}"
        raise NotDoneError(f"{ending}, and printed last: {said}" if said else ending) from None
    if raised is None:
        return result
    if said:
        raised.add_note(f"printed last, in a process of its own: {said}")
    raise raised


def call_noisy(function: str, *arguments: Any) -> Any:
    """Call a function whose libraries print, or switch what all threads share: in a process of its own, as by ``call``.

    Where this program is no Python interpreter, as a frozen one is not, it is called here, and nothing is silenced.
    """
    if is_python(sys.executable):
        return call(function, *arguments)
    LOG.info("%s runs in this process, and may print: %s is no Python interpreter", function, sys.executable)
    return pkgutil.resolve_name(function)(*arguments)


def answer() -> None:
    """Do what :func:`call` asks, in the process that it started."""
    with os.fdopen(os.dup(1), "wb") as told, Path(os.devnull).open("wb") as nowhere:
        os.dup2(2, 1)
        function, arguments, seconds = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this
        called = pkgutil.resolve_name(function)
        with contextlib.suppress(OSError):  # on Linux, whatever takes all memory here ends this process and no other
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
        told.write(BEGUN)
        told.flush()
        if seconds is not None:
            for descriptor in (1, 2):
                os.dup2(nowhere.fileno(), descriptor)
            # A thread in C, which needs nothing of a process that hangs, and ends it with status 1.
            faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
        result = error = None
        try:
            result = called(*arguments)
        except Exception as raised:  # noqa: BLE001 - whoever asked raises it
            error = raised if type(raised).__module__ in ("builtins", "polyface.errors") else None
            error = error or RuntimeError(described(raised))
        faulthandler.cancel_dump_traceback_later()
        told.write(pickle.dumps((result, error)))


def is_python(executable: str | None) -> bool:
    """Return whether a program is Python, and not a frozen one that would start itself again, or a server."""
    name = Path(executable or "").stem.lower()
    return not getattr(sys, "frozen", False) and name.startswith(("python", "pypy"))


def _ending(status: int) -> str:
    with contextlib.suppress(ValueError):
        return f"signal {-status}, {signal.Signals(-status).name}" if status < 0 else f"status {status}"
    return f"signal {-status}"
