"""``polyface evaluate``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from polyface.cli.options import SOURCE, config_options, flag, json_option, pass_plugins
from polyface.cli.output import Command
from polyface.cli.progress import one_line, report_progress
from polyface.cli.tables import note, print_json, print_table, say
from polyface.errors import BackendUnavailableError, ConfigError
from polyface.graphs.weights import select_weights
from polyface.settings.config import Config
from polyface.settings.loading import load_config
from polyface.settings.paths import expand_user
from polyface.settings.record import settings

if TYPE_CHECKING:
    from polyface.measure.evaluate import Evaluation, Run
    from polyface.pipeline.detector import FaceDetector
    from polyface.plugins.manager import PluginManager
    from polyface.results import Result
    from polyface.writers.wider import WiderText

PROTOCOL = "widerface-original"
"""The preset whose score threshold is taken where none is set."""

OUTPUT = "widerface-results"
"""The folder of results where ``--output`` names none."""


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
@config_options([key.name for key in settings(Config) if key.name != "timing"])
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

    from polyface.measure.evaluate import Evaluation, list_names, select_truth
    from polyface.measure.plots import draw_curves, make_figure
    from polyface.measure.widerface import first_of, precision_recall, read_predictions, read_truth

    if predictions is not None:
        _refuse_with_predictions({"output": output, "config": config_file, **overrides})
    elif images is None:
        raise ConfigError("There is nothing to evaluate.", fix="--images WIDER_val/images, or --predictions DIR")
    # What could stop the evaluation is looked at before the detector starts, which may take hours.
    truth = read_truth(expand_user(ground_truth))
    part, strangers = (truth, []) if images is None else select_truth(truth, expand_user(images))
    if strangers:
        note(f"images without ground truth are left out, {first_of(strangers)}")
    results = expand_user(output or OUTPUT)
    image = results / "precision_recall.png" if predictions is None else None
    image = expand_user(plot) if plot else image
    drawing = make_figure(image) if image else None
    run = None
    if images is not None and predictions is None:
        config = load_config(config_file, source=SOURCE, **overrides)
        run = _run(config, plugins, expand_user(images), results, list(part))
    folder = run.predictions if run else expand_user(str(predictions))
    if others := sorted(list_names(folder, ".txt") - part.keys()):
        note(f"predictions for images that are not evaluated are left out, {first_of(others)}")
    none = dict.fromkeys(run.failed if run else (), np.empty((0, 5)))
    found = read_predictions(folder, [name for name in part if name not in none])
    places = {"images": images, "ground_truth": ground_truth, "predictions": folder, "plot": image}
    evaluation = Evaluation(
        curves=precision_recall(part, {**found, **none}),
        evaluated=len(part),
        of=len(truth),
        run=run,
        places={name: None if place is None else str(place) for name, place in places.items()},
    )
    if as_json:
        print_json(evaluation.to_dict())
    else:
        _print(evaluation)
    if image:  # last, so that an image that cannot be written takes no figure with it
        draw_curves(drawing, image, evaluation.curves, f"{evaluation.title}\n{run.title if run else folder}")
    if evaluation.failed:
        names = first_of(list(evaluation.failed))
        note(f"counted as without faces, since they could not be read, {names}")
    ctx.exit(1 if evaluation.failed else 0)


def _refuse_with_predictions(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if value is not None:
            what = f"--predictions runs no detector, so {flag(name)} has no part in it."
            raise ConfigError(what, fix=f"leave {flag(name)} out")


def _run(config: Config, plugins: PluginManager, images: Path, results: Path, names: list[str]) -> Run:
    """Predict what is not predicted yet."""
    from polyface.building import create_detector
    from polyface.measure.evaluate import Run, describe_run
    from polyface.pipeline.presets import PRESETS
    from polyface.storage.places import Place
    from polyface.writers.wider import WiderText

    lowest = PRESETS[PROTOCOL].score_threshold or 0.0
    if config.preset is None and config.score_threshold is None:
        config = config.replace(score_threshold=lowest)
    with create_detector(config=config, plugins=plugins) as detector:
        if detector.score_threshold > lowest:
            source = config.sources.get("score_threshold", "preset")
            note(
                f"score_threshold {detector.score_threshold:g} ({source}) cuts off what a precision-recall curve "
                f"needs, and lowers average precision; usual is {lowest:g}"
            )
        made = describe_run(detector)
        weights = select_weights(detector.spec, config.weights)
        try:
            with Place(results, folder=True) as place:
                if not place.locked:
                    note(f"{results} lies where no file can be locked; one run at a time!")
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
        note(f"{done} of {len(names)} images were done before")
    failed: dict[str, str] = {}
    tally = Tally(len(names), before=done)
    with report_progress(len(names), before=lambda: done) as progress:

        def report(result: Result) -> None:
            progress(result)
            if isinstance(result.error, BackendUnavailableError) and not isinstance(result.error, MemoryError):
                raise result.error  # the network's, which the next image would meet as well
            if result.error is not None:
                failed[result.name] = one_line(result)

        items = (Item(name=name, image=images / f"{name}.jpg") for name in todo)
        try:
            with contextlib.closing(detector.stream(items)) as results:
                run(results, [(str(writer.predictions), writer)], tally=tally, report=report)
        except KeyboardInterrupt:
            say(f"interrupted after {tally.progress}; the same command goes on from there", err=True)
            raise click.exceptions.Exit(130) from None
    return failed


def _shown(run: Run) -> Iterator[tuple[str, str]]:
    """What a person wants to see of the settings: the main ones, and those that are not the defaults."""
    made, usual = run.settings, Config().as_dict()
    yield "detector", made["detector"]
    yield "weights", run.weights
    main = ("backend", "device", "precision", "score_threshold", "iou_threshold", "pad_to")
    others = [name for name in usual if name not in (*main, "detector", "weights") and name in made]
    for name in (*main, *(name for name in others if made[name] != usual[name])):
        yield name, str(made[name])


def _print(evaluation: Evaluation) -> None:
    rows = [
        (subset, str(curve.faces), f"{curve.average_precision:.2f}" if curve.faces else "-")
        for subset, curve in evaluation.curves.items()
    ]
    print_table(evaluation.title, ("Subset", "Faces", "Average precision"), rows, wraps="Subset")
    places = [(name, place) for name, place in evaluation.places.items() if place is not None]
    facts = [*(_shown(evaluation.run) if evaluation.run else ()), *places]
    print_table("Measured with", ("What", "Value"), facts)
