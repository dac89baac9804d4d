"""``benchmarks/gpu.sh`` and ``gpu.py`` with parts, a torch and a driver that are made up: what becomes of each part.

The scripts that the real parts run are tested on the stand-in for CUDA, in polyface-cuda-fp16.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="the parts are process groups, and gpu.sh a shell script"
)

CARD = {
    "torch": "2.11.0",
    "cuda": "13.0",
    "name": "Made Up H100",
    "cudnn": 91002,
    "driver": {"driver_version": "580.1", "power.limit": "350.00 W", "power.max_limit": "700.00 W"},
}

TABLE = """
import json, pathlib, sys
print("a line\\n| batch | ms |\\n|---|---|\\n| 1 | 2.5 |\\n| 8 | 7.5 |")
pathlib.Path(sys.argv[1]).write_text(json.dumps({"rows": [2.5, 7.5]}))
"""
BOOM = "print('before'); raise SystemExit('boom')"
FOREVER = """
import signal
print("| begun |\\nbegun", flush=True)
try:
    signal.pause()
except KeyboardInterrupt:
    print("said at last")
"""
STUBBORN = """
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])  # holds the output open
print("begun", flush=True)
signal.pause()
"""


@pytest.fixture(scope="module")
def script(benchmark_script):
    return benchmark_script("gpu")


@pytest.fixture
def run(script, monkeypatch, tmp_path):
    """Run made-up parts on a made-up card; the exit status, ``gpu.json`` and ``gpu.md`` come back."""
    monkeypatch.setattr(script, "find_missing", lambda _: {})
    monkeypatch.setattr(script, "describe_card", lambda: CARD)

    # As gpu.py does, where this process was started to ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def run(*options, **codes):
        parts = {name: script.Part(f"The {name}", 1, ("-c", code, "@file"), [name]) for name, code in codes.items()}
        monkeypatch.setattr(script, "PARTS", parts)
        status = script.main(["wheels", "--out", str(tmp_path / "out"), *options])
        report = json.loads((tmp_path / "out/gpu.json").read_text())
        return status, report, (tmp_path / "out/gpu.md").read_text()

    yield run
    signal.signal(signal.SIGINT, before)


class TestParts:
    def test_a_part_that_fails_does_not_end_the_rest(self, run):
        status, report, _ = run(bad=BOOM, good=TABLE)
        assert status == 1
        bad, good = report["parts"]["bad"], report["parts"]["good"]
        assert (bad["status"], bad["why"], bad["tail"]) == ("failed", "ended with status 1", ["before", "boom"])
        assert (good["status"], good["result"], good["counts"]) == ("passed", {"rows": [2.5, 7.5]}, {"rows": 2})

    def test_where_all_pass_the_exit_status_is_0(self, run):
        assert run(good=TABLE, another=TABLE)[0] == 0

    def test_only_what_is_asked_for_is_run(self, run):
        _, report, _ = run("--only", "good", good=TABLE, bad=BOOM)
        assert report["parts"].keys() == {"good"}

    def test_what_is_over_its_time_is_interrupted_and_what_it_said_is_kept(self, run):
        status, report, _ = run("--limit", "2", slow=FOREVER, good=TABLE)
        assert status == 1
        slow = report["parts"]["slow"]
        assert (slow["status"], slow["why"]) == ("failed", "was stopped after its 1 seconds")
        assert slow["tail"] == ["begun", "said at last"]
        assert slow["table"] == ["| begun |"]
        assert report["parts"]["good"]["status"] == "passed"

    def test_what_does_not_heed_that_is_killed_with_all_that_it_started(self, run, script, monkeypatch):
        monkeypatch.setattr(script, "GRACE", 0.1)
        _, report, _ = run("--limit", "2", stubborn=STUBBORN, good=TABLE)
        assert report["parts"]["stubborn"]["why"] == "was stopped after its 1 seconds"
        assert report["parts"]["good"]["status"] == "passed"

    def test_what_it_left_running_ends_with_it(self, run):
        """It holds the pipe, so that reading from it would not end."""
        leaving = (
            f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {FOREVER!r}]); print('1 passed in 0.1s')"
        )
        status, report, _ = run("--limit", "60", leaving=leaving)
        assert (status, report["parts"]["leaving"]["status"]) == (0, "passed")

    def test_what_one_leaves_of_its_time_goes_to_the_others(self, run, script, monkeypatch):
        clock, limits, takes = SimpleNamespace(now=1000.0), [], [40.0, 130.0, 1.0]

        def take(_, limit, __):
            limits.append(limit)
            clock.now += takes[len(limits) - 1]
            return "", []

        monkeypatch.setattr(script, "time", SimpleNamespace(monotonic=lambda: clock.now))
        monkeypatch.setattr(script, "run_part", take)
        run("--limit", "300", first=TABLE, second=TABLE, third=TABLE)
        assert limits == [300 / 3, (300 - 40) / 2, 300 - 40 - 130]

    def test_it_prints_as_it_goes(self, run, script, monkeypatch, tmp_path):
        os.mkfifo(tmp_path / "seen")

        def see(text, **_):
            if text.startswith("begun"):
                (tmp_path / "seen").write_text("go on")

        monkeypatch.setattr(script, "print", see, raising=False)
        waiting = f"print('begun'); raise SystemExit(open({str(tmp_path / 'seen')!r}).read())"
        _, report, _ = run("--limit", "20", waiting=waiting)
        assert report["parts"]["waiting"]["tail"] == ["begun", "go on"]

    def test_the_reports_are_written_after_each_part(self, run, tmp_path):
        look = f"print(open({str(tmp_path / 'out/gpu.md')!r}).read().count('| 1 | 2.5 |'), 'passed in 0.1s')"
        _, report, _ = run(first=TABLE, second=look)
        assert report["parts"]["second"]["counts"] == {"passed": 1}

    def test_ctrl_c_ends_it_and_what_was_measured_is_written(self, run, script, monkeypatch):
        take = script.run_part

        def interrupted(command, *rest):
            return (script.INTERRUPTED, ["half"]) if "pause" in command[2] else take(command, *rest)

        monkeypatch.setattr(script, "run_part", interrupted)
        status, report, _ = run(good=TABLE, slow=FOREVER, never=TABLE)
        assert status == 1
        assert {name: part["status"] for name, part in report["parts"].items()} == {"good": "passed", "slow": "failed"}

    def test_a_part_that_lacks_something_is_left_out_with_what_brings_it(self, run, script, monkeypatch):
        lacking = {"hypothesis": "hypothesis is not installed"}
        monkeypatch.setattr(script, "find_missing", lambda names: lacking if names == ["tests"] else {})
        status, report, document = run(tests=TABLE, good=TABLE)
        assert status == 1
        assert [part["status"] for part in report["parts"].values()] == ["left out", "passed"]
        assert report["parts"]["tests"]["why"].splitlines()[0] == "  - hypothesis is not installed"
        assert "| tests | left out |  | - hypothesis is not installed To fix it: python3 -m pip download" in document


def test_a_command_gets_its_weights_file_and_plugins(script):
    values = {"@weights": ["--weights", "folder"], "@packages": ["a", "b"], "@file": ["f.json"]}
    command = ("-m", "gpu", "@weights", "--require", "torch,@packages", "--json", "@file", "torch@cuda")
    assert [*script.expand(command, values)] == [
        *("-m", "gpu", "--weights", "folder", "--require", "torch,a,b", "--json", "f.json", "torch@cuda"),
    ]


def test_what_the_parts_run_is_there(script):
    words = [word for part in script.PARTS.values() for word in part.command if word.startswith(("tests/", "bench"))]
    assert {"benchmarks/cuda_fp16.py", "benchmarks/throughput.py", "benchmarks/memory.py", script.MATRIX} <= {*words}
    assert all((script.ROOT / word).exists() for word in words)


class TestTests:
    """What is read of pytest's output."""

    def test_counts_and_failures(self, script, tmp_path):
        lines = [
            "FAILED a.py::test_b - no",
            "ERROR c.py",
            "2 failed, 57 passed, 1 error, 3 skipped in 41.35s (0:00:41)",
        ]
        found = script.summarize(lines, tmp_path / "none")
        assert found["counts"] == {"failed": 2, "passed": 57, "error": 1, "skipped": 3}
        assert found["failures"] == lines[:2]

    @pytest.mark.parametrize(
        ("counts", "fault"),
        [
            ({"passed": 1, "skipped": 3}, ""),
            ({"skipped": 3}, "passed no test"),
            ({"passed": 9, "cells refused": 3}, "ran no cell"),
            ({"passed": 9, "cells refused": 3, "cells ran": 1}, ""),
            ({"rows": 4}, ""),
        ],
    )
    def test_where_all_is_skipped_or_refused_nothing_was_looked_at(self, script, counts, fault):
        assert script.find_fault(counts) == fault

    def test_the_cells_of_the_matrix_are_counted_and_shown(self, script, tmp_path):
        cell = {"id": "a/b/cuda/fp16", "status": "ran", "against": "torch/cpu/fp32", "heads": 0.001}
        refused = {"id": "a/c/cuda/fp32", "status": "refused", "reason": "found cuda: not there"}
        report = {"processor": "Made Up", "date": "", "machine": "", "versions": {}, "cells": [cell, refused]}
        (tmp_path / "cells.json").write_text(json.dumps([report]))
        found = script.summarize([], tmp_path / "cells.json")
        assert found["counts"] == {"cells ran": 1, "cells refused": 1}
        assert found["table"][2] == "| a/b/cuda/fp16 | ran | torch/cpu/fp32 | 1.0e-03 |  |  |  |  |"


