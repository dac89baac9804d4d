"""What is asked of a GPU: its tests, its cells of the matrix, and how fast and in how much memory networks run on it.

``benchmarks/gpu.sh`` installs what this needs, and runs it. Each part is a process of its own with a share of the time;
what one leaves of its share goes to those after it. Whatever becomes of a part, the next one runs, and after each of
them ``gpu.json`` and ``gpu.md`` are written anew. Exit status is 0 where every part passed, and otherwise 1.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))

LIMIT = 450
"""Seconds for all parts together."""

GRACE = 20
"""Seconds that a part has to end once it was interrupted, before it is killed."""

INTERRUPTED = "was interrupted"

TAIL = 40
"""How many lines are kept of what a part that failed said last."""


class Part(NamedTuple):
    """What runs in a process of its own.

    Args:
        title: what the reports call it.
        share: of the time, in relation to the other parts'.
        command: what Python is told. ``@file`` is where the part writes its JSON, ``@weights`` the option that chooses
            weights, and ``@folders`` and ``@packages`` are as in tests/first_party.py.
        needs: distributions that no other part may need.
    """

    title: str
    share: int
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()


MATRIX = "tests/cross_backend/test_matrix.py"
PYTEST = (
    *("-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "--continue-on-collection-errors"),
    *("--polyface-require", "torch,torchvision,@packages"),
)
PARTS = {
    "tests": Part(
        "Tests marked gpu",
        110,
        (*PYTEST, "--ignore", MATRIX, "tests/cross_backend", "@folders"),
        needs=("pytest", "hypothesis"),
    ),
    "matrix": Part(
        "Cells of the matrix on CUDA",
        85,
        (*PYTEST, "--polyface-report", "@file", MATRIX),
        needs=("pytest", "hypothesis"),
    ),
    "network": Part(
        "Networks alone (cuda_fp16.py)",
        95,
        ("benchmarks/cuda_fp16.py", "all", "@weights", "--seconds", "3", "--json", "@file"),
    ),
    "throughput": Part(
        "Images through the stream (throughput.py)",
        85,
        (
            *("benchmarks/throughput.py", "yunet-n", "retinaface-mobilenet025", "retinaface-resnet50", "@weights"),
            *("--score-threshold", "0.99", "--batches", "1,32", "--seconds", "0.5", "--json", "@file"),
        ),
    ),
    "memory": Part(
        "Memory over 200 shapes (memory.py)",
        75,
        (
            *("benchmarks/memory.py", "--backends", "torch:fp32@cuda,torch:fp16@cuda,cuda-fp16:fp16@cuda"),
            *("--images", "200", "--sides", "96-640", "--seconds", "12", "--json", "@file"),
        ),
    ),
}

# What must be there.

REQUIRED = ("polyface", "polyface-torch", "polyface-cuda-fp16", "torchvision")
LEAVES = ("torch", "torchvision")
"""What is not asked what it needs itself: an image may have its libraries from elsewhere."""


def find_missing(names: Iterable[str]) -> dict[str, str]:
    """Return what of these distributions, and of what they need, is not installed or too old, by name, and why."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return {"packaging": "packaging is not installed"}
    missing: dict[str, str] = {}
    asked = {name: Requirement(name) for name in names}
    waiting = [*asked.values()]
    while waiting:
        wanted = waiting.pop()
        try:
            there = importlib.metadata.distribution(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            missing[wanted.name] = f"{wanted} is not installed"
            continue
        if not wanted.specifier.contains(there.version, prereleases=True):
            missing[wanted.name] = f"{wanted} is wanted, and {there.version} installed"
        for text in () if wanted.name in LEAVES else there.requires or ():
            need = Requirement(text)
            if need.name not in asked and (need.marker is None or need.marker.evaluate({"extra": ""})):
                asked[need.name] = need
                waiting.append(need)
    return missing


def describe_missing(missing: Mapping[str, str], wheels: Path) -> str:
    """Return lines that name what is missing, and the commands that bring it where there is a network."""
    folder = shlex.quote(str(wheels))
    ours = [name for name in missing if name.startswith("polyface")]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    lines = [f"  - {why}" for _, why in sorted(missing.items())]
    if ours:
        lines.append(f"To fix it: python3 -m pip wheel --no-deps -w {folder} . plugins/*/")
    if others := sorted(missing.keys() - ours):
        options = f"--no-deps --only-binary=:all: --python-version {version}"
        lines.append(f"To fix it: python3 -m pip download {options} -d {folder} {' '.join(others)}")
    return "\n".join(lines)


# What it runs on.

PROBE = """
import json, torch
found = {"torch": torch.__version__, "cuda": torch.version.cuda}
if torch.cuda.is_available():
    card = torch.cuda.get_device_properties(0)
    found |= {"name": card.name, "capability": f"{card.major}.{card.minor}", "uuid": str(card.uuid)}
    found |= {"cudnn": torch.backends.cudnn.version(), "cards": torch.cuda.device_count()}
print(json.dumps(found))
"""
"""Run in a process of its own, so that this one takes nothing of the card."""

VERSIONS = ("polyface", "numpy", "onnx", "onnxruntime", "torch", "torchvision")

DRIVER = (
    *("driver_version", "memory.total", "memory.used", "utilization.gpu", "power.limit", "power.default_limit"),
    *("power.max_limit", "clocks.max.sm", "mig.mode.current"),
)
"""What ``nvidia-smi`` is asked about the card, before anything runs."""


def describe_card() -> dict[str, Any]:
    """Return what PyTorch and the driver say of the card that PyTorch takes; without one, there is no ``name``."""
    probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)  # noqa: S603
    if probe.returncode:
        return {"why": (probe.stderr.splitlines() or ["it died"])[-1]}
    card: dict[str, Any] = json.loads(probe.stdout.splitlines()[-1])
    if "name" not in card:
        return {**card, "why": f"PyTorch {card['torch']}, built for CUDA {card['cuda']}, finds none"}
    command = ["nvidia-smi", f"--query-gpu={','.join(DRIVER)}", "--format=csv,noheader", f"--id=GPU-{card['uuid']}"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)  # noqa: S603
        said = [value.strip() for value in asked.stdout.splitlines()[0].split(",")]
        card["driver"] = dict(zip(DRIVER, said, strict=True))
    except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
        card["driver"] = {"why": f"nvidia-smi did not say: {error}"}
    return card


