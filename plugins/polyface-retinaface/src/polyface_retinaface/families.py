"""The families ``retinaface`` and ``ssd``: records for users' own ONNX files with priors of this kind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from polyface.errors import ConfigError, Fix, quoted
from polyface.plugins.protocols import GraphTensor, Interface
from polyface.plugins.records import DetectDefaults, DetectorSpec, FamilySpec, Preprocess, Ref, least_run
from polyface.plugins.toolkit import own_run_pixels
from polyface_retinaface.plugin import polyface_detectors

Levels = Sequence[Sequence[float]]

POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
"""As seen in the image."""

LAYERS = ("Conv", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul")
SQUASHES = ("Sigmoid", "Softmax", "QLinearSigmoid", "QLinearSoftmax")
KINDS = {
    "scores": {**dict.fromkeys(LAYERS, "logits"), **dict.fromkeys(SQUASHES, "probabilities")},
    "boxes": {**dict.fromkeys(LAYERS, "offsets"), "Sub": "corners"},
}
"""What an output holds, by what computes it, where that tells: corners begin with the centre less half the size."""


def retinaface(interface: Interface, **options: Any) -> DetectorSpec:
    """Return the record of a file with boxes, scores and five landmarks to a prior.

    Raises:
        ConfigError: the file holds no such network, or strides and anchors do not make as many priors as it has.
    """
    defaults = DetectDefaults(score_threshold=0.5, iou_threshold=0.4)
    return _record(interface, "(n, p, 4), (n, p, 1 or 2) and (n, p, 10)", defaults, landmarks=POINTS, **options)


def ssd(interface: Interface, **options: Any) -> DetectorSpec:
    """Return the record of a file with boxes and scores to a prior, as that of Ultra-Light-Fast-Generic-Face-Detector.

    Raises:
        ConfigError: as :func:`retinaface`.
    """
    defaults = DetectDefaults(score_threshold=0.7, iou_threshold=0.3)
    return _record(interface, "(n, p, 4) and (n, p, 1 or 2)", defaults, **options)


def _record(
    interface: Interface,
    wanted: str,
    defaults: DetectDefaults,
    *,
    channels: str,
    mean: Sequence[float],
    std: Sequence[float],
    strides: Sequence[float],
    anchors: Levels,
    variances: Sequence[float],
    scores: str,
    boxes: str,
    free: bool,
    clip: bool = False,
    landmarks: Sequence[str] = (),
) -> DetectorSpec:
    _check_options(strides, anchors, variances)
    fields = interface.fields(free=free)
    by_width = {tensor.dims[-1]: tensor for tensor in interface.outputs if tensor.dims}
    widths = {4, *([10] if landmarks else []), *({1, 2} & by_width.keys())}
    if by_width.keys() != widths or not len(widths) == len(interface.outputs) == (3 if landmarks else 2):
        raise interface.misfit(f"the outputs {wanted}, in any order")
    box, score = by_width[4], by_width[min(widths)]
    height, width = fields["input"].dims[2:]
    decoded = _kind("boxes", boxes, box) == "corners"
    if decoded and landmarks and by_width[10].operation in LAYERS:
        raise interface.misfit("landmarks that are places where boxes are corners, and offsets where they are offsets")
    likely = _kind("scores", scores, score) == "probabilities"
    names = {"loc": box.name, "logits": score.name, **({"landms": by_width[10].name} if landmarks else {})}
    head = f"polyface_retinaface.head:{'CornerHead' if decoded else 'Head'}"
    options: dict[str, Any] = {"head": head, "names": [*names.items()], "likely": likely}
    count = box.dims[-2] if isinstance(height, int) and isinstance(width, int) else 0
    if decoded and isinstance(count, int) and count:
        _check_unused(interface, strides=strides, anchors=anchors, variances=variances, clip=clip)
        options |= {"count": count}
    else:
        options |= {"strides": strides, "anchors": anchors, "variances": variances, "clip": clip}
        _check_priors((height, width), box, strides, anchors)
    sizes = sorted(size for level in anchors for size in level)
    # What RetinaFace's smallest anchors find is twice as large: measured, see the records of its detectors. A file that
    # decodes another number of boxes has other anchors.
    like = "count" not in options or count == _count_priors((height, width), strides, anchors)
    seen = (2 * sizes[0], sizes[-1]) if like and sizes[-1] >= 24 * sizes[0] else None
    return DetectorSpec(
        **fields,
        summary=f"{interface.weights.filename}, of the family {interface.family}",
        preprocess=Preprocess(
            channels=channels,
            mean=mean,
            std=std,
            stride=int(max(strides)) if height == "h" else 1,
        ),
        head=Ref("polyface.plugins.toolkit:RenamedHead"),
        head_options=options,
        landmarks=tuple(landmarks),
        defaults=defaults,
        face_sizes=seen,
        run_pixels=own_run_pixels(fields, max(2048 * 2048, least_run(seen))),
    )


def _kind(option: str, given: str, output: GraphTensor) -> str:
    """Return what an output holds: as the user says, or as what computes it tells; nothing is guessed."""
    kind = KINDS[option].get(output.operation, "") if given == "auto" else given
    if not kind:
        kinds = list(dict.fromkeys(KINDS[option].values()))
        by = quoted(output.operation) if output.operation else "something that is not known"
        raise ConfigError(
            f"The file does not tell whether the output {output} holds {' or '.join(kinds)}.",
            why=[f"it is computed by {by}"],
            fix=Fix(f"give {' or '.join(f'{option}={kind}' for kind in kinds)} by", names=("family_options",)),
        )
    return kind


def _check_unused(interface: Interface, **given: Any) -> None:
    """Refuse other values than the family's of what a file that decodes its own boxes makes no use of."""
    families = [record for record in polyface_detectors() if isinstance(record, FamilySpec)]
    family = next(family for family in families if family.name == interface.family)
    defaults = {option.name: option.default for option in family.parameters}
    if others := [name for name, value in given.items() if value != defaults.get(name, value)]:
        raise ConfigError(
            f"{interface.weights.filename} decodes its own boxes: {' and '.join(others)} would do nothing.",
            why=["its boxes are corners, and their number is fixed, so that no priors are made for it"],
            fix=Fix(f"leave {' and '.join(others)} out of", names=("family_options",)),
        )


