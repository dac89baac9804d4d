"""What is benchmarked, and the report: rows of detector, backend, device, precision, size and batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from polyface.errors import Fix
from polyface.measure.rounds import Contender, Measurement, Samples, polyface_detector
from polyface.settings.config import Config

AXES = ("detector", "backend", "device", "precision", "size", "batch")
"""What a row is a combination of."""


def make_contenders(configs: Mapping[str, Config], samples: Sequence[Samples]) -> list[tuple[Config, Contender]]:
    """Return a contender for each labelled configuration and each kind of samples, those of one kind side by side.

    The samples' batch takes the place of a configuration's ``batch_size``.
    """
    return [
        (sized, Contender(label=label, make=functools.partial(polyface_detector, sized), samples=one))
        for one in samples
        for label, config in configs.items()
        for sized in [config.replace(batch_size=one.batch)]
    ]


@frozen(kw_only=True)
class Row:
    """A configuration and what was measured of it.

    Args:
        config: the configuration.
        measured: what was measured.
        reference: the first of its size that was measured.
        plain: what was measured in fp32 of the same detector, backend, device, threads, size and batch; ``None`` for
            fp32 itself.
    """

    config: Config
    measured: Measurement
    reference: Measurement | None
    plain: Measurement | None = None

    @property
    def axes(self) -> dict[str, str]:
        """What it is a combination of; backend, device and precision as they are in use, where that is known."""
        config, facts, samples = self.config, self.measured.facts, self.measured.contender.samples
        asked = {"backend": config.backend, "device": config.device, "precision": config.precision}
        used = {name: facts.get(name, value) for name, value in asked.items()}
        return {
            "detector": config.detector,
            **used,
            "size": "as they are" if samples.size is None else "{}x{}".format(*samples.size),
            "batch": str(samples.batch),
        }

    @property
    def ratio(self) -> float | None:
        """How many images it does while the reference does one; ``None`` where it was not measured."""
        return self.measured.times_as_fast(self.reference) if self.reference and not self.measured.why else None

    @property
    def fp32_ratio(self) -> float | None:
        """How many images it does while fp32 does one; ``None`` in fp32, and where either was not measured."""
        return self.measured.times_as_fast(self.plain) if self.plain else None

    @property
    def slower_than_fp32(self) -> bool:
        """Whether it is another precision than fp32, and slower than that in most rounds."""
        return self.plain is not None and self.measured.is_slower(self.plain)

    def describe(self, names: Sequence[str]) -> str:
        """Return these axes of it, where no heading says what they are."""
        return ", ".join(f"batch {self.axes[name]}" if name == "batch" else self.axes[name] for name in names)

    def to_dict(self, show: Callable[[Fix], str] = str) -> dict[str, Any]:
        """Return what JSON can hold of it, a fix as ``show`` writes it; times are in seconds, memory is in bytes."""
        measured, samples, reference = self.measured, self.measured.contender.samples, self.reference
        quartiles = measured.quartiles if measured.seconds else None
        return {
            "label": measured.contender.label,
            **self.axes,
            "size": samples.size and list(samples.size),
            "batch": samples.batch,
            "ratio": self.ratio,
            "fp32_ratio": self.fp32_ratio,
            "slower_than_fp32": self.slower_than_fp32,
            "reference": reference and {"label": reference.contender.label, "batch": reference.contender.samples.batch},
            "median": quartiles and quartiles[1],
            "quartiles": quartiles and list(quartiles),
            "images_per_second": quartiles and measured.images_per_second,
            "seconds": list(measured.seconds),
            **{name: getattr(measured, name) for name in ("load", "first_call", "new_shape", "peak_memory")},
            "facts": dict(measured.facts),
            "settings": self.config.as_dict(),
            "why": measured.why or None,
            "fix": show(measured.fix) or None,
        }


def make_rows(configs: Sequence[Config], measured: Sequence[Measurement]) -> list[Row]:
    """Return the rows of configurations and of what was measured of each, in the same order."""
    rows = [Row(config=config, measured=one, reference=None) for config, one in zip(configs, measured, strict=True)]
    references: dict[object, Measurement] = {}
    plain: dict[object, Measurement] = {}
    for row in rows:
        if not row.measured.why:
            references.setdefault(row.axes["size"], row.measured)
            if row.axes["precision"] == "fp32":
                plain.setdefault(_apart_from_precision(row), row.measured)
    return [
        evolve(
            row,
            reference=references.get(row.axes["size"]),
            plain=None
            if row.measured.why or row.axes["precision"] == "fp32"
            else plain.get(_apart_from_precision(row)),
        )
        for row in rows
    ]


def _apart_from_precision(row: Row) -> object:
    return tuple(value for name, value in row.axes.items() if name != "precision"), row.config.threads


@frozen(kw_only=True)
class Benchmark:
    """All that was measured, in the order of the contenders, and with what: ``source`` says what the images were.

    The machine is what :func:`polyface.measure.rounds.machine` says.
    """

    rows: Sequence[Row]
    source: str
    rounds: int
    machine: Mapping[str, Any]

    @property
    def columns(self) -> list[str]:
        """The axes in which the measured rows differ."""
        return [name for name in AXES if len({row.axes[name] for row in self.measured}) > 1]

    @property
    def measured(self) -> list[Row]:
        """The rows with figures."""
        return [row for row in self.rows if not row.measured.why]

    @property
    def unmeasured(self) -> list[Row]:
        """The rows with a reason in the place of figures."""
        return [row for row in self.rows if row.measured.why]

    @property
    def title(self) -> str:
        """What all measured rows have in common, and the machine."""
        shared = self.measured[0].describe([name for name in AXES if name not in self.columns])
        host = self.machine
        cores = f"{host['usable_cores']} of {host['cores']} cores"
        rounds = f"{self.rounds} round{'' if self.rounds == 1 else 's'}"
        return f"{', '.join(filter(None, [shared, self.source, rounds]))}\n{host['cpu']}, {cores}"

    def to_dict(self, show: Callable[[Fix], str] = str) -> dict[str, Any]:
        """Return what JSON can hold of it, a fix as ``show`` writes it; times are in seconds, memory is in bytes."""
        return {
            "machine": dict(self.machine),
            "images": self.source,
            "rounds": self.rounds,
            "rows": [row.to_dict(show) for row in self.rows],
        }
