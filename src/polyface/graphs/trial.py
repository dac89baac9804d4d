"""Trying a graph that a stranger made in a process of its own, before this process takes it.

A sha256 says that a graph is whole, not who made it, and parsers written in C++ hang or crash on some: a process of its
own bounds both. It costs a start of Python and of the runtime, once for each graph; what stood the trial is remembered
in polyface's home. It guards against a graph that hangs or crashes when it is loaded, or run once on a small input, and
not against one made to do so on a certain image.
"""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from polyface.errors import ArtifactError, ConfigError
from polyface.plugins.protocols import Graph
from polyface.plugins.records import Ref
from polyface.settings.paths import home
from polyface.storage.files import atomic_write, sha256_of

SECONDS = 10.0
"""How long a trial may take, and a second more for each megabyte of the graph; loading the runtime does not count."""

START = 120.0
"""Seconds more until the process is ended from outside."""

BEGUN, ENDED = b"polyface: begun\n", b"polyface: ended\n"

# -I: neither the current folder nor the environment adds modules; the path is this process's, whatever made it.
_CHILD = """
import json, sys
request = json.load(sys.stdin)
sys.path[:] = request.pop("path")
from polyface.graphs.trial import run
run(**request)
"""


def try_first(graph: Graph, function: str, *arguments: Any, version: str) -> None:
    """Call a function with a graph's path in a process of its own, unless that graph stood this trial before.

    Args:
        graph: its source is a file.
        function: ``module:name``; called with the path and the arguments. It may raise: how its process ends counts.
        arguments: what JSON can hold.
        version: of the runtime, and on what it runs; another one tries the graph anew.

    Raises:
        ArtifactError: that process crashed or did not come to an end, or there is no Python to start one with.
    """
    path = Path(str(graph.source))
    trial = json.dumps([sha256_of(path), function, arguments, version])
    try:
        stood = home() / "tried" / hashlib.sha256(trial.encode()).hexdigest()
    except ConfigError:
        stood = None
    if stood is not None and stood.exists():
        return
    problem = call(function, str(path), *arguments, seconds=SECONDS + path.stat().st_size / 1e6)
    if problem is not None:
        raise ArtifactError(
            f"The graph {path} is not used: in a trial, {problem}.",
            why=["a graph from a folder that was named is tried in a process of its own: anybody may have made it"],
            fix="leave out --artifacts, and make the graph here by `polyface export` or `polyface quantize`",
        )
    # Without a home that can be written to it is tried again the next time, which costs time and nothing else.
    if stood is None:
        return
    with contextlib.suppress(OSError):
        stood.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(stood) as stream:
            stream.write(trial.encode())


def call(function: str, *arguments: Any, seconds: float) -> str | None:
    """Call a function in a process of its own; return what became of the process, or ``None`` if it ended by itself.

    Raises:
        ArtifactError: the process cannot be started, or the function not be imported there.
    """
    if not _is_python(sys.executable):
        raise _untried(f"this program, {sys.executable or 'which has no name'}, is no Python interpreter")
    request = {
        # "" is whatever folder is the current one.
        "path": [entry for entry in sys.path if entry and isinstance(entry, str)],
        "function": function,
        "arguments": arguments,
        "seconds": seconds,
    }
    try:
        done = subprocess.run(  # noqa: S603 - this Python, and words of ours
            [sys.executable, "-I", "-c", _CHILD],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=START + seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"its process was not done after {START + seconds:.0f} seconds"
    except OSError as error:
        raise _untried(f"{type(error).__name__}: {error}") from error
    if done.stdout.endswith(ENDED):
        return None
    if not done.stdout.endswith(BEGUN):
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise _untried(f"a process of its own did not begin: {last[:200] or _ending(done.returncode)}")
    if done.returncode == 1:  # as faulthandler ends it
        return f"it was not loaded and run within {seconds:.0f} seconds"
    return f"its process ended with {_ending(done.returncode)}"


def run(function: str, arguments: list[Any], seconds: float) -> None:
    """Do what :func:`call` asks, in the process that it started."""
    called = Ref(function).load()
    with contextlib.suppress(OSError):  # on Linux, whatever takes all memory here ends this process and no other
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    with os.fdopen(os.dup(1), "wb", buffering=0) as told, Path(os.devnull).open("wb") as nowhere:
        told.write(BEGUN)
        for descriptor in (1, 2):  # what a runtime says of a strange graph is not for the user
            os.dup2(nowhere.fileno(), descriptor)
        # A thread in C, which needs nothing of a process that hangs, and ends it with status 1.
        faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
        with contextlib.suppress(Exception):
            called(*arguments)
        faulthandler.cancel_dump_traceback_later()
        told.write(ENDED)


def _is_python(executable: str | None) -> bool:
    """Whether a program's file is Python, and not a frozen program that would start itself again, or a server's."""
    name = Path(executable or "").stem.lower()
    return not getattr(sys, "frozen", False) and name.startswith(("python", "pypy"))


def _ending(status: int) -> str:
    with contextlib.suppress(ValueError):
        return f"signal {-status}, {signal.Signals(-status).name}" if status < 0 else f"status {status}"
    return f"signal {-status}"


def _untried(why: str) -> ArtifactError:
    return ArtifactError(
        "A graph that anybody may have made cannot be tried in a process of its own.",
        why=[why],
        fix="run `polyface detect` once with the same --artifacts, --backend and POLYFACE_HOME, where what stood its "
        "trial is remembered; or leave out --artifacts",
    )
