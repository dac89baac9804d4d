"""One detector on several backends, over many images: how far each lies from the first.

What ``polyface compare`` does, and what anyone may in Python::

    comparison = compare({"torch": reference, "onnxruntime": other}, noise(seed=0))
    comparison.pairs[0].over
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import numpy as np
from attrs import frozen

from polyface.errors import EvaluationError, ImageError
from polyface.measure.differences import (
    FaceDifference,
    HeadDifference,
    compare_faces,
    compare_heads,
    exceeded,
    merge_faces,
    merge_heads,
    needed,
    tolerance_of,
)
from polyface.measure.tolerances import Tolerance
from polyface.measure.widerface import Truth, precision_recall
from polyface.writers.wider import as_rows

if TYPE_CHECKING:
    from polyface.arrays import ImageArray
    from polyface.pipeline.detector import FaceDetector
    from polyface.plugins.protocols import Execution
    from polyface.results import Detections

Precisions: TypeAlias = dict[str, float | None]
"""The average precision of each subset, in percent; ``None`` for one without faces."""

NOISE = ((64, 96, 1), (101, 157, 1), (96, 128, 2), (37, 320, 1), (240, 135, 1))
"""Height, width and number of the random images: odd sizes and even ones, and a batch of two."""


@frozen(kw_only=True)
class Sample:
    """Images of one size, which go to the network together.

    Args:
        names: a name for each image, by which ground truth knows it; of a file its path below the folder that was
            given, without the suffix.
        images: ``(H, W, 3)`` uint8 RGB each.
    """

    names: Sequence[str]
    images: Sequence[ImageArray]


def noise(seed: int) -> list[Sample]:
    """Return six random images, in samples of the sizes of :data:`NOISE`."""
    generator = np.random.default_rng(seed)
    return [
        Sample(
            names=[f"noise-{height}x{width}-{index}" for index in range(count)],
            images=list(generator.integers(0, 256, (count, height, width, 3), dtype=np.uint8)),
        )
        for height, width, count in NOISE
    ]


@frozen(kw_only=True)
class Pair:
    """A backend held against the reference.

    Args:
        label: the backend as it was named.
        execution: what it ran on.
        heads: by output.
        faces: over all images.
        allowed: the table's row for the two precisions.
        average_precision: ``None`` without ground truth.
    """

    label: str
    execution: Execution
    heads: list[HeadDifference]
    faces: FaceDifference
    allowed: Tolerance
    average_precision: Precisions | None

    @property
    def need(self) -> Tolerance:
        """The least tolerance under which it would pass."""
        return needed(self.heads, self.faces)

    @property
    def over(self) -> list[str]:
        """What of the need is more than is allowed, and ``"unmatched"`` for faces of one side alone."""
        return [*exceeded(self.need, self.allowed), *(["unmatched"] if self.faces.unmatched else [])]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold of it."""
        return {
            "label": self.label,
            **self.execution.to_dict(),
            "heads": [
                {**attrs.asdict(head), "absolute": head.absolute._asdict(), "relative": head.relative._asdict()}
                for head in self.heads
            ],
            "faces": attrs.asdict(self.faces),
            "average_precision": self.average_precision,
            "needed": attrs.asdict(self.need),
            "allowed": attrs.asdict(self.allowed),
            "over": self.over,
        }


@frozen(kw_only=True)
class Comparison:
    """All that was compared, over so many images: the reference, as a :class:`Pair` has it, and the other backends.

    The pairs are in the order given; ``detector`` is the name of what ran on all of them.
    """

    detector: str
    label: str
    execution: Execution
    average_precision: Precisions | None
    pairs: list[Pair]
    images: int

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold of it."""
        return {
            "detector": self.detector,
            "images": self.images,
            "reference": {"label": self.label, **self.execution.to_dict(), "average_precision": self.average_precision},
            "backends": [pair.to_dict() for pair in self.pairs],
        }


def compare(
    detectors: Mapping[str, FaceDetector], samples: Iterable[Sample], *, truth: Mapping[str, Truth] | None = None
) -> Comparison:
    """Run every detector on every sample, and return how far each lies from the first.

    Args:
        detectors: one detector on two backends or more, by what they are called; the first is the reference.
        samples: the images.
        truth: ground truth of WIDER FACE, for average precision over the images looked at.

    Raises:
        ConfigError: there is no tolerance for one of the precisions.
        EvaluationError: an image is not in the ground truth.
        ImageError: there is not one sample.
    """
    label, *others = detectors
    reference = detectors[label]
    allowed = {other: tolerance_of(reference.config.precision, detectors[other].config.precision) for other in others}
    thresholds = {"score_threshold": reference.score_threshold, "iou_threshold": reference.iou_threshold}
    found: dict[str, dict[str, Detections]] = {name: {} for name in detectors}
    heads: dict[str, list[list[HeadDifference]]] = {other: [] for other in others}
    faces: dict[str, list[FaceDifference]] = {other: [] for other in others}
    images = 0
    for sample in samples:
        strangers = [name for name in sample.names if truth is not None and name not in truth]
        if strangers:  # before their faces count as wrong
            raise EvaluationError(
                f"The ground truth has no image '{strangers[0]}'.",
                fix="name WIDER_val/images as the images: that folder itself, with a folder an event",
            )
        raw = {name: detector.raw_heads(sample.images) for name, detector in detectors.items()}
        seen = {name: detector.detect_batch(sample.images) for name, detector in detectors.items()}
        for name in detectors:
            found[name].update(zip(sample.names, seen[name], strict=True))
        for other in others:
            heads[other].append(compare_heads(raw[label], raw[other]))
            faces[other] += [
                compare_faces(expected, actual, allowed[other], **thresholds)
                for expected, actual in zip(seen[label], seen[other], strict=True)
            ]
        images += len(sample.images)
    if not images:
        raise ImageError("Not one image could be read, so there is nothing to compare.")
    pairs = [
        Pair(
            label=other,
            execution=detectors[other].execution,
            heads=merge_heads(heads[other]),
            faces=merge_faces(faces[other]),
            allowed=allowed[other],
            average_precision=_average_precision(truth, found[other]),
        )
        for other in others
    ]
    return Comparison(
        detector=reference.spec.name,
        label=label,
        execution=reference.execution,
        average_precision=_average_precision(truth, found[label]),
        pairs=pairs,
        images=images,
    )


def _average_precision(truth: Mapping[str, Truth] | None, found: Mapping[str, Detections]) -> Precisions | None:
    if truth is None:
        return None
    rows = {name: as_rows(faces) for name, faces in found.items()}
    curves = precision_recall({name: truth[name] for name in found}, rows)
    return {subset: curve.average_precision if curve.faces else None for subset, curve in curves.items()}
