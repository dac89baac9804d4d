"""``polyface evaluate``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import frozen

from polyface._version import __version__
from polyface.cli.options import SOURCE, config_options, json_option, pass_plugins
from polyface.cli.output import Command
from polyface.cli.progress import one_line, quiet_pillow, report_progress
from polyface.cli.tables import print_json, print_table, say
from polyface.errors import ConfigError, EvaluationError
from polyface.graphs.weights import select_weights
from polyface.settings.config import Config, load_config, settings
from polyface.settings.paths import expand_user

if TYPE_CHECKING:
    from polyface.measure.widerface import Curve, Truth
    from polyface.pipeline.detector import FaceDetector
    from polyface.plugins.manager import PluginManager
    from polyface.results import Result
    from polyface.writers.wider import WiderText

PROTOCOL = "widerface-original"
"""The preset whose score threshold is taken where none is set."""

OUTPUT = "widerface-results"
OTHERS = ("timing", "output", "json")
"""Settings that have no part in an evaluation."""
WITHOUT_EFFECT = ("artifacts", "batch_size", "threads", *OTHERS)
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


@click.group("evaluate", short_help="Measure average precision on a data set.")
def command() -> None:
    """Measure a detector, or anyone's predictions, by the protocol of a data set."""


@command.command("widerface", cls=Command, short_help="WIDER FACE: easy, medium and hard.")
@click.option("--images", metavar="DIR", help="WIDER_val/images: a folder of .jpg images for each event.")
@click.option(
    "--ground-truth",
    required=True,
    metavar="DIR|FILE",
    help="Folder of the official .mat files, or wider_face_val_bbx_gt.txt.",
)
@click.option("--predictions", metavar="DIR", help="Evaluate these files, EVENT/IMAGE.txt, and run no detector.")
@click.option("--output", metavar="DIR", help=f"Folder for the predictions and the curve; default: {OUTPUT}.")
@click.option("--plot", metavar="FILE", help="Precision-recall image; default: precision_recall.png in --output.")
@config_options([key.name for key in settings() if key.name not in OTHERS])
@json_option
@click.pass_context
@pass_plugins
def widerface(
    ctx: click.Context,
    /,
    *,
    images: str | None,
    ground_truth: str,
    predictions: str | None,
    output: str | None,
    plot: str | None,
    config_file: str | None,
    as_json: bool,
    plugins: PluginManager,
    **overrides: Any,
) -> None:
    """Measure average precision on WIDER FACE by its official protocol.

    Over the images that are in --images, or, with --predictions alone, over all. Each image's predictions are kept
    in the official text format: the same command goes on where it was interrupted. Where no score threshold is set it
    is the 0.02 of the preset widerface-original, since a detector's own makes no precision-recall curve; --pad-to 1
    runs at the exact size.

    Exit status: 0 if every image was read, 1 if some could not be (they count as without faces), 2 for usage,
    configuration, and ground truth or predictions that cannot be evaluated.
    """
    import numpy as np

    from polyface.measure.plots import draw_curves, make_figure
    from polyface.measure.predictions import read_predictions
    from polyface.measure.widerface import first_of, precision_recall, read_truth

    if predictions is not None:
        _refuse_with_predictions({"output": output, "config": config_file, **overrides})
    elif images is None:
        raise ConfigError("There is nothing to evaluate.", fix="--images WIDER_val/images, or --predictions DIR")
    # What could stop the evaluation is looked at before the detector starts, which may take hours.
    truth = read_truth(expand_user(ground_truth))
    part = truth if images is None else _part(truth, expand_user(images))
    results = expand_user(output or OUTPUT)
    image = results / "precision_recall.png" if predictions is None else None
    image = expand_user(plot) if plot else image
    drawing = make_figure(image) if image else None
    run = None
    if images is not None and predictions is None:
        config = load_config(config_file, source=SOURCE, **overrides)
        run = _run(config, plugins, expand_user(images), results, list(part))
    folder = run.predictions if run else expand_user(str(predictions))
    failed = run.failed if run else {}
    _note_others(folder, part)
    found = read_predictions(folder, [name for name in part if name not in failed])
    curves = precision_recall(part, {**found, **{name: np.empty((0, 5)) for name in failed}})
    unread = f", {len(failed)} of them not read" if failed else ""
    title = f"WIDER FACE, {len(part)} of {len(truth)} images{unread}"
    given = {"images": images, "ground_truth": ground_truth, "predictions": folder, "plot": image}
    places = {name: str(place) for name, place in given.items() if place is not None}
    if as_json:
        subsets = {subset: _figures(curve) for subset, curve in curves.items()}
        report = {"dataset": "WIDER FACE", "evaluated": len(part), "of": len(truth), "subsets": subsets}
        made = {"settings": run.settings if run else None, "polyface": __version__}
        print_json({**report, "failed": failed, **dict.fromkeys(given), **places, **made})
    else:
        _print(title, curves, run, places)
    if image:  # last, so that an image that cannot be written takes no figure with it
        draw_curves(drawing, image, curves, f"{title}\n{run.title if run else folder}")
    if failed:
        _note(f"counted as without faces, since they could not be read, {first_of(list(failed))}")
    ctx.exit(1 if failed else 0)


