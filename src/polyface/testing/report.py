"""The matrix as a file and as a table: what was measured of every cell, by which machine, and when.

A run of the tests with ``--polyface-report FILE.json`` writes the file;
``python -m polyface.testing.report FILE.json`` prints its table, and with a ``README.md`` as well puts it into that
document, between the two marks.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import click
from attrs import frozen

from polyface.errors import ConfigError

BEGIN, END = "<!-- cells: begin -->", "<!-- cells: end -->"

BAR = r"\|"
"""What Markdown reads as the sign and not as the next column."""

COLUMNS = ("Cell", "Status", "Against, or why not", "Heads, max", "Heads, mean", "Boxes", "Score", "Faces")

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
        heads: the largest difference of a raw head, relative as in :class:`polyface.testing.tolerances.Tolerance`.
        mean: the largest mean over a raw head, likewise.
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


def write_report(path: Path, records: Sequence[CellRecord]) -> None:
    """Write what was recorded, with the machine, the versions and the date, as JSON."""
    report = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": f"{_processor()}, {platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": _versions(),
        "cells": [attrs.asdict(record) for record in sorted(records, key=lambda record: record.id)],
    }
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def _versions() -> dict[str, str]:
    installed = {distribution.name for distribution in importlib.metadata.distributions()}
    return {name: importlib.metadata.version(name) for name in PACKAGES if name in installed}


def read_report(path: Path) -> dict[str, Any]:
    """Return what :func:`write_report` wrote, the cells as records.

    Raises:
        ConfigError: the file cannot be read, or is no such report.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        return {
            "date": str(report["date"]),
            "machine": str(report["machine"]),
            "versions": dict(report["versions"]),
            "cells": [CellRecord(**cell) for cell in report["cells"]],
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is no report of cells.", why=[str(error)], fix=f"pytest tests --polyface-report {path}"
        ) from error


def render(report: Mapping[str, Any]) -> str:
    """Return a report as Markdown: one line about the machine, and the table."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    heading, *body = (f"| {' | '.join(text.replace('|', BAR) for text in row)} |" for row in rows(report["cells"]))
    rule = f"|{'---|' * len(COLUMNS)}"
    return "\n".join([f"Taken on {report['date']}: {report['machine']}; {versions}.", "", heading, rule, *body])


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


@click.command()
@click.argument("report", type=click.Path(path_type=Path))
@click.argument("document", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=False)
def main(report: Path, document: Path | None) -> None:
    """Print the table of the REPORT that --polyface-report wrote, or put it into a Markdown DOCUMENT.

    There it goes between its marks.
    """
    try:
        taken = read_report(report)
        if document is None:
            click.echo("\n".join(aligned(taken["cells"])))
            return
        text = inserted(document.read_text(encoding="utf-8"), render(taken))
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    document.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