# The parts.


def expand(command: Iterable[str], values: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a command's words with what stands for others replaced: by several words where it is a word itself."""
    for word in command:
        if word in values:
            yield from values[word]
        else:
            yield re.sub(r"@\w+", lambda found: ",".join(values.get(found[0], [found[0]])), word)


def run_part(command: Sequence[str], limit: float, environment: Mapping[str, str]) -> tuple[str, list[str]]:
    """Run a part and print what it says; return how it ended, empty where that was well, and its lines.

    Once its time is up it is interrupted, as by Ctrl-C, so that pytest still says what it found. What it started and
    left running ends with it.
    """
    lines: list[str] = []

    def read() -> None:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line.rstrip())

    with subprocess.Popen(  # noqa: S603 - one of PARTS
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,  # so that what it started ends with it
    ) as process:
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            process.wait(limit)
            how = f"ended with status {process.returncode}" if process.returncode else ""
        except subprocess.TimeoutExpired:
            how = f"was stopped after its {limit:.0f} seconds"
        except KeyboardInterrupt:
            how = INTERRUPTED
        finally:
            end_group(process)
            reader.join(GRACE)  # what left the group may hold the pipe
    return how, lines


def end_group(process: subprocess.Popen[str]) -> None:
    """End a process, with time to say what it has to say, and what it started."""
    with contextlib.suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        os.killpg(process.pid, signal.SIGKILL)


def summarize(lines: Sequence[str], file: Path) -> dict[str, Any]:
    """Return what a part found: what it wrote, its table, and how many there are of what it looked at."""
    found: dict[str, Any] = {"table": [line for line in lines if line.startswith("|")]}
    found["counts"] = {"rows": len(found["table"]) - 2} if found["table"] else {}
    with contextlib.suppress(OSError, ValueError):
        found["result"] = json.loads(file.read_text(encoding="utf-8"))
    tests = [match[1] for line in lines if (match := re.search(r"((?:\d+ \w+, )*\d+ \w+) in [\d.]+s", line))]
    if tests:
        found["counts"] = {word: int(number) for number, word in (pair.split() for pair in tests[-1].split(", "))}
        found["failures"] = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
    if isinstance(found.get("result"), list):  # the matrix's report
        from matrix_report import read_reports, render

        found["table"] = [line for line in render(read_reports(file)).splitlines() if line.startswith("|")]
        cells = Counter(cell["status"] for kind in found["result"] for cell in kind["cells"])
        found["counts"] |= {f"cells {status}": number for status, number in cells.items()}
    return found


def find_fault(counts: Mapping[str, int]) -> str:
    """Return what is wrong with a part that ended well: where all is skipped or refused, nothing was looked at."""
    if "skipped" in counts and "passed" not in counts:
        return "passed no test"
    return "ran no cell" if "cells refused" in counts and "cells ran" not in counts else ""


def take_part(
    part: Part, file: Path, limit: float, values: Mapping[str, Sequence[str]], **environment: str
) -> dict[str, Any]:
    """Run a part, and return its record."""
    command = [sys.executable, *expand(part.command, {**values, "@file": [str(file)]})]
    started = time.monotonic()
    how, lines = run_part(command, limit, {**os.environ, "PYTHONUNBUFFERED": "1", **environment})
    found = summarize(lines, file)
    how = how or find_fault(found["counts"])
    record = {"status": "failed" if how else "passed", "seconds": round(time.monotonic() - started, 1), **found}
    said = [line for line in lines if not line.startswith("|")]  # its table is there already
    return {**record, "why": how, "tail": said[-TAIL:]} if how else record