def _check_options(strides: Sequence[float], anchors: Levels, variances: Sequence[float]) -> None:
    """Refuse numbers of which no priors can be made, whatever the file."""
    wanted = {
        "strides must be whole numbers from 1 to 1024": all(1 <= side <= 1024 and side % 1 == 0 for side in strides),
        "anchors must be above 0, and at most 100000 pixels": all(
            0 < size <= 1e5 for sizes in anchors for size in sizes
        ),
        "there must be a list of anchors for each stride": len(strides) == len(anchors),
        "variances must be two numbers above 0": len(variances) == 2 and all(0 < part < math.inf for part in variances),
    }
    if wrong := [rule for rule, holds in wanted.items() if not holds]:
        given = f"strides {[*strides]}, anchors {[*map(list, anchors)]}, variances {[*variances]}"
        fix = Fix("give those of the network by", names=("family_options",))
        raise ConfigError(f"No priors can be made: {wrong[0]}.", why=[given, *wrong[1:]], fix=fix)


def _count_priors(sides: Sequence[int | str], strides: Sequence[float], anchors: Levels) -> int | None:
    """How many priors come of strides and anchors for an input of a fixed size; ``None`` for one of any."""
    height, width = sides
    if not isinstance(height, int) or not isinstance(width, int):
        return None
    levels = zip(strides, anchors, strict=True)
    return sum(math.ceil(height / stride) * math.ceil(width / stride) * len(sizes) for stride, sizes in levels)


def _check_priors(sides: Sequence[int | str], box: GraphTensor, strides: Sequence[float], anchors: Levels) -> None:
    """Refuse strides and anchors that do not make as many priors as a file of a fixed size has."""
    made, count = _count_priors(sides, strides, anchors), box.dims[-2]
    if made is not None and isinstance(count, int) and made != count:
        given = f"strides {list(strides)}, anchors {list(map(list, anchors))}"
        raise ConfigError(
            f"The output {box} has {count} rows, and {made} priors come of these strides and anchors.",
            why=[f"the input has {'x'.join(map(str, sides))} pixels", given],
            fix=Fix("give those of the network by", names=("family_options",)),
        )
