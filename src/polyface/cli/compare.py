"""``polyface compare``."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import click
from attrs import field, frozen, mutable

from polyface.cli.choices import METAVAR, SETTINGS, parse_backends
from polyface.cli.options import SOURCE, config_options, json_option, pass_plugins
from polyface.cli.output import Command
from polyface.cli.progress import one_line, progress, quiet_pillow
from polyface.cli.tables import print_json, print_table, say
from polyface.errors import ConfigError, quoted
from polyface.settings.config import Config, load_config, one_view
from polyface.settings.paths import expand_user

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, ImageArray
    from polyface.jobs.inputs import Inputs
    from polyface.measure.differences import FaceDifference, HeadDifference
    from polyface.measure.tolerances import Tolerance
    from polyface.pipeline.detector import FaceDetector
    from polyface.plugins.manager import PluginManager
    from polyface.plugins.protocols import Execution
    from polyface.results import Detections, Result

Precisions: TypeAlias = dict[str, float | None]

RANDOM = "random"
"""What ``--images`` calls the noise; a folder of that name is ``./random``."""

NOISE = ((64, 96, 1), (101, 157, 1), (96, 128, 2), (37, 320, 1), (240, 135, 1))
"""Height, width and number of the random images: odd sizes and even ones, and a batch of two."""


@frozen(kw_only=True)
class Pair:
    """A backend held against the reference.

    Args:
        label: the backend as it was named.
        execution: what it ran on.
        heads: by output.
        faces: over all images.
        need: the least tolerance under which it would pass.
        allowed: the table's row for the two precisions.
        over: what of the need is more than is allowed, and ``"unmatched"`` for faces of one side alone.
        average_precision: of each subset, in percent, ``None`` for one without faces; ``None`` without ground truth.
    """

    label: str
    execution: Execution
    heads: list[HeadDifference]
    faces: FaceDifference
    need: Tolerance
    allowed: Tolerance
    over: list[str]
    average_precision: Precisions | None


@frozen(kw_only=True)
class Report:
    """All that was compared; ``label``, ``execution`` and ``average_precision`` are the reference's."""

    detector: str
    label: str
    execution: Execution
    average_precision: Precisions | None
    pairs: list[Pair]
    samples: Samples


@mutable
class Tally:
    """What the images so far have shown of one backend."""

    detector: FaceDetector
    allowed: Tolerance
    heads: list[list[HeadDifference]] = field(factory=list)
    faces: list[FaceDifference] = field(factory=list)
    found: dict[str, Detections] = field(factory=dict)

    def add(self, sample: Sample, reference: FaceDetector, expected: tuple[Any, list[Detections]]) -> None:
        """Look at a sample, for which the reference gave ``expected``."""
        from polyface.measure.differences import compare_faces, compare_heads

        heads, faces = _seen(self.detector, sample)
        self.found.update(zip(sample.names, faces, strict=True))
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

    def judged(self, label: str, truth: GroundTruth | None) -> Pair:
        """Return the verdict."""
        from polyface.measure.differences import exceeded, merge_faces, merge_heads, needed

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
            average_precision=None if truth is None else truth.average_precision(self.found),
        )


