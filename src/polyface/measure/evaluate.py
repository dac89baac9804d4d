"""An evaluation on WIDER FACE: over which images, how the predictions were made, and the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from polyface._version import __version__
from polyface.errors import EvaluationError
from polyface.graphs.weights import select_weights
from polyface.measure.widerface import Curve, Truth

if TYPE_CHECKING:
    from polyface.pipeline.detector import FaceDetector

WITHOUT_EFFECT = ("artifacts", "batch_size", "runs", "threads", "timing", "workers")
"""Settings that move no box and no score."""


@frozen(kw_only=True)
class Run:
    """What a detector did: how, where its predictions lie, and why it has none for which images."""

    settings: Mapping[str, Any]
    weights: str
    predictions: Path
    failed: Mapping[str, str]

    @property
    def title(self) -> str:
        """The run in a line."""
        made = self.settings
        return f"{made['detector']} on {made['backend']}, {made['device']}, {made['precision']}"


def describe_run(detector: FaceDetector) -> dict[str, Any]:
    """Return all that a detector's predictions depend on beside the images, as plain values."""
    run, spec = detector.execution, detector.spec
    made = {
        **detector.config.as_dict(),
        **run.to_dict(),
        "detector": spec.name,
        "graph_version": spec.graph_version,
        "weights": select_weights(spec, detector.config.weights).sha256,
        "backend": detector.backend.name,
        "score_threshold": detector.score_threshold,
        "iou_threshold": detector.iou_threshold,
        "versions": {"polyface": __version__, **run.versions},
    }
    return {name: value for name, value in made.items() if name not in WITHOUT_EFFECT}


def list_names(folder: Path, ending: str) -> set[str]:
    """Return the files of that ending in the folders of a folder, as ``event/name``; hidden ones are nobody's.

    Raises:
        EvaluationError: a folder cannot be listed, so that some could be missed.
    """
    try:
        events = [event for event in folder.iterdir() if event.is_dir() and not event.name.startswith(".")]
        paths = [path for event in events for path in event.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise EvaluationError(f"{folder} cannot be searched.", why=[str(error)]) from error
    return {f"{path.parent.name}/{path.stem}" for path in paths if path.name.endswith(ending)}


def select_truth(truth: Mapping[str, Truth], images: Path) -> tuple[dict[str, Truth], list[str]]:
    """Return the ground truth of the images that are there, in its order, and the images that have none.

    Raises:
        EvaluationError: none of its images is there, or a folder cannot be listed.
    """
    there = list_names(images, ".jpg")
    part = {name: one for name, one in truth.items() if name in there}
    if not part:
        raise EvaluationError(
            f"{images} has none of the {len(truth)} images of the ground truth.",
            why=[f"looked for {images / next(iter(truth))}.jpg and others"],
            fix="name WIDER_val/images as the images, the folder with a folder for each event",
        )
    return part, sorted(there - truth.keys())


@frozen(kw_only=True)
class Evaluation:
    """What was measured.

    Args:
        curves: by subset.
        evaluated: how many images count.
        of: how many the ground truth has.
        run: what the detector did; ``None`` where the predictions are somebody's.
        places: where images, ground truth, predictions and plot lie, ``None`` for one that is not there.
    """

    curves: Mapping[str, Curve]
    evaluated: int
    of: int
    run: Run | None
    places: Mapping[str, str | None]

    @property
    def failed(self) -> Mapping[str, str]:
        """Why which images could not be read."""
        return self.run.failed if self.run else {}

    @property
    def title(self) -> str:
        """Over which images."""
        unread = f", {len(self.failed)} of them not read" if self.failed else ""
        return f"WIDER FACE, {self.evaluated} of {self.of} images{unread}"

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold of it."""
        return {
            "dataset": "WIDER FACE",
            "evaluated": self.evaluated,
            "of": self.of,
            "subsets": {
                subset: {"faces": curve.faces, "average_precision": curve.average_precision if curve.faces else None}
                for subset, curve in self.curves.items()
            },
            "failed": dict(self.failed),
            **self.places,
            "settings": self.run and dict(self.run.settings),
            "polyface": __version__,
        }
