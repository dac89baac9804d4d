"""Plots: the precision-recall curves of an evaluation, and the images per second of a benchmark."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyface.errors import ConfigError
from polyface.optional import needs
from polyface.storage.files import atomic_write

if TYPE_CHECKING:
    from polyface.measure.bench import Benchmark
    from polyface.measure.widerface import Curve


def make_figure(path: Path, *, rows: int = 0) -> Any:
    """Return an empty figure that can be written to ``path``: for so many rows of bars, or without them for curves.

    It is made before the work, so that nothing is done in vain.

    Raises:
        UnsupportedError: matplotlib is not installed.
        ConfigError: matplotlib does not write files of that ending.
    """
    size = (8, 1.6 + 0.4 * rows) if rows else (6, 5)  # inches
    drawing = needs("matplotlib.figure", "polyface[evaluate]").Figure(figsize=size, layout="constrained")
    endings = set(drawing.canvas.get_supported_filetypes()) - {"pgf"}  # which is text for LaTeX, and no image
    if path.suffix.lower()[1:] not in endings:
        raise ConfigError(
            f"matplotlib writes no image named {path}.",
            why=[f"it writes {', '.join(sorted(endings))}"],
            fix="name it NAME.png",
        )
    return drawing


def draw_curves(drawing: Any, path: Path, curves: Mapping[str, Curve], title: str) -> None:
    """Draw each subset's precision over its recall, from the highest threshold to the lowest, and write the image.

    Raises:
        ConfigError: it cannot be written.
    """
    axes = drawing.add_subplot(xlabel="Recall", ylabel="Precision", xlim=(0, 1), ylim=(0, 1.01))
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.3)
    for subset, curve in curves.items():
        axes.plot(curve.recall, curve.precision, label=f"{subset}: {curve.average_precision:.2f}")
    axes.legend(loc="lower left", title="Average precision")
    save(drawing, path)


def draw_bars(drawing: Any, path: Path, report: Benchmark) -> None:
    """Draw a bar for each measured row, with a line from quartile to quartile and its ratio, and write the image.

    Raises:
        ConfigError: it cannot be written.
    """
    axes = drawing.add_subplot(xlabel="Images per second, and quartiles")
    drawing.suptitle(report.title, fontsize="medium")
    axes.grid(axis="x", alpha=0.3)
    for place, row in enumerate(report.measured):
        batch = row.measured.contender.samples.batch
        fast, rate, slow = (batch / seconds for seconds in row.measured.quartiles)
        spread = [[rate - slow], [fast - rate]]
        axes.barh(place, rate, xerr=spread, capsize=3, color="tab:green", alpha=0.8)
        label = f"{row.ratio:.2f} x"
        axes.annotate(label, (fast, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize="small")
    axes.margins(x=0.15, y=0.02)
    labels = [row.describe(report.columns) or row.measured.contender.label for row in report.measured]
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    save(drawing, path)


def save(drawing: Any, path: Path) -> None:
    """Write the image, whole or not at all, and the folder it lies in.

    Raises:
        ConfigError: it cannot be written.
    """
    data = io.BytesIO()
    drawing.savefig(data, format=path.suffix[1:].lower(), dpi=120)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as stream:
            stream.write(data.getbuffer())
    except OSError as error:
        raise ConfigError(f"Cannot write to {path}.", why=[str(error)], fix="name another file") from error
