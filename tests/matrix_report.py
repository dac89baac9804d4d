"""The matrix as a file and as a table: what was measured of every cell, on which kind of processor, and when.

What a test records of its cell by ``record_cell`` is printed as a table at the end of the run, and written to the file
that ``--polyface-report`` names. ``python tests/matrix_report.py FILE.json`` prints the table of such a file, and with
a ``README.md`` as well puts it into that document, between the two marks.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib.metadata
import json
import platform
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import click
import pytest
from attrs import frozen

from polyface.errors import ConfigError

BEGIN, END = "<!-- cells: begin -->", "<!-- cells: end -->"

BAR = r"\|"
"""How a cell of a Markdown table writes ``|``, which would begin the next column."""

COLUMNS = ("Cell", "Status", "Against, or why not", "Heads, max", "Heads, mean", "Boxes", "Score", "Faces")

CPUINFO = Path("/proc/cpuinfo")
GPUS = Path("/proc/driver/nvidia/gpus")

INSTRUCTIONS = {
    "AVX2": "avx2",
    "AVX-512": "avx512f",
    "VNNI": "avx512_vnni",
    "BF16": "avx512_bf16",
    "FP16": "avx512_fp16",
    "AMX": "amx_int8",
    "dot product": "asimddp",  # from here on, of ARM
    "I8MM": "i8mm",
    "SVE": "sve",
}
"""What a kind of processor has, by the flag that Linux gives it."""

PACKAGES = ("polyface", "numpy", "onnx", "onnxruntime", "openvino", "torch")
"""Whose versions a report names, where they are installed."""


@frozen(kw_only=True)
class CellRecord:
    """What a test found out about a cell.

    Args:
        id: such as ``"retinaface-mobilenet025/onnxruntime/cpu/fp32"``.
        status: ``"ran"`` or ``"refused"``.
        reason: why it was refused, or why there is nothing to measure it against.
        against: what it was measured against; what follows is ``None`` without that.
        heads: the largest difference of a raw head, relative as in :class:`polyface.measure.tolerances.Tolerance`.
        mean: the largest mean over a raw head, relative as ``heads`` is.
        pixels: the largest difference of a box's edge or a landmark, in pixels.
        score: the largest difference of scores.
        faces: how many faces or anchors were compared so, as text.
    """

    id: str
    status: str
    reason: str = ""
    against: str = ""
    heads: float | None = None
    mean: float | None = None
    pixels: float | None = None
    score: float | None = None
    faces: str = ""


def rows(records: Sequence[CellRecord]) -> list[tuple[str, ...]]:
    """Return the table's heading and one row a cell, as text, sorted by the cells' ids."""
    return [COLUMNS, *(_row(record) for record in sorted(records, key=lambda record: record.id))]


def aligned(records: Sequence[CellRecord]) -> list[str]:
    """Return the table as lines for a terminal."""
    table = rows(records)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _row(record: CellRecord) -> tuple[str, ...]:
    numbers = (record.heads, record.mean, record.pixels, record.score)
    measured = ["" if number is None else f"{number:.1e}" for number in numbers]
    if record.pixels is not None:
        measured[2] += " px"
    against = record.against or record.reason.partition(" (")[0]  # the whole reason is in the file
    return (record.id, record.status, against, *measured, record.faces)


@frozen(kw_only=True)
class Report:
    """What was recorded on one kind of processor.

    Args:
        processor: as :func:`processor` or :func:`gpu` calls it. What a cell gives is compared with what the same kind
            gave, and with no other.
        date: when it was taken.
        machine: which one it was.
        versions: by package.
        cells: the records.
    """

    processor: str
    date: str
    machine: str
    versions: dict[str, str]
    cells: tuple[CellRecord, ...]

    def cell(self, id: str) -> CellRecord | None:  # noqa: A002 - the record's own word for it
        """Return the record of a cell, or ``None``."""
        return next((record for record in self.cells if record.id == id), None)


def features(cpuinfo: Path = CPUINFO) -> tuple[str, ...]:
    """Return the instructions by which runtimes choose their kernels, as :data:`INSTRUCTIONS` calls them."""
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return tuple(name for name, flag in INSTRUCTIONS.items() if flag in flags)


def processor(cpuinfo: Path = CPUINFO) -> str:
    """Return this machine's kind of processor, such as ``"x86_64 with AVX2, AVX-512, VNNI, BF16"``."""
    there = features(cpuinfo)
    return platform.machine() + (f" with {', '.join(there)}" if there else "")


def gpu(driver: Path = GPUS) -> str:
    """Return what NVIDIA's driver for Linux calls the first GPU, such as ``"NVIDIA H200"``; or an empty text."""
    for information in sorted(driver.glob("*/information")):
        for line in information.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name == "Model":
                return value.strip()
    return ""


