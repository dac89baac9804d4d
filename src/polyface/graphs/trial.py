"""Trying a graph that a stranger made in a process of its own, before this process takes it.

A sha256 says that a graph is whole, not who made it, and parsers written in C++ hang or crash on some: a process of its
own bounds both. It costs a start of Python and of the runtime, once for each graph; what stood the trial is remembered
in polyface's home. It guards against a graph that hangs or crashes when it is loaded, or run once on a small input, and
not against one made to do so on a certain image.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from polyface.errors import ArtifactError, ConfigError, Fix, described
from polyface.machine.processes import NotBegunError, NotDoneError, call
from polyface.plugins.protocols import Graph
from polyface.settings.paths import home
from polyface.storage.files import atomic_write, sha256_of

LOG = logging.getLogger(__name__)

SECONDS = 10.0
"""How long a trial may take, and a second more for each megabyte of the graph; loading the runtime does not count."""


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
    try:
        call(function, str(path), *arguments, seconds=SECONDS + path.stat().st_size / 1e6)
    except NotBegunError as error:
        raise ArtifactError(
            "A graph that anybody may have made cannot be tried in a process of its own.",
            why=[str(error)],
            fix=Fix("run it once with the same graph and POLYFACE_HOME, where what stood its trial is remembered")
            | Fix("leave out", names=("artifacts", "weights")),
        ) from error
    except NotDoneError as error:
        raise ArtifactError(
            f"The graph {path} is not used: in a trial, {error}.",
            why=["a graph that was named, by itself or by its folder, is tried: anybody may have made it"],
            fix=Fix(
                "make the graph here by `polyface export` or `polyface quantize`, and leave out", names=("artifacts",)
            )
            | Fix("name another file as", names=("weights", "detector")),
        ) from error
    except Exception as error:  # noqa: BLE001 - a runtime that says what is wrong will say it here as well
        LOG.debug("the trial of %s raised %s", path, described(error))
    if stood is not None:
        # Where it cannot be written to it is tried again the next time, which costs time and nothing else.
        with contextlib.suppress(OSError):
            stood.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(stood) as stream:
                stream.write(trial.encode())
