"""``polyface compare``."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import attrs
import click
from attrs import field, frozen, mutable

from polyface.cli.options import SOURCE, config_options, json_option
from polyface.cli.tables import print_json, print_table, printable
from polyface.config import Config, load_config
from polyface.errors import ConfigError, ImageError

if TYPE_CHECKING:
    from polyface.detector import FaceDetector
    from polyface.imaging import Picture
    from polyface.protocols import Execution, FloatArray
    from polyface.results import Detections
    from polyface.testing.comparison import FaceDifference, HeadDifference
    from polyface.testing.tolerances import Tolerance

SETTINGS = (
    "weights",
    "artifacts",
    "device",
    "precision",
    "score_threshold",
    "iou_threshold",
    "max_side",
    "infer_size",
    "fit",
    "pad_to",
    "preset",
)

NOISE = ((64, 96, 1), (101, 157, 1), (96, 128, 2), (37, 320, 1), (240, 135, 1))
"""Height, width and number of the random pictures: odd sizes and even ones, and a batch of two."""


@frozen(kw_only=True)
class Pair:
    """A backend held against the reference.

    Args:
        label: the backend as it was named.
        execution: what it ran on.
        heads: by output.
        faces: over all pictures.
        need: the least tolerance under which it would pass.
        allowed: the table's row for the two precisions.
        over: what of the need is more than is allowed, and ``"unmatched"`` for faces of one side alone.
    """

    label: str
    execution: Execution
    heads: list[HeadDifference]
    faces: FaceDifference
    need: Tolerance
    allowed: Tolerance
    over: list[str]


@mutable
class Tally:
    """What the pictures so far have shown of one backend."""

    detector: FaceDetector
    allowed: Tolerance
    heads: list[list[HeadDifference]] = field(factory=list)
    faces: list[FaceDifference] = field(factory=list)

    def add(self, pictures: list[Picture], reference: FaceDetector, expected: tuple[Any, list[Detections]]) -> None:
        """Look at pictures of one padded shape, for which the reference gave ``expected``."""
        from polyface.testing.comparison import compare_faces, compare_heads

        heads, faces = _seen(self.detector, pictures)
        self.heads.append(compare_heads(expected[0], heads))
        self.faces += [
            compare_faces(
                wanted,
                found,
                self.allowed,
                score_threshold=reference.score_threshold,
                iou_threshold=reference.iou_threshold,
            )
            for wanted, found in zip(expected[1], faces, strict=True)
        ]

    def judged(self, label: str) -> Pair:
        """Return the verdict."""
        from polyface.testing.comparison import exceeded, merge_faces, merge_heads, needed

        heads, faces = merge_heads(self.heads), merge_faces(self.faces)
        need = needed(heads, faces)
        return Pair(
            label=label,
            execution=self.detector.execution,
            heads=heads,
            faces=faces,
            need=need,
            allowed=self.allowed,
            over=[*exceeded(need, self.allowed), *(["unmatched"] if faces.unmatched else [])],
        )


@click.command("compare", short_help="How far a detector's backends lie apart.")
@click.argument("detector")
@click.option(
    "--backends",
    required=True,
    metavar="NAME[:PRECISION][@DEVICE],...",
    help="Two or more, the first as reference.",
)
@click.option("--images", metavar="DIR|FILE", help="Pictures to look at; default: random noise of several sizes.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random noise.")
@config_options(SETTINGS)
@json_option
def command(
    detector: str,
    *,
    backends: str,
    images: str | None,
    seed: int,
    config_file: str | None,
    as_json: bool,
    **overrides: Any,
) -> None:
    r"""Run a detector on several backends, or on one in several precisions, and show how far they lie apart.

    \b
    polyface compare retinaface-mobilenet025 --backends torch,onnxruntime,torch:bf16@cpu --images photos/

    Compares the network's raw heads, then the faces found, matched by IoU. Faces at a threshold, which rounding alone
    may find or lose, are set apart. Each backend is held against the table of tolerances for its precision.

    Exit status: 0 if all lie within, 1 if one is over or a picture could not be read, 2 for usage and configuration.
    """
    from polyface.detector import create_detector
    from polyface.testing.comparison import tolerance_of

    config = load_config(config_file, source=SOURCE, **overrides).replace(detector=detector, backend_options={})
    chosen = _chosen(backends, config)
    first, *others = chosen.values()
    rows = [tolerance_of(first.precision, other.precision) for other in others]
    samples = Samples(images, seed)
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        # Pillow warns about odd files; what matters of it becomes the picture's error.
        warnings.filterwarnings("ignore", module="PIL")
        reference = stack.enter_context(create_detector(config=first))
        tallies = [
            Tally(stack.enter_context(create_detector(config=other)), row)
            for other, row in zip(others, rows, strict=True)
        ]
        for pictures in samples:
            expected = _seen(reference, pictures)
            for tally in tallies:
                tally.add(pictures, reference, expected)
    if not samples.read:
        raise ConfigError(f"--images {images}: not one picture could be read.")
    pairs = [tally.judged(label) for tally, label in zip(tallies, [*chosen][1:], strict=True)]
    (_print_json if as_json else _print)(detector, next(iter(chosen)), reference, pairs, samples)
    click.get_current_context().exit(1 if samples.failed or any(pair.over for pair in pairs) else 0)


def _chosen(backends: str, config: Config) -> dict[str, Config]:
    """The configuration of each backend by what it was called.

    Raises:
        ConfigError: the text is not of that form, or names fewer than two, or one twice.
    """
    chosen: dict[str, Config] = {}
    for label in (text.strip() for text in backends.split(",")):
        parts = re.fullmatch(r"([^:@\s]+)(?::([^:@\s]+))?(?:@(\S+))?", label)
        if parts is None:
            raise ConfigError(
                f"--backends: {label!r} is not of the form NAME[:PRECISION][@DEVICE].",
                fix="--backends torch,torch:bf16@cpu",
            )
        if label in chosen:
            raise ConfigError(f"--backends names {label!r} twice.")
        name, precision, device = parts.groups()
        chosen[label] = config.replace(
            backend=name, precision=precision or config.precision, device=device or config.device
        )
    if len(chosen) < 2:
        raise ConfigError(
            f"--backends names {backends!r} alone: there is nothing to compare it with.",
            fix=f"--backends {backends},ANOTHER; `polyface matrix` shows what can run",
        )
    return chosen


def _seen(detector: FaceDetector, pictures: list[Picture]) -> tuple[Mapping[str, FloatArray], list[Detections]]:
    return detector.raw_heads(pictures), detector.detect_batch(pictures)


class Samples:
    """The pictures to look at, in batches of one size; what cannot be read is said, counted and left out."""

    def __init__(self, images: str | None, seed: int) -> None:
        self.images = images
        self.seed = seed
        self.read = self.failed = 0

    @property
    def description(self) -> str:
        """Such as ``"6 pictures of random noise"``."""
        what = f"picture{'' if self.read == 1 else 's'}" + (" of random noise" if self.images is None else "")
        return f"{self.read} {what}" + (f", {self.failed} could not be read" if self.failed else "")

    def __iter__(self) -> Iterator[list[Picture]]:
        for pictures in self._noise() if self.images is None else self._files(self.images):
            self.read += len(pictures)
            yield pictures

    def _noise(self) -> Iterator[list[Picture]]:
        import numpy as np

        generator = np.random.default_rng(self.seed)
        for height, width, count in NOISE:
            yield list(generator.integers(0, 256, (count, height, width, 3), dtype=np.uint8))

    def _files(self, images: str) -> Iterator[list[Picture]]:
        from polyface.cli.pictures import find_pictures
        from polyface.imaging import read_image

        for job in find_pictures([images]):
            try:
                if job.problem:
                    raise ImageError(f"{job.path}: {job.problem}.")
                yield [read_image(job.path)]
            except ImageError as error:
                self.failed += 1
                click.echo(f"left out: {printable(str(error))}", err=True)


def _print_json(detector: str, label: str, reference: FaceDetector, pairs: Sequence[Pair], samples: Samples) -> None:
    heads = ("absolute", "relative")
    print_json(
        {
            "detector": detector,
            "pictures": samples.read,
            "failed": samples.failed,
            "noise_seed": samples.seed if samples.images is None else None,
            "reference": {"label": label, **_run(reference.execution)},
            "backends": [
                {
                    "label": pair.label,
                    **_run(pair.execution),
                    "heads": [
                        {**attrs.asdict(head), **{name: getattr(head, name)._asdict() for name in heads}}
                        for head in pair.heads
                    ],
                    "faces": attrs.asdict(pair.faces),
                    "needed": attrs.asdict(pair.need),
                    "allowed": attrs.asdict(pair.allowed),
                    "over": pair.over,
                }
                for pair in pairs
            ],
        }
    )


def _run(execution: Execution) -> dict[str, Any]:
    return {**attrs.asdict(execution), "versions": dict(execution.versions)}


def _print(detector: str, label: str, reference: FaceDetector, pairs: Sequence[Pair], samples: Samples) -> None:
    run = reference.execution
    click.echo(f"{detector} on {samples.description}; the reference is {label} ({run.device}, {run.precision})\n")
    print_table(
        "Raw heads: absolute differences, and relative to the head's largest number",
        ("Backend", "Output", "Max", "Mean", "Median", "Rel. max", "Rel. mean", "Rel. median", "Cosine"),
        [
            (pair.label, head.output, *map(_short, (*head.absolute, *head.relative)), f"{head.cosine:.7f}")
            for pair in pairs
            for head in pair.heads
        ],
        wraps="Backend",
    )
    print_table(
        "Faces, matched by IoU; differences are the largest",
        ("Backend", "Found", "Matched", "At a threshold", "Unmatched", "Least IoU", "Box", "Landmark", "Score"),
        [(pair.label, *_faces(pair.faces)) for pair in pairs],
        wraps="Backend",
    )
    names = [key.name for key in attrs.fields(type(pairs[0].need))]
    print_table(
        "Tolerance needed, of the one allowed",
        ("Backend", *(name.capitalize() for name in names), "Verdict"),
        [
            (
                pair.label,
                *(f"{_short(getattr(pair.need, name))} of {getattr(pair.allowed, name):g}" for name in names),
                f"over: {', '.join(pair.over)}" if pair.over else "ok",
            )
            for pair in pairs
        ],
        wraps="Verdict",
    )


def _faces(faces: FaceDifference) -> tuple[str, ...]:
    counts = (faces.matched, faces.near, faces.unmatched)
    return (
        f"{faces.actual} for {faces.expected}",
        *map(str, counts),
        f"{faces.iou:.4f}",
        *(f"{_short(pixels)} px" for pixels in (faces.box, faces.landmark)),
        _short(faces.score),
    )


def _short(value: float) -> str:
    return f"{value:.2g}"
