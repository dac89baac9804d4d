"""How many cores there are to use: by affinity and by quota, on machines made of files."""

from __future__ import annotations

import math
import os
import tempfile
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyface.machine.cores import default_threads, usable_cores

QUOTA = "cpu/{}/cpu.cfs_quota_us"
PERIOD = "cpu/{}/cpu.cfs_period_us"


@pytest.fixture
def processors(monkeypatch):
    """Let Python say that the process may run on these; ``None``: on this system it does not say on which."""

    def processors(allowed, count=64):
        for name in ("cpu_count", "process_cpu_count"):
            monkeypatch.setattr(os, name, lambda: count, raising=False)
        if allowed is None:
            monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        else:
            monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(allowed), raising=False)

    processors(range(64))
    return processors


def machine(root, cgroup="", limits=None, siblings=None):
    """Write what Linux has below ``root``: the process's cgroups, files of cgroups, and siblings by processor."""
    files = {f"sys/fs/cgroup/{name}": text for name, text in (limits or {}).items()}
    for cpu, text in (siblings or {}).items():
        files[f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"] = text
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n", encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("allowed", "count", "cores"),
    [
        (range(64), 64, 64),
        ({3, 17}, 64, 2),  # as taskset has it
        (range(8), 5, 5),  # PYTHON_CPU_COUNT=5
        (None, 6, 6),
        (None, None, 1),  # Python does not know
    ],
)
def test_without_files_it_is_what_python_says(processors, tmp_path, allowed, count, cores):
    processors(allowed, count)
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(
    ("allowed", "cores"),
    [({0, 1, 2, 3}, 2), ({0, 2}, 1), ({0, 1}, 2), ({1, 2, 3}, 2), ({2, 3, 4}, 3)],  # nothing is said of 4
)
def test_threads_of_one_core_count_once(processors, tmp_path, allowed, cores):
    processors(allowed)
    assert usable_cores(machine(tmp_path, siblings={0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"})) == cores


@pytest.mark.parametrize(
    ("cgroup", "limits", "cores"),
    [
        # Version 2.
        ("0::/app", {"app/cpu.max": "200000 100000"}, 2),
        ("0::/app", {"app/cpu.max": "210000 100000"}, 3),
        ("0::/app", {"app/cpu.max": "10000 100000"}, 1),
        ("0::/app", {"app/cpu.max": "max 100000"}, 64),
        ("0::/app", {"app/cpu.max": "9900000 100000"}, 64),
        ("0::/a/b/c", {"a/b/c/cpu.max": "max 100000", "a/b/cpu.max": "500000 100000", "a/cpu.max": "90000 30000"}, 3),
        ("0::/", {"cpu.max": "400000 100000"}, 4),  # inside a container with a namespace of its own
        ("0::/docker/6fa1", {"cpu.max": "400000 100000"}, 4),  # and without one
        ("0::/../../other", {"cpu.max": "400000 100000"}, 4),
        ("0::/app", {"elsewhere/cpu.max": "100000 100000"}, 64),
        ("0::/a:b/ c", {"a:b/ c/cpu.max": "500000 100000"}, 5),
        # Version 1.
        ("4:cpu,cpuacct:/app", {QUOTA.format("app"): "250000", PERIOD.format("app"): "100000"}, 3),
        ("4:cpuacct,cpu:/app", {QUOTA.format("app"): "-1", PERIOD.format("app"): "100000"}, 64),
        ("1:cpu:/docker/6fa1", {QUOTA.format("."): "50000", PERIOD.format("."): "10000"}, 5),
        ("1:cpu:/a/b", {QUOTA.format("a"): "200000", PERIOD.format("a"): "100000"}, 2),
        ("3:cpuset:/app", {QUOTA.format("app"): "250000", PERIOD.format("app"): "100000"}, 64),
        ("1:cpu:/app", {QUOTA.format("app"): "250000"}, 64),
        # Both at once, as systemd mounts them; version 1 has the processor then.
        ("1:cpu:/app\n0::/app", {QUOTA.format("app"): "300000", PERIOD.format("app"): "100000"}, 3),
    ],
)
def test_a_quota_of_the_process_or_above_it_is_a_limit(processors, tmp_path, cgroup, limits, cores):
    processors(range(64))
    assert usable_cores(machine(tmp_path, cgroup, limits)) == cores


@pytest.mark.parametrize(
    "text", ["", "0 100000", "100000 0", "-5 100000", "100000", "1 2 3", "1e5 100000", "x y", "² ²"]
)
def test_what_says_nothing_limits_nothing(processors, tmp_path, text):
    processors(range(8), 8)
    assert usable_cores(machine(tmp_path, "0::/app", {"app/cpu.max": text})) == 8


quotas = st.none() | st.tuples(st.integers(1_000, 10**8), st.integers(1_000, 10**6))


@given(quotas=st.lists(quotas, max_size=5), second=st.booleans(), cpus=st.integers(1, 64))
def test_the_least_of_all_limits_holds(quotas, second, cpus):
    limits, names = {}, [f"g{level}" for level in range(len(quotas))]
    for level, quota in enumerate(quotas):
        folder = "/".join(names[: level + 1])
        if second:
            limits[f"{folder}/cpu.max"] = f"max {10**5}" if quota is None else "{} {}".format(*quota)
        else:
            limits[QUOTA.format(folder)], limits[PERIOD.format(folder)] = map(str, quota or (-1, 10**5))
    expected = min([cpus, *(math.ceil(Fraction(*quota)) for quota in quotas if quota)])
    cgroup = f"{'0:' if second else '5:cpu'}:/{'/'.join(names)}"
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for name in ("cpu_count", "process_cpu_count"):
            patch.setattr(os, name, lambda: cpus, raising=False)
        patch.setattr(os, "sched_getaffinity", lambda _: set(range(cpus)), raising=False)
        assert usable_cores(machine(Path(folder), cgroup, limits)) == expected


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_whatever_the_files_hold_there_is_a_core_and_no_more_than_there_are(cgroup, limit, siblings):
    with tempfile.TemporaryDirectory() as folder:
        root = machine(Path(folder), "", {"cpu.max": ""}, dict.fromkeys(range(4), ""))
        (root / "sys/fs/cgroup/cpu.max").write_bytes(limit)
        (root / "sys/devices/system/cpu/cpu0/topology/thread_siblings_list").write_bytes(siblings)
        for text in (cgroup, b"0::/" + cgroup, b"0::/\n1:cpu:" + cgroup):
            (root / "proc/self/cgroup").write_bytes(text)
            assert 1 <= usable_cores(root) <= os.cpu_count()


@pytest.mark.parametrize(
    ("told", "threads"),
    [("1", 1), ("3", 3), (" 2 ", 2), ("2,1", 2), ("64", 4), ("0", 1), ("", 4), ("all", 4), ("-1", 4), ("2x", 4)],
)
def test_by_default_omp_num_threads_asks_for_fewer(monkeypatch, told, threads):
    monkeypatch.setattr("polyface.machine.cores.usable_cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert default_threads() == threads


def test_by_default_there_is_a_thread_for_each_core(monkeypatch):
    monkeypatch.setattr("polyface.machine.cores.usable_cores", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert default_threads() == 4