@click.command("compare", cls=Command, short_help="How far a detector's backends lie apart.")
@click.argument("detector")
@click.option(
    "--backends",
    required=True,
    metavar=METAVAR,
    help="Two or more, the first as reference.",
)
@click.option(
    "--images",
    default=RANDOM,
    show_default=True,
    metavar=f"DIR|FILE|{RANDOM}",
    help="Images to look at, or random noise of several sizes.",
)
@click.option(
    "--ground-truth", metavar="DIR|FILE", help="Of WIDER FACE, for average precision on --images, its folder of events."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random noise.")
@config_options(SETTINGS)
@json_option
@pass_plugins
def command(
    detector: str,
    *,
    backends: str,
    images: str,
    ground_truth: str | None,
    seed: int,
    config_file: str | None,
    as_json: bool,
    plugins: PluginManager,
    **overrides: Any,
) -> None:
    """Run a detector on several backends, or on one in several precisions, and show how far they lie apart.

    polyface compare retinaface-mobilenet025 --backends torch,onnxruntime,torch:bf16@cpu --images photos/

    Compares the network's raw heads, then the faces found, matched by IoU. Faces at a threshold, which rounding alone
    may find or lose, are set apart. Each backend is held against the table of tolerances for its precision. With
    --ground-truth, shows each backend's average precision as well; --preset widerface-original has its thresholds.

    Exit status: 0 if all lie within, 1 if one is over or an image could not be read, 2 for usage and configuration.
    """
    from polyface.building import create_detector
    from polyface.measure.differences import tolerance_of

    config = one_view(load_config(config_file, source=SOURCE, **overrides)).replace(detector=detector)
    named = _chosen(backends, config)
    first, *others = named.values()
    rows = [tolerance_of(first.precision, other.precision) for other in others]
    folder = None if images == RANDOM else str(expand_user(images))
    truth = None if ground_truth is None else GroundTruth(ground_truth, folder)
    samples = Samples(folder, seed, config, plugins)
    with ExitStack() as stack:
        stack.enter_context(quiet_pillow())
        reference = stack.enter_context(create_detector(config=first, plugins=plugins))
        tallies = [
            Tally(stack.enter_context(create_detector(config=other, plugins=plugins)), row)
            for other, row in zip(others, rows, strict=True)
        ]
        found: dict[str, Detections] = {}
        advance = stack.enter_context(progress(len(samples), as_json=as_json))
        for sample in samples:
            if truth is not None:
                truth.check(sample)
            expected = _seen(reference, sample)
            found.update(zip(sample.names, expected[1], strict=True))
            for tally in tallies:
                tally.add(sample, reference, expected)
            advance()
    if not samples.read:
        raise ConfigError(f"--images {images}: not one image could be read.")
    pairs = [tally.judged(label, truth) for tally, label in zip(tallies, [*named][1:], strict=True)]
    report = Report(
        detector=detector,
        label=next(iter(named)),
        execution=reference.execution,
        average_precision=None if truth is None else truth.average_precision(found),
        pairs=pairs,
        samples=samples,
    )
    (_print_json if as_json else _print)(report)
    click.get_current_context().exit(1 if samples.failed or any(pair.over for pair in pairs) else 0)


def _chosen(backends: str, config: Config) -> dict[str, Config]:
    """The configuration of each backend by what it was called.

    Raises:
        ConfigError: the text is not of that form, or names fewer than two, or one twice.
    """
    named = parse_backends(backends, config)
    if len(named) < 2:
        raise ConfigError(
            f"--backends names {quoted(backends)} alone: there is nothing to compare it with.",
            fix=f"--backends {shlex.quote(backends)},ANOTHER; `polyface matrix` shows what can run",
        )
    return named


def _seen(detector: FaceDetector, sample: Sample) -> tuple[Mapping[str, FloatArray], list[Detections]]:
    return detector.raw_heads(sample.images), detector.detect_batch(sample.images)


@frozen(kw_only=True)
class Sample:
    """Images of one size, and their names: of a file below the folder its path, without the suffix."""

    names: list[str]
    images: list[ImageArray]


class GroundTruth:
    """The ground truth of WIDER FACE, of which only the images looked at count.

    Raises:
        ConfigError: there are no images to go with it.
        EvaluationError: it cannot be read.
    """

    def __init__(self, path: str, images: str | None) -> None:
        from polyface.measure.widerface import read_truth

        if images is None or not Path(images).is_dir():
            raise ConfigError(
                "--ground-truth wants the images that it is about.", fix="--images WIDER_val/images, with its folders"
            )
        self._path = path
        self._truth = read_truth(expand_user(path))

    def check(self, sample: Sample) -> None:
        """Refuse an image that the ground truth does not know, before its faces count as wrong.

        Raises:
            ConfigError: there is one.
        """
        for name in sample.names:
            if name not in self._truth:
                raise ConfigError(
                    f"{self._path} has no image '{name}'.",
                    fix="--images WIDER_val/images: that folder itself, with a folder an event",
                )

    def average_precision(self, found: Mapping[str, Detections]) -> Precisions:
        """Return the average precision of each subset, in percent; ``None`` where these images have no face of it."""
        from polyface.measure.widerface import precision_recall
        from polyface.writers.wider import as_rows

        truth = {name: self._truth[name] for name in found}
        curves = precision_recall(truth, {name: as_rows(faces) for name, faces in found.items()})
        return {subset: curve.average_precision if curve.faces else None for subset, curve in curves.items()}


class Samples:
    """The images to look at, in batches of one size; what cannot be read is said, counted and left out."""

    def __init__(self, images: str | None, seed: int, config: Config, plugins: PluginManager) -> None:
        from polyface.cli.progress import note_left_out
        from polyface.jobs.inputs import Inputs
        from polyface.plugins.protocols import Search

        self.images = images
        self.seed = seed
        self.config = config
        self.read = self.failed = 0
        self._items = None if images is None else Inputs([images], plugins, Search(formats=config.formats))
        self._count = len(NOISE) if self._items is None else self._items.count() or 0
        if self._items is not None:
            note_left_out(self._items.left_out)

    def __len__(self) -> int:
        return self._count

    @property
    def description(self) -> str:
        """Such as ``"6 images of random noise"``."""
        what = f"image{'' if self.read == 1 else 's'}" + (" of random noise" if self.images is None else "")
        return f"{self.read} {what}" + (f", {self.failed} could not be read" if self.failed else "")

    def __iter__(self) -> Iterator[Sample]:
        for sample in self._noise() if self._items is None else self._files(self._items):
            self.read += len(sample.images)
            yield sample

    def _noise(self) -> Iterator[Sample]:
        import numpy as np

        generator = np.random.default_rng(self.seed)
        for height, width, count in NOISE:
            images = list(generator.integers(0, 256, (count, height, width, 3), dtype=np.uint8))
            yield Sample(names=[f"noise-{height}x{width}-{place}" for place in range(count)], images=images)

    def _files(self, items: Inputs) -> Iterator[Sample]:
        from polyface.images.reading import read_image
        from polyface.jobs.run import read_images

        def report(result: Result) -> None:
            if result.error is not None:
                self.failed += 1
                say(f"left out: {result.name}: {one_line(result)}", err=True)

        read = functools.partial(read_image, formats=self.config.formats, max_pixels=self.config.max_pixels)
        for item, image in read_images(items, read, report):
            yield Sample(names=[item.relative.with_suffix("").as_posix()], images=[image])


def _print_json(report: Report) -> None:
    heads = ("absolute", "relative")
    print_json(
        {
            "detector": report.detector,
            "images": report.samples.read,
            "failed": report.samples.failed,
            "noise_seed": report.samples.seed if report.samples.images is None else None,
            "reference": {
                "label": report.label,
                **_run(report.execution),
                "average_precision": report.average_precision,
            },
            "backends": [
                {
                    "label": pair.label,
                    **_run(pair.execution),
                    "heads": [
                        {**attrs.asdict(head), **{name: getattr(head, name)._asdict() for name in heads}}
                        for head in pair.heads
                    ],
                    "faces": attrs.asdict(pair.faces),
                    "average_precision": pair.average_precision,
                    "needed": attrs.asdict(pair.need),
                    "allowed": attrs.asdict(pair.allowed),
                    "over": pair.over,
                }
                for pair in report.pairs
            ],
        }
    )


def _run(execution: Execution) -> dict[str, Any]:
    return {**attrs.asdict(execution), "versions": dict(execution.versions)}


def _print(report: Report) -> None:
    run, precisions = report.execution, report.average_precision
    say(
        f"{report.detector} on {report.samples.description}; "
        f"the reference is {report.label} ({run.device}, {run.precision})",
        "",
    )
    print_table(
        "Raw heads: absolute differences, and relative to the head's largest number",
        ("Backend", "Output", "Max", "Mean", "Median", "Rel. max", "Rel. mean", "Rel. median", "Cosine"),
        [
            (pair.label, head.output, *map(_short, (*head.absolute, *head.relative)), f"{head.cosine:.7f}")
            for pair in report.pairs
            for head in pair.heads
        ],
        wraps="Backend",
    )
    print_table(
        "Faces, matched by IoU; differences are the largest",
        ("Backend", "Found", "Matched", "At a threshold", "Unmatched", "Least IoU", "Box", "Landmark", "Score"),
        [(pair.label, *_faces(pair.faces)) for pair in report.pairs],
        wraps="Backend",
    )
    if precisions is not None:
        print_table(
            "Average precision in percent, and the difference from the reference in points",
            ("Backend", *(subset.capitalize() for subset in precisions)),
            [
                (report.label, *("-" if value is None else f"{value:.2f}" for value in precisions.values())),
                *((pair.label, *_points(precisions, pair.average_precision or {})) for pair in report.pairs),
            ],
            wraps="Backend",
        )
    names = [key.name for key in attrs.fields(type(report.pairs[0].need))]
    print_table(
        "Tolerance needed, of the one allowed",
        ("Backend", *(name.capitalize() for name in names), "Verdict"),
        [
            (
                pair.label,
                *(f"{_short(getattr(pair.need, name))} of {getattr(pair.allowed, name):g}" for name in names),
                f"over: {', '.join(pair.over)}" if pair.over else "ok",
            )
            for pair in report.pairs
        ],
        wraps="Verdict",
    )


def _points(reference: Precisions, own: Precisions) -> list[str]:
    pairs = [(own[subset], value) for subset, value in reference.items()]
    return ["-" if one is None or value is None else f"{one:.2f} ({one - value:+.2f})" for one, value in pairs]


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