def test_the_document_says_what_it_was_taken_on_and_what_was_found(run):
    _, report, document = run(good=TABLE, bad=BOOM)
    lines = document.splitlines()
    assert lines[0] == "# polyface on Made Up H100"
    assert "weights: seeded; driver_version 580.1, power.limit 350.00 W, power.max_limit 700.00 W" in lines[2]
    seconds = report["parts"]["good"]["seconds"]
    assert f"| good | passed | {seconds} | 2 rows |" in lines
    start = lines.index("## The good")
    assert lines[start + 2 : start + 6] == ["| batch | ms |", "|---|---|", "| 1 | 2.5 |", "| 8 | 7.5 |"]
    assert lines[-5:] == ["", "```text", "before", "boom", "```"]
    assert report["card"] == CARD


@pytest.fixture
def installed(monkeypatch):
    """Have these distributions installed and no others: by name, the version and what each needs."""

    def install(**there):
        def distribution(name):
            if name.replace("-", "_") not in there:
                raise importlib.metadata.PackageNotFoundError(name)
            version, *requires = there[name.replace("-", "_")]
            return SimpleNamespace(version=version, requires=requires)

        monkeypatch.setattr(importlib.metadata, "distribution", distribution)

    return install


class TestMissing:
    def test_what_is_needed_by_what_is_needed_is_named(self, script, installed, require):
        require("packaging")
        installed(
            polyface=("0.2.0", "attrs>=24.2", "platformdirs>=4.2", "rich>=13.7"),
            attrs=("23.1", "no-such; extra == 'tests'"),
            rich=("14.0", "pygments", "no-such; python_version < '3'"),
            torch=("2.11.0", "nvidia-from-the-image"),
        )
        assert script.find_missing(["polyface", "polyface-torch", "torch"]) == {
            "attrs": "attrs>=24.2 is wanted, and 23.1 installed",
            "platformdirs": "platformdirs>=4.2 is not installed",
            "polyface-torch": "polyface-torch is not installed",
            "pygments": "pygments is not installed",
        }

    def test_our_own_wheels_are_built_and_others_fetched(self, script):
        missing = {name: f"{name} is not installed" for name in ("rich", "polyface-torch", "attrs")}
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        assert script.describe_missing(missing, "my wheels").splitlines() == [
            "  - attrs is not installed",
            "  - polyface-torch is not installed",
            "  - rich is not installed",
            "To fix it: python3 -m pip wheel --no-deps -w 'my wheels' . plugins/*/",
            "To fix it: python3 -m pip download --no-deps --only-binary=:all: --python-version "
            f"{version} -d 'my wheels' attrs rich",
        ]

    def test_nothing_is_run_without_what_every_part_needs(self, script, monkeypatch, tmp_path):
        missing = {"platformdirs": "platformdirs>=4.2 is not installed"}
        monkeypatch.setattr(script, "find_missing", lambda _: missing)
        with pytest.raises(SystemExit, match=r"platformdirs>=4\.2 is not .*\nTo fix it: .* -d wheels platformdirs"):
            script.main(["wheels", "--out", str(tmp_path / "out")])
        assert not (tmp_path / "out").exists()


