"""The image of a benchmark: images a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polyface.measure.plots import figure, save
from polyface.measure.rounds import Measurement

ROW = 0.4
"""Inches for a bar."""


def empty(path: Path, rows: int) -> Any:
    """Return the figure for so many rows.

    Raises:
        EvaluationError: matplotlib is not installed, or does not write files of that ending.
    """
    return figure(path, "Benchmark images", (8, 1.6 + ROW * rows))


def draw(drawing: Any, path: Path, rows: Sequence[tuple[str, Measurement, float]], title: str) -> None:
    """Draw a bar for each measurement, with a line from quartile to quartile and its ratio, and write the image.

    Args:
        drawing: from :func:`empty`.
        path: the file.
        rows: the label, what was measured, and the ratio to the first row of its size.
        title: above it.
    """
    axes = drawing.add_subplot(xlabel="Images per second, and quartiles")
    drawing.suptitle(title, fontsize="medium")
    axes.grid(axis="x", alpha=0.3)
    rates = [measured.images_per_second for _, measured, _ in rows]
    spread = []
    for _, measured, _ in rows:
        low, median, high = measured.quartiles
        batch = measured.contender.samples.batch
        spread.append((batch / median - batch / high, batch / low - batch / median))
    places = range(len(rows))
    axes.barh(places, rates, xerr=list(zip(*spread, strict=True)), capsize=3, color="tab:green", alpha=0.8)
    for place, (_, _, ratio) in enumerate(rows):
        end = (rates[place] + spread[place][1], place)
        axes.annotate(f"{ratio:.2f} x", end, xytext=(4, 0), textcoords="offset points", va="center", fontsize="small")
    axes.margins(x=0.15, y=0.02)
    axes.set_yticks(places, [label for label, _, _ in rows])
    axes.invert_yaxis()
    save(drawing, path)
