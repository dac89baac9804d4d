"""Which backend and precision are fastest for a detector here, and what each costs in accuracy.

What ``polyface tune`` does, and what anyone may in Python, in a script with ``if __name__ == "__main__":`` since each
trial has a process of its own::

    configs = list_configs(load_config(detector="yunet-n"), installed_plugins())
    tuning, _ = tune(configs, Samples(size=None, batch=1, paths=paths), rounds=20)
    tuning.chosen.settings
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from attrs import evolve, frozen

from polyface.errors import Fix
from polyface.measure.bench import Row, make_contenders, make_rows
from polyface.measure.differences import FaceDifference, compare_faces, exceeded, merge_faces, tolerance_of
from polyface.measure.rounds import Measurement, Samples, measure
from polyface.measure.tolerances import Tolerance
from polyface.plugins.records import BackendSpec, device_kind
from polyface.settings.config import Config

if TYPE_CHECKING:
    from polyface.plugins.manager import PluginManager

PLAIN = "fp32"
"""The precision that the others are held against."""


def list_configs(
    config: Config,
    plugins: PluginManager,
    *,
    backends: Collection[str] = (),
    precisions: Collection[str] = (),
    threads: Collection[int] = (),
) -> dict[str, Config]:
    """Return the configuration of each trial by what it is called, such as ``"openvino:bf16"``.

    Args:
        config: all else. Its ``backend_options`` go to its ``backend`` alone; its ``precision`` counts for nothing.
        plugins: where backends are looked up.
        backends: those to try; by default all installed, in the order in which ``backend="auto"`` takes them.
        precisions: those to try beside fp32, which others are held against; by default all that a backend claims on
            the device.
        threads: counts to try; by default that of ``config``.

    Raises:
        UnknownNameError: there is no such backend.
        ConfigError: there is no tolerance for one of the precisions.
    """
    for precision in precisions:
        tolerance_of(precision)
    specs = plugins.by_name(BackendSpec)
    preferred = sorted(specs, key=lambda name: (-specs[name].preference, name))
    kind = device_kind(config.device)
    counts: list[int | None] = [*threads] or [config.threads]
    found = {}
    for name in dict.fromkeys(backends or preferred):
        spec = plugins.get(BackendSpec, name)
        claims = [one for claim in spec.capabilities if kind in ("auto", claim.device) for one in claim.precisions]
        # A backend without the device has a row that says so.
        wanted = [one for one in claims if one == PLAIN] + [*(precisions or claims or [PLAIN])]
        options = config.backend_options if name == config.backend else {}
        for precision in sorted(dict.fromkeys(wanted), key=lambda one: one != PLAIN):
            for count in counts:
                label = f"{name}:{precision}" + (f", threads {count}" if threads else "")
                found[label] = config.replace(backend=name, precision=precision, threads=count, backend_options=options)
    return found


@frozen(kw_only=True)
class Trial:
    """A backend in a precision: how fast it is, and how far its faces lie from those of the reference.

    Args:
        label: what it is called.
        row: its configuration, what was measured, and the same in fp32.
        allowed: how far the faces may lie from the reference's.
        faces: how far they do; ``None`` where the trial or the reference was not measured.
        is_asked: whether its precision is one to choose from.
    """

    label: str
    row: Row
    allowed: Tolerance
    faces: FaceDifference | None
    is_asked: bool

    @property
    def seconds(self) -> float:
        """Of an image: the mean over the images, each by the median of its rounds.

        The median over images of several sizes would be the time of one of them, and another one on another day.
        """
        seconds, samples = self.row.measured.seconds, self.row.measured.contender.samples
        count = len(samples.paths) or 1
        cycle = count // math.gcd(count, samples.batch)  # so many rounds later the same images come again
        medians = [statistics.median(seconds[first::cycle]) for first in range(min(cycle, len(seconds)))]
        return statistics.mean(medians) / samples.batch

    @property
    def over(self) -> list[str]:
        """What of its difference is more than is allowed, as of :attr:`polyface.measure.compare.Pair.over`."""
        if self.faces is None:
            return []
        need = Tolerance(heads=0, mean=0, pixels=max(self.faces.box, self.faces.landmark), score=self.faces.score)
        return [*exceeded(need, self.allowed), *(["unmatched"] if self.faces.unmatched else [])]

    @property
    def is_proven(self) -> bool:
        """Whether its faces were compared, and lie near enough; only fp32 needs no face to prove it.

        What lies so near a threshold that rounding decides may come and go within the tolerances that were asked for,
        and else in fp32 alone.
        """
        if self.faces is None or self.over:
            return False
        if self.row.axes["precision"] == PLAIN:
            return True
        return self.faces.matched > 0 and (self.allowed != tolerance_of(PLAIN) or not self.faces.near)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that give it: detector, backend and precision, device and threads where they were given.

        What the environment gives counts there without being written.
        """
        config = self.row.config
        values, origins = config.as_dict(), config.sources
        given = [name for name in ("device", "threads") if config.differs(name)]
        given = [name for name in given if not str(origins.get(name, "")).startswith("environment ")]
        return {name: values[name] for name in ("detector", "backend", "precision", *given)}

    def to_dict(self, show: Callable[[Fix], str] = str) -> dict[str, Any]:
        """Return what JSON can hold of it, a fix as ``show`` writes it; times are in seconds."""
        return {
            **self.row.to_dict(show),
            "label": self.label,
            "seconds_per_image": None if self.row.measured.why else self.seconds,
            "faces": self.faces and attrs.asdict(self.faces),
            "allowed": {"pixels": self.allowed.pixels, "score": self.allowed.score},
            "over": self.over,
        }