def processor_of(id: str, cpu: str, accelerator: str) -> str:  # noqa: A002 - the record's own word for it
    """Return what a cell depends on: the GPU where it is for one and there is one, or else the processor."""
    device = id.split("/")[-2]
    return accelerator if device != "cpu" and accelerator else cpu


def write_report(path: Path, records: Sequence[CellRecord]) -> None:
    """Write what was recorded, with the machine, the versions and the date, as JSON.

    What the file holds of other kinds of processor stays there; a file that is no report is replaced.
    """
    cpu, accelerator = processor(), gpu()
    there: dict[str, Report] = {}
    with contextlib.suppress(ConfigError):
        there = {report.processor: report for report in read_reports(path)}
    for kind in dict.fromkeys(processor_of(record.id, cpu, accelerator) for record in records):
        own = [record for record in records if processor_of(record.id, cpu, accelerator) == kind]
        there[kind] = Report(
            processor=kind,
            date=dt.datetime.now(dt.UTC).date().isoformat(),
            machine=f"{_model()}, {platform.system()} {platform.machine()}, Python {platform.python_version()}",
            versions=_versions(),
            cells=tuple(sorted(own, key=lambda record: record.id)),
        )
    reports = [attrs.asdict(there[kind]) for kind in sorted(there)]
    path.write_text(json.dumps(reports, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _model() -> str:
    lines = CPUINFO.read_text(encoding="utf-8").splitlines() if CPUINFO.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def _versions() -> dict[str, str]:
    installed = {distribution.name for distribution in importlib.metadata.distributions()}
    return {name: importlib.metadata.version(name) for name in PACKAGES if name in installed}


def read_reports(path: Path) -> list[Report]:
    """Return what :func:`write_report` wrote, one report for each kind of processor.

    Raises:
        ConfigError: the file cannot be read, or holds no such reports.
    """
    try:
        return [
            Report(**{**report, "cells": tuple(CellRecord(**cell) for cell in report["cells"])})
            for report in json.loads(path.read_text(encoding="utf-8"))
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is no report of cells.",
            why=[str(error)],
            fix=f"pytest tests --polyface-report {shlex.quote(str(path))}",
        ) from error


def render(reports: Sequence[Report]) -> str:
    """Return reports as Markdown: of each a heading, one line about the machine, and the table."""
    return "\n\n".join(map(_rendered, reports))


def _rendered(report: Report) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    heading, *body = (f"| {' | '.join(text.replace('|', BAR) for text in row)} |" for row in rows(report.cells))
    rule = f"|{'---|' * len(COLUMNS)}"
    taken = f"Taken on {report.date}: {report.machine}; {versions}."
    return "\n".join([f"## {report.processor}", "", taken, "", heading, rule, *body])


def inserted(document: str, table: str) -> str:
    """Return the document with the table between its marks.

    Raises:
        ConfigError: it lacks a mark.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigError(f"The document lacks the lines {BEGIN} and {END}, between which the table goes.")
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


RECORDS = pytest.StashKey[dict[str, CellRecord]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--polyface-report``."""
    parser.getgroup("polyface").addoption(
        "--polyface-report", metavar="FILE", help="write what was recorded of every cell to this JSON file"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Begin with no cell recorded."""
    config.stash[RECORDS] = {}


@pytest.fixture
def record_cell(pytestconfig: pytest.Config) -> Callable[[CellRecord], None]:
    """Return a callable that takes down what a test found out about its cell, before it asserts anything."""

    def record(cell: CellRecord) -> None:
        pytestconfig.stash[RECORDS][cell.id] = cell

    return record


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the matrix of what was recorded, and write it where ``--polyface-report`` says."""
    records = list(config.stash[RECORDS].values())
    if not records:
        return
    terminalreporter.section("polyface: detectors, backends, devices and precisions")
    for line in aligned(records):
        terminalreporter.write_line(line)
    path = config.getoption("--polyface-report")
    if path:
        write_report(Path(path), records)
        terminalreporter.write_line(f"{len(records)} cells written to {path}")


@click.command()
@click.argument("report", type=click.Path(path_type=Path))
@click.argument("document", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=False)
def main(report: Path, document: Path | None) -> None:
    """Print the tables of the REPORT that --polyface-report wrote, or put them into a Markdown DOCUMENT.

    There they go between the marks.
    """
    try:
        taken = read_reports(report)
        if document is None:
            click.echo("\n\n".join("\n".join([part.processor, *aligned(part.cells)]) for part in taken))
            return
        text = inserted(document.read_text(encoding="utf-8"), render(taken))
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    document.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