# The reports.


def write_reports(folder: Path, report: Mapping[str, Any]) -> None:
    """Write ``gpu.json`` and ``gpu.md``."""
    for name, text in (("gpu.json", json.dumps(report, indent=1)), ("gpu.md", make_document(report))):
        aside = folder / f"{name}.part"
        aside.write_text(text + "\n", encoding="utf-8")
        aside.replace(folder / name)


def make_document(report: Mapping[str, Any]) -> str:
    """Return the report as Markdown: what it was taken on, a table of the parts, and the tables of each."""
    card, driver, machine = report["card"], report["card"].get("driver", {}), report["machine"]
    known = [f"{name} {driver[name]}" for name in DRIVER if name in driver] or [driver.get("why", "no driver")]
    lines = [
        f"# polyface on {card['name']}",
        "",
        f"{machine['date']}, weights: {report['weights']}; {', '.join(known)};",
        f"{', '.join(f'{name} {version}' for name, version in report['versions'].items())}, CUDA {card['cuda']},",
        f"cuDNN {card['cudnn']}; {machine['cpu']}, {machine['usable_cores']} cores, Python {machine['python']}.",
        "",
        "| part | | seconds | |",
        "|---|---|---|---|",
    ]
    for name, record in report["parts"].items():
        said = [
            " ".join(record.get("why", "").split()),
            *(f"{number} {what}" for what, number in record.get("counts", {}).items()),
        ]
        lines.append(f"| {name} | {record['status']} | {record.get('seconds', '')} | {', '.join(filter(None, said))} |")
    for name, record in report["parts"].items():
        lines += ["", f"## {PARTS[name].title}", "", *record.get("table", ())]
        if record.get("tail"):
            lines += ["", "```text", *record["tail"], "```"]
    return "\n".join(lines)


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", type=Path, help="the folder of wheels, for what is said about those it lacks")
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="default: %(default)s")
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="of the detectors' own; default: seeded ones")
    parser.add_argument("--only", action="append", choices=PARTS, help="run this part; may be given several times")
    parser.add_argument("--limit", type=float, default=LIMIT, metavar="SECONDS", help="of all; default: %(default)s")
    options = parser.parse_args(given)
    if options.weights and not options.weights.is_dir():
        parser.error(f"--weights: {options.weights} is no folder")
    return options


def main(given: Sequence[str] | None = None) -> int:
    options = parse(given)
    end = time.monotonic() + options.limit
    from first_party import package, select_plugins

    plugins = select_plugins("fitting")
    if missing := find_missing([*REQUIRED, *plugins]):
        raise SystemExit(f"Not all that this needs is installed.\n{describe_missing(missing, options.wheels)}")
    card = describe_card()
    if "name" not in card:
        raise SystemExit(
            f"There is no CUDA device here.\n  - {card['why']}\n"
            "To fix it: see whether there is a GPU with its driver: nvidia-smi"
        )
    from polyface.measure.rounds import machine

    report: dict[str, Any] = {
        "card": card,
        "machine": machine(),
        "versions": {one.name: one.version for one in importlib.metadata.distributions() if one.name in VERSIONS},
        "weights": str(options.weights or "seeded"),
        "limit": options.limit,
        "parts": {},
    }
    values = {
        "@weights": ["--weights", str(options.weights.resolve())] if options.weights else ["--seeded"],
        "@folders": [f"plugins/{name}" for name in plugins],
        "@packages": [package(name) for name in plugins],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    waiting = {name: PARTS[name] for name in PARTS if name in (options.only or PARTS)}
    with tempfile.TemporaryDirectory() as scratch:
        environment = {"POLYFACE_HOME": f"{scratch}/home", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        if options.weights:  # where the tests look for them
            environment["POLYFACE_SHARED"] = scratch
            Path(scratch, "weights").symlink_to(options.weights.resolve())
        while waiting:
            share = max(1.0, end - time.monotonic()) / sum(part.share for part in waiting.values())
            name, part = next(iter(waiting.items()))
            del waiting[name]
            print(f"\n== {name}: {part.title}, {share * part.share:.0f} s at most", flush=True)
            if lacking := find_missing(part.needs):
                record = {"status": "left out", "why": describe_missing(lacking, options.wheels)}
            else:
                record = take_part(part, Path(scratch, f"{name}.json"), share * part.share, values, **environment)
            print(f"== {name}: {record['status']}{', ' * ('why' in record)}{record.get('why', '')}", flush=True)
            report["parts"][name] = record
            write_reports(options.out, report)
            if record.get("why") == INTERRUPTED:
                break
    print(f"\n{options.out / 'gpu.json'}\n{options.out / 'gpu.md'}")
    return 0 if all(record["status"] == "passed" for record in report["parts"].values()) else 1


if __name__ == "__main__":
    # What was measured by then is written; and the parts can be interrupted, even where a shell has this ignore it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
