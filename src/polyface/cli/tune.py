"""``polyface tune``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from polyface.cli.bench import SIZE, first_images, note_busy, parse_list
from polyface.cli.choices import SHARED_SETTINGS
from polyface.cli.options import SOURCE, config_options, in_options, json_option, pass_plugins
from polyface.cli.output import Command
from polyface.cli.progress import progress
from polyface.cli.tables import note, print_fixes, print_json, print_table, say
from polyface.errors import ConfigError
from polyface.settings import values
from polyface.settings.config import Config, one_view
from polyface.settings.files import FILES, find_sources
from polyface.settings.loading import load_config
from polyface.settings.writing import as_toml, check_file, write_settings

if TYPE_CHECKING:
    from polyface.measure.tune import Trial, Tuning
    from polyface.plugins.manager import PluginManager


@click.command("tune", cls=Command, short_help="Which backend and precision are fastest here, and at what cost.")
@click.argument("detector")
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.option("--backend", "backends", multiple=True, metavar="NAME", help="Try this one; default: all installed.")
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    metavar="NAME",
    help="Choose in this one, whatever accuracy it costs within its tolerances; default: what costs none.",
)
@click.option("--threads", metavar="COUNT,...", help="Counts to try; default: the setting threads.")
@click.option("--size", metavar="HEIGHTxWIDTH", help=f"Bring all images to it; default: as they are, noise {SIZE}.")
@click.option("--rounds", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Turns of each row.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random noise without INPUT.")
@click.option("--write", is_flag=True, help="Put the choice into --config, the polyface.toml in use, or a new one.")
@config_options([name for name in SHARED_SETTINGS if name not in ("precision", "threads")])
@json_option
@pass_plugins
def command(
    detector: str,
    inputs: tuple[str, ...],
    *,
    backends: tuple[str, ...],
    precisions: tuple[str, ...],
    threads: str | None,
    size: str | None,
    rounds: int,
    seed: int,
    write: bool,
    config_file: str | None,
    as_json: bool,
    plugins: PluginManager,
    **overrides: Any,
) -> None:
    """Measure a detector on your images, on every backend and in every precision, and choose.

    polyface tune retinaface-mobilenet025 photos/ --write

    All take turns, as in `polyface bench`, on the first images of INPUT, an image a round. The faces found are held
    against those of the first row in fp32. Chosen is the fastest whose faces are the same but for the rounding of fp32.
    With --precision it is the fastest in one of these whose faces lie within its tolerances, as of `polyface compare`.
    Without a face to compare, as in noise, only fp32 is chosen. The lines for polyface.toml are shown; --write puts
    them there, and leaves all other lines of the file as they are. "Slower" is slower in three rounds of four.

    Exit status: 0 if one was chosen, 1 if none could be or an image could not be read, 2 for usage and configuration,
    130 after Ctrl-C (what was measured until then is shown, and nothing is written).
    """
    from polyface.graphs.families import find_detector
    from polyface.measure.rounds import Samples, machine
    from polyface.measure.tune import list_configs, tune

    own = load_config(config_file, source=SOURCE, **overrides)
    config = one_view(own).replace(detector=detector)
    find_detector(config, plugins)
    counts = parse_list("threads", threads.split(","), values.whole(1, 1024)) if threads else []
    configs = list_configs(config, plugins, backends=backends, precisions=precisions, threads=counts)
    target = _find_target(config_file) if write else None
    if target:
        _check_rest(config, own, target, backends)
    elif config.backend_options and any(one.backend != config.backend for one in configs.values()):
        note(f"backend_options count for '{config.backend}' alone")
    paths, failed = first_images(inputs, rounds, config, plugins, as_json=as_json, what=f"INPUT {' '.join(inputs)}")
    (shape,) = parse_list("size", [size], values.size) if size else [None if inputs else values.size(SIZE)]
    samples = Samples(size=shape, batch=1, paths=paths, seed=seed, formats=config.formats, max_pixels=config.max_pixels)
    host = machine()
    note_busy(host)
    with progress(len(configs) * rounds, as_json=as_json) as advance:
        tuning, interrupted = tune(configs, samples, rounds=rounds, asked=precisions, advance=advance)
    source = f"{len(paths)} image{'' if len(paths) == 1 else 's'}" if inputs else f"random noise (seed {seed})"
    chosen = tuning.chosen
    rounds = max((len(trial.row.measured.seconds) for trial in tuning.measured), default=0)
    if as_json:
        report = {
            "detector": detector,
            "machine": host,
            "images": source,
            "rounds": rounds,
            "interrupted": interrupted,
        }
        print_json({**report, **tuning.to_dict(in_options)})
    else:
        title = f"{detector}, {source}, {rounds} round{'' if rounds == 1 else 's'}"
        cores = f"{host['usable_cores']} of {host['cores']} cores"
        _print(tuning, f"{title}\n{host['cpu']}, {cores}")
    if interrupted:
        say("interrupted; these are the rounds until then", err=True)
    elif chosen and target:  # last: a file that cannot be written must not cost the figures
        _write(target, chosen, config_file, f"polyface tune {detector}, {host['date'][:10]}, {host['cpu']}")
    click.get_current_context().exit(130 if interrupted else 1 if failed or not chosen else 0)


def _find_target(named: str | None) -> Path:
    """The file to write to: the one that is named, or in use; a new one where there is none.

    Raises:
        ConfigError: as :func:`polyface.settings.writing.check_file`.
    """
    chosen = named or os.environ.get("POLYFACE_CONFIG")
    left_out: list[str] = []
    found = [source.path for source in find_sources(None, os.environ, left_out.append)]  # the weakest first
    path = Path(chosen) if chosen else found[0] if found else Path(FILES[0])
    if not chosen and not found and (left_out or os.path.lexists(path)):
        raise ConfigError(
            f"Nothing can be written to {path}: the settings there are not used.",
            why=left_out or ["it is no file that settings can be read from"],
            fix="name a file of your own, with --config",
        )
    check_file(path)
    return path


def _check_rest(config: Config, own: Config, path: Path, backends: tuple[str, ...]) -> None:
    """Refuse, before anything is measured, a choice that what else is set would make another one.

    Raises:
        ConfigError: the settings in use are of another detector, or have ``backend_options``.
    """
    if own.is_given("detector") and own.detector != config.detector:
        raise ConfigError(
            f"Nothing is written: the settings in use are of '{own.detector}', not of '{config.detector}'.",
            why=[f"detector is set ({own.sources['detector']})", f"{path} would say otherwise"],
            fix="name a file for this detector, with --config, or leave --write out",
        )
    if config.backend_options and backends != (config.backend,):
        raise ConfigError(
            f"Nothing is written: backend_options are those of '{config.backend}' "
            f"({config.sources.get('backend_options', SOURCE)}), and another backend may be chosen.",
            fix=f"take them out first, or try --backend {config.backend} alone",
        )


def _write(path: Path, chosen: Trial, named: str | None, comment: str) -> None:
    """Write the choice, and say where; and which of it does not count, since something stronger says otherwise."""
    settings = chosen.settings
    write_settings(path, settings, comment=comment)
    say(f"Written to {path}.", err=True)
    own = load_config(named)
    for name, value in settings.items():
        if getattr(own, name) != value:
            note(f"{name} is {getattr(own, name)} all the same, by {own.sources.get(name, 'default')}")


def _print(tuning: Tuning, title: str) -> None:
    measured, chosen = tuning.measured, tuning.chosen
    if measured:
        columns = ("Row", "Image", "To fp32", "To fastest", "Faces", "Pixels", "Score", "Remarks")
        print_table(title, columns, [_format(trial, tuning) for trial in measured])
        say(
            "Image: mean time of the images, each by the median of its rounds, from array to faces.",
            "To fp32, to fastest: how many images it does while fp32 on its backend, or the fastest row, does one; the "
            "median of the rounds, in which every image counts alike.",
        )
    if tuning.reference:
        say(f"Faces: how many of those of {tuning.reference.label}; pixels and score: how far they lie apart at most.")
    failed = [trial for trial in tuning.trials if trial.row.measured.why]
    if failed:
        say("")
        print_table("Not measured", ("Row", "Why"), [(trial.label, trial.row.measured.why) for trial in failed])
        print_fixes((trial.label, in_options(trial.row.measured.fix)) for trial in failed)
    say("", f"The rule: {tuning.rule}.")
    if passed_over := tuning.passed_over:
        say(f"Faster, but not chosen: {passed_over.label} ({_remark(passed_over, tuning)}).")
    if chosen is None:
        say("None is chosen.")
        return
    say(f"Chosen is {chosen.label}. For polyface.toml:", "", *as_toml(chosen.settings).splitlines())


def _format(trial: Trial, tuning: Tuning) -> tuple[str, ...]:
    row, faces, fastest = trial.row, trial.faces, tuning.fastest
    apart = ("-",) * 3
    if faces:
        apart = (f"{faces.matched} of {faces.expected}", f"{max(faces.box, faces.landmark):.2g}", f"{faces.score:.2g}")
    return (
        trial.label,
        f"{1000 * trial.seconds:.1f} ms",
        "-" if row.fp32_ratio is None else f"{row.fp32_ratio:.2f} x",
        f"{row.measured.times_as_fast(fastest.row.measured):.2f} x" if fastest else "-",
        *apart,
        _remark(trial, tuning),
    )


def _remark(trial: Trial, tuning: Tuning) -> str:
    """What to know of a trial, in words."""
    faces = trial.faces
    said = {
        "chosen": trial is tuning.chosen,
        "reference": trial is tuning.reference,
        "slower than fp32": trial.row.slower_than_fp32,
        "not asked for": not trial.is_asked,
        "not compared": faces is None,
        f"too far from fp32 in {', '.join(trial.over)}": bool(trial.over),
        "no faces to compare": faces is not None and not faces.expected,
    }
    return "; ".join(text for text, is_so in said.items() if is_so)
