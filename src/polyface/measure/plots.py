"""Images of what was measured; the precision-recall image."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyface.errors import EvaluationError
from polyface.measure.widerface import Curve, needs
from polyface.storage.files import atomic_write


def figure(path: Path, purpose: str = "Precision-recall images", size: tuple[float, float] = (6, 5)) -> Any:
    """Return an empty figure that can be written to ``path``; made before the work, so that nothing is done in vain.

    Args:
        path: the file it is for.
        purpose: what needs matplotlib, for the error.
        size: width and height, in inches.

    Raises:
        EvaluationError: matplotlib is not installed, or does not write files of that ending.
    """
    drawing = needs("matplotlib.figure", purpose).Figure(figsize=size, layout="constrained")
    endings = set(drawing.canvas.get_supported_filetypes()) - {"pgf"}  # which is text for LaTeX, and no image
    if path.suffix.lower()[1:] not in endings:
        raise EvaluationError(
            f"matplotlib writes no image named {path}.",
            why=[f"it writes {', '.join(sorted(endings))}"],
            fix="--plot NAME.png",
        )
    return drawing


def draw(drawing: Any, path: Path, curves: Mapping[str, Curve], title: str) -> None:
    """Draw each subset's precision over its recall, from the highest threshold to the lowest, and write the image.

    Raises:
        EvaluationError: it cannot be written.
    """
    axes = drawing.add_subplot(xlabel="Recall", ylabel="Precision", xlim=(0, 1), ylim=(0, 1.01))
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.3)
    for subset, curve in curves.items():
        axes.plot(curve.recall, curve.precision, label=f"{subset}: {curve.average_precision:.2f}")
    axes.legend(loc="lower left", title="Average precision")
    try:
        save(drawing, path)
    except OSError as error:
        raise EvaluationError(f"Cannot write to {path}.", why=[str(error)], fix="--plot ANOTHER.png") from error


def save(drawing: Any, path: Path) -> None:
    """Write the image, whole or not at all, and the folder it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    drawing.savefig(data, format=path.suffix[1:].lower(), dpi=120)
    with atomic_write(path) as stream:
        stream.write(data.getbuffer())