@pytest.fixture
def machine(script, monkeypatch, tmp_path):
    """Have a torch with this code in its module ``torch``, and this output of ``nvidia-smi``."""
    monkeypatch.setattr(script, "find_missing", lambda _: {})

    def make(torch, driver=""):
        (tmp_path / "torch.py").write_text(torch)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        if driver:
            (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho $* >{tmp_path}/asked\necho '{driver}'\n")
            (tmp_path / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}" if driver else str(tmp_path))
        return script

    return make


TORCH = """
from types import SimpleNamespace
__version__ = "2.11.0"
version = SimpleNamespace(cuda="13.0")
backends = SimpleNamespace(cudnn=SimpleNamespace(version=lambda: 91002))
card = SimpleNamespace(name="NVIDIA H100 PCIe", major=9, minor=0, uuid="0-1-2")
cuda = SimpleNamespace(is_available=lambda: FOUND, get_device_properties=lambda _: card, device_count=lambda: 1)
"""


class TestCard:
    def test_without_cuda_it_says_so_and_runs_nothing(self, machine, tmp_path):
        script = machine(TORCH.replace("FOUND", "False"))
        with pytest.raises(
            SystemExit, match=r"no CUDA device here.\n  - PyTorch 2\.11\.0, built for CUDA 13\.0, finds none"
        ):
            script.main(["wheels", "--out", str(tmp_path / "out")])
        assert not (tmp_path / "out").exists()

    def test_a_torch_that_does_not_load_is_why_there_is_none(self, machine):
        script = machine("raise ImportError('libcudart.so.13: no such file')")
        assert script.describe_card() == {"why": "ImportError: libcudart.so.13: no such file"}

    def test_it_is_called_what_pytorch_and_the_driver_call_it(self, machine, tmp_path):
        script = machine(
            TORCH.replace("FOUND", "True"),
            "580.159.04, 81559 MiB, 4 MiB, 0 %, 310.00 W, 350.00 W, 350.00 W, 1755 MHz, Disabled",
        )
        card = script.describe_card()
        assert (card["name"], card["capability"], card["cuda"]) == ("NVIDIA H100 PCIe", "9.0", "13.0")
        assert card["driver"]["driver_version"] == "580.159.04"
        assert (card["driver"]["power.limit"], card["driver"]["power.max_limit"]) == ("310.00 W", "350.00 W")
        assert "--id=GPU-0-1-2" in (tmp_path / "asked").read_text()

    def test_where_the_driver_does_not_say_that_is_said(self, machine):
        card = machine(TORCH.replace("FOUND", "True")).describe_card()
        assert card["name"] == "NVIDIA H100 PCIe"
        assert card["driver"]["why"].startswith("nvidia-smi did not say: ")


class TestShell:
    @pytest.fixture
    def shell(self, pytestconfig, tmp_path):
        """Run gpu.sh with a Python that keeps what it is told."""
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\necho "$PYTHONPATH" "$@" >>\'{tmp_path}/told\'\n')
        python.chmod(0o755)

        def shell(*options):
            done = subprocess.run(
                [pytestconfig.rootpath / "benchmarks/gpu.sh", *options],
                env={**os.environ, "PYTHON": str(python), "PYTHONPATH": "mine"},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
            told = tmp_path / "told"
            return done.returncode, told.read_text().splitlines() if told.exists() else [], done.stderr

        return shell

    def test_the_wheels_are_installed_aside_from_nowhere_else_and_gpu_py_runs_with_them(self, shell, tmp_path):
        (tmp_path / ".whl").mkdir()
        (tmp_path / ".whl/a.whl").touch()
        status, (pip, script), _ = shell(".whl", "--only", "memory")
        assert status == 0
        assert "--no-index --no-deps" in pip
        assert pip.endswith(" .whl/a.whl")
        site = pip.partition("--target ")[2].split()[0]
        assert script.startswith(f"{site}:mine ")
        assert script.endswith("/gpu.py .whl --only memory")

    def test_without_a_folder_of_wheels_it_says_how_to_make_one(self, shell):
        for options in ((), ("no such folder",)):
            status, told, said = shell(*options)
            assert (status, told) == (2, [])
            assert "pip wheel --no-deps -w WHEELS . plugins/*/" in said