def _refuse_with_predictions(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if value is not None:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(f"--predictions runs no detector, so {flag} has no part in it.", fix=f"leave {flag} out")


def _part(truth: Mapping[str, Truth], images: Path) -> dict[str, Truth]:
    """The ground truth of the images that are there, in its order."""
    from polyface.measure.widerface import first_of

    there = _named(images, ".jpg")
    part = {name: one for name, one in truth.items() if name in there}
    if not part:
        raise EvaluationError(
            f"{images} has none of the {len(truth)} images of the ground truth.",
            why=[f"looked for {images / next(iter(truth))}.jpg and others"],
            fix="--images WIDER_val/images, the folder with a folder for each event",
        )
    if strangers := sorted(there - truth.keys()):
        _note(f"images without ground truth are left out, {first_of(strangers)}")
    return part


def _named(folder: Path, ending: str) -> set[str]:
    """The files of that ending in the folders of a folder, ``event/name``; hidden ones are nobody's.

    Raises:
        EvaluationError: a folder cannot be listed, so that some could be missed.
    """
    found = set()
    try:
        for event in folder.iterdir():
            if event.is_dir() and not event.name.startswith("."):
                names = (path.name for path in event.iterdir())
                found |= {f"{event.name}/{Path(name).stem}" for name in names if _is_named(name, ending)}
    except OSError as error:
        raise EvaluationError(f"{folder} cannot be searched.", why=[str(error)]) from error
    return found


def _is_named(name: str, ending: str) -> bool:
    return name.endswith(ending) and not name.startswith(".")


def _note_others(folder: Path, part: Mapping[str, Truth]) -> None:
    from polyface.measure.widerface import first_of

    if others := sorted(_named(folder, ".txt") - part.keys()):
        _note(f"predictions for images that are not evaluated are left out, {first_of(others)}")


def _run(config: Config, plugins: PluginManager, images: Path, results: Path, names: list[str]) -> Run:
    """Predict what is not predicted yet."""
    from polyface.building import create_detector
    from polyface.pipeline.presets import PRESETS
    from polyface.writers.places import Place
    from polyface.writers.wider import WiderText

    lowest = PRESETS[PROTOCOL].score_threshold or 0.0
    if config.preset is None and config.score_threshold is None:
        config = config.replace(score_threshold=lowest)
    with create_detector(config=config, plugins=plugins) as detector:
        if detector.score_threshold > lowest:
            source = config.sources.get("score_threshold", "preset")
            _note(
                f"score_threshold {detector.score_threshold:g} ({source}) cuts off what a precision-recall curve "
                f"needs, and lowers average precision; usual is {lowest:g}"
            )
        made = _settings(detector)
        weights = select_weights(detector.spec, config.weights)
        try:
            with Place(results, folder=True) as place:
                if not place.locked:
                    _note(f"{results} lies where no file can be locked; one run at a time!")
                writer = WiderText(place, made)
                failed = _predict(detector, images, writer, names)
        except OSError as error:
            raise ConfigError(f"Cannot write to {results}.", why=[str(error)], fix="--output another-folder") from error
        label = f"{weights.label}, sha256 {weights.sha256[:12]}..." if weights.sha256 else "none needed"
        return Run(settings=made, weights=label, predictions=writer.predictions, failed=failed)


def _predict(detector: FaceDetector, images: Path, writer: WiderText, names: list[str]) -> dict[str, str]:
    """Write the predictions of the images that have none; return why, for those that still have none."""
    from polyface.jobs.run import Tally, run
    from polyface.results import Item

    todo = [name for name in names if name not in writer]
    done = len(names) - len(todo)
    if done:
        _note(f"{done} of {len(names)} images were done before")
    failed: dict[str, str] = {}
    tally = Tally(len(names), items=done)
    with quiet_pillow(), report_progress(len(names), done=done) as progress:

        def report(result: Result) -> None:
            progress(result)
            if result.error is not None:
                failed[result.name] = one_line(result)

        items = (Item(name=name, image=images / f"{name}.jpg") for name in todo)
        try:
            run(detector.stream(items), [(str(writer.predictions), writer)], tally=tally, report=report)
        except KeyboardInterrupt:
            say(f"interrupted after {tally.progress}; the same command goes on from there", err=True)
            raise click.exceptions.Exit(130) from None
    return failed


def _settings(detector: FaceDetector) -> dict[str, Any]:
    """All that the predictions depend on beside the images, as plain values."""
    run, spec = detector.execution, detector.spec
    values = {name: value for name, value in detector.config.as_dict().items() if name not in WITHOUT_EFFECT}
    return {
        **values,
        "detector": spec.name,
        "graph_version": spec.graph_version,
        "weights": select_weights(spec, detector.config.weights).sha256,
        "backend": detector.backend.name,
        "device": run.device,
        "precision": run.precision,
        "providers": list(run.providers),
        "score_threshold": detector.score_threshold,
        "iou_threshold": detector.iou_threshold,
        "versions": {"polyface": __version__, **run.versions},
    }


def _shown(run: Run) -> Iterator[tuple[str, str]]:
    """What a person wants to see of the settings: the main ones, and those that are not the defaults."""
    made, usual = run.settings, Config().as_dict()
    yield "detector", made["detector"]
    yield "weights", run.weights
    main = ("backend", "device", "precision", "score_threshold", "iou_threshold", "pad_to")
    others = [name for name in usual if name not in (*main, "detector", "weights") and name in made]
    for name in (*main, *(name for name in others if made[name] != usual[name])):
        yield name, str(made[name])


def _figures(curve: Curve) -> dict[str, Any]:
    return {"faces": curve.faces, "average_precision": curve.average_precision if curve.faces else None}


def _print(title: str, curves: Mapping[str, Curve], run: Run | None, places: Mapping[str, str]) -> None:
    rows = [
        (subset, str(curve.faces), f"{curve.average_precision:.2f}" if curve.faces else "-")
        for subset, curve in curves.items()
    ]
    print_table(title, ("Subset", "Faces", "Average precision"), rows, wraps="Subset")
    facts = [*(_shown(run) if run else ()), *places.items()]
    print_table("Measured with", ("What", "Value"), facts, wraps="Value")


def _note(text: str) -> None:
    say(f"note: {text}", err=True)