@frozen(kw_only=True)
class Tuning:
    """All that was tried, in order, and which was chosen.

    Args:
        trials: each with its figures, or with the reason why there are none.
        reference: the first in fp32 that was measured, whose faces the others' are held against.
        chosen: the fastest of those that are to choose from and proven; ``None`` where there is none.
        rule: how it was chosen.
        asked: the precisions to choose from; none leaves that to the rule.
    """

    trials: Sequence[Trial]
    reference: Trial | None
    chosen: Trial | None
    rule: str
    asked: tuple[str, ...] = ()

    @property
    def measured(self) -> list[Trial]:
        """The trials with figures."""
        return [trial for trial in self.trials if not trial.row.measured.why]

    @property
    def fastest(self) -> Trial | None:
        """The fastest of all that were measured, be it accurate or not."""
        return _fastest(self.measured)

    @property
    def passed_over(self) -> Trial | None:
        """The fastest of all, where it is faster than the chosen one in most rounds."""
        if self.fastest is None or self.chosen is None:
            return self.fastest
        return self.fastest if self.chosen.row.measured.is_slower(self.fastest.row.measured) else None

    def to_dict(self, show: Callable[[Fix], str] = str) -> dict[str, Any]:
        """Return what JSON can hold of it, a fix as ``show`` writes it; times are in seconds."""
        return {
            "reference": self.reference and self.reference.label,
            "rule": self.rule,
            "chosen": self.chosen and {"label": self.chosen.label, "settings": self.chosen.settings},
            "trials": [trial.to_dict(show) for trial in self.trials],
        }


def tune(
    configs: Mapping[str, Config],
    samples: Samples,
    *,
    rounds: int,
    asked: Collection[str] = (),
    advance: Callable[[], None] = lambda: None,
) -> tuple[Tuning, bool]:
    """Time the configurations in turns, hold the faces of each against those of fp32, and choose.

    Returns what was found, and whether Ctrl-C cut it short.

    Args:
        configs: as of :func:`list_configs`.
        samples: the images. The faces compared are those of each round.
        rounds: turns of each.
        asked: the precisions to choose from, whatever they cost within their own rows of the table of tolerances. By
            default all whose faces lie within the row of fp32.
        advance: called after each turn.

    Raises:
        ConfigError: there is no tolerance for one of ``asked``.
    """
    made = make_contenders(configs, [samples])
    measured, interrupted = measure([evolve(one, keep=True) for _, one in made], rounds=rounds, advance=advance)
    return choose(make_rows([config for config, _ in made], measured), asked=asked), interrupted


def choose(rows: Sequence[Row], *, asked: Collection[str] = ()) -> Tuning:
    """Return what was tried and which is chosen, by rows whose results were kept; ``asked`` as of :func:`tune`.

    Raises:
        ConfigError: there is no tolerance for one of ``asked``.
    """
    plain = [row.measured for row in rows if row.axes["precision"] == PLAIN and not row.measured.why]
    reference = plain[0] if plain else None
    trials = []
    for row in rows:
        precision = row.axes["precision"]
        allowed = tolerance_of(PLAIN, precision) if precision in asked else tolerance_of(PLAIN)
        faces = None if reference is None or row.measured.why else _compare(reference, row.measured, allowed)
        wanted = not asked or precision in asked
        label = row.measured.contender.label
        trials.append(Trial(label=label, row=row, allowed=allowed, faces=faces, is_asked=wanted))
    if asked:
        rule = f"the fastest in a precision asked for ({', '.join(asked)}) whose faces lie within its tolerances"
    else:
        strict = tolerance_of(PLAIN)
        rule = (
            f"the fastest whose faces are those of {PLAIN}: none lost or added, edges and landmarks within "
            f"{strict.pixels:g} pixels, scores within {strict.score:g}"
        )
    return Tuning(
        trials=trials,
        reference=next((trial for trial in trials if trial.row.measured is reference), None),
        chosen=_fastest([trial for trial in trials if trial.is_asked and trial.is_proven]),
        rule=rule,
        asked=tuple(asked),
    )


def _fastest(trials: Sequence[Trial]) -> Trial | None:
    """The one that does most images while the first does one; among equals the first."""
    return max(trials, key=lambda trial: trial.row.measured.times_as_fast(trials[0].row.measured), default=None)


def _compare(reference: Measurement, own: Measurement, allowed: Tolerance) -> FaceDifference | None:
    """How far the faces of all rounds lie from the reference's, each image once."""
    samples = own.contender.samples
    distinct = -(-len(samples.paths) // samples.batch) if samples.paths else 1  # noise is the same in every round
    thresholds = {name: own.facts[name] for name in ("score_threshold", "iou_threshold")}
    parts = [
        compare_faces(expected, actual, allowed, **thresholds)
        for theirs, ours in list(zip(reference.results, own.results, strict=False))[:distinct]
        for expected, actual in zip(theirs, ours, strict=True)
    ]
    return merge_faces(parts) if parts else None
