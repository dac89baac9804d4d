"""How many threads are worth starting here: the cores that this process may use, and no more.

Affinity (``taskset``, a container's CPU set) is what Python and Linux say of it. A quota is that of the process's
cgroup or of one above it; files of Linux, described in its documentation:
https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu and https://docs.kernel.org/scheduler/sched-bwc.html
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def default_threads() -> int:
    """Return how many threads a network runs on unless told otherwise: one a core, or fewer by ``OMP_NUM_THREADS``.

    Launchers that start several processes, and clouds that lend a part of a machine, say so by that variable, and not
    every runtime reads it.
    """
    told = re.match(r"\s*(\d{1,9})\b", os.environ.get("OMP_NUM_THREADS", ""))  # "4,2" is for nested regions
    return max(1, min(usable_cores(), int(told[1]))) if told else usable_cores()


def usable_cores(root: Path = ROOT) -> int:
    """Return how many cores this process may use: by its affinity, and by its cgroup's quota, rounded up.

    A core that runs several threads at once counts once, where Linux says which those are: they share its arithmetic
    units, and ONNX Runtime and MKL, left alone, count so as well.

    Args:
        root: where Linux's ``/proc`` and ``/sys`` are looked for; what is missing there limits nothing.
    """
    # From Python 3.13, which lets it be set by PYTHON_CPU_COUNT.
    counted = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(counted)
    return max(1, min(counted, _cores(root, allowed), *_quotas(root)))


def _cores(root: Path, cpus: Iterable[int]) -> int:
    """How many cores these processors of Linux belong to; those that share one have the same list of siblings."""
    folder = root / "sys/devices/system/cpu"
    return len({_text(folder / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in cpus})


def _quotas(root: Path) -> Iterator[int]:
    """How many processors' time the process's cgroup and those above it may take, rounded up, where that is limited."""
    mount = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").split("\n"):
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        # In a container the path may be the one outside, of which nothing is there but the top: the container's own.
        inside = PurePosixPath(*(part for part in path.split("/") if part not in ("", ".", "..")))
        for folder in (inside, *inside.parents):
            if hierarchy == "0":  # version 2: "max 100000" or "150000 100000"
                yield from _quota(_text(mount / folder / "cpu.max").split())
            elif "cpu" in controllers.split(","):
                values = (_text(mount / "cpu" / folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
                yield from _quota(list(values))


def _quota(values: list[str]) -> Iterator[int]:
    """Read microseconds in a period of so many; without a limit the first is ``max``, or -1."""
    if len(values) == 2 and all(re.fullmatch(r"\d{1,18}", value) and int(value) for value in values):
        yield -(-int(values[0]) // int(values[1]))


def _text(path: Path) -> str:
    """What Linux says there, or nothing."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except (OSError, ValueError):
        return ""
