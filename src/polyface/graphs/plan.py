"""Which graph reaches which backend, and why not.

What a plan must know of the machine is handed to it: ``installed`` answers for a module, ``stored`` for an artifact,
``found`` is what a backend's probe returned. So it can be made, and tested, for a machine one does not have.
"""

from __future__ import annotations

import functools
import logging
import operator
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple, TypeAlias

import attrs
from attrs import frozen

from polyface.errors import (
    NO_FIX,
    BackendUnavailableError,
    Fix,
    PluginError,
    Reason,
    UnsupportedError,
    fixes,
    nearest,
    quoted,
)
from polyface.graphs.weights import Weights
from polyface.machine.drivers import has_driver, is_installed
from polyface.optional import install
from polyface.plugins.manager import missing
from polyface.plugins.protocols import DeviceReport
from polyface.plugins.records import (
    BackendSpec,
    ConverterSpec,
    DetectorSpec,
    FileRef,
    GraphSource,
    Ref,
    Requirement,
    device_kind,
)
from polyface.settings.config import Config
from polyface.settings.paths import GRAPH_SUFFIXES

LOG = logging.getLogger(__name__)

Refusal: TypeAlias = UnsupportedError | BackendUnavailableError | PluginError


class Helper(NamedTuple):
    """A converter that may not be installed, and the package that brings it; only ever read for a message."""

    source: str
    target: str
    calibrated: bool
    install: str


HELPFUL = (
    Helper("torch-module", "onnx", calibrated=False, install="polyface-torch[export]"),
    Helper("onnx-file", "onnx", calibrated=False, install="polyface-onnxruntime[onnx]"),
    Helper("onnx", "onnx-int8", calibrated=True, install="polyface-onnxruntime[quantize]"),
)
"""In the order in which they follow each other."""


@frozen(kw_only=True)
class Route:
    """How a detector's network reaches a backend.

    Args:
        kind: the graph kind the backend is given.
        source: the detector's published form that is used; ``None`` for an artifact.
        artifact: the stored graph, when one is used.
        converter: the converter to run on ``source`` first.
    """

    kind: str
    source: GraphSource | None = None
    artifact: Path | None = None
    converter: ConverterSpec | None = None

    @property
    def needs_weights(self) -> bool:
        """Whether a file of weights must be at hand: the graph is built here, not stored or packaged."""
        return self.source is not None and not isinstance(self.source.ref, FileRef)

    @property
    def description(self) -> str:
        """Such as ``"onnx, packaged"`` or ``"torch-module, converted to onnx"``."""
        if self.source is None:
            return f"{self.kind}, from the artifact folder"
        if self.converter is not None:
            return f"{self.source.kind}, converted to {self.kind}"
        where = {FileRef: ", packaged", type(None): ", the file of weights itself"}
        return self.kind + where.get(type(self.source.ref), "")


def refusals(backend: BackendSpec, device: str, precision: str) -> list[Reason]:
    """Return why the backend does not even claim to run on ``device`` (or ``"auto"``) in ``precision``.

    The alternatives of the fix are the settings that it does claim, the nearest first.
    """
    kind = device_kind(device)
    claimed = list(dict.fromkeys(claim.device for claim in backend.capabilities))
    if kind != "auto" and kind not in claimed:
        near = [*get_close_matches(device.lower(), claimed), *(claimed if len(claimed) == 1 else ()), "auto"]
        why = f"has no device {quoted(device)} (it has {', '.join(claimed)}){nearest(device, claimed)}"
        instead = [Fix(settings={"device": other}) for other in near]
    elif not backend.claims(device, precision):
        claims = [claim for claim in backend.capabilities if kind in ("auto", claim.device)]
        precisions = list(dict.fromkeys(precision for claim in claims for precision in claim.precisions))
        why = f"does not run in {quoted(precision)} on device {quoted(device)} (it has {', '.join(precisions)})"
        why += nearest(precision, precisions)
        instead = [Fix(settings={"precision": other}) for other in precisions]
    else:
        return []
    fix = functools.reduce(operator.or_, instead)
    return [Reason(subject=f"backend '{backend.name}'", why=why, fix=fix)]


@frozen(kw_only=True)
class Planner:
    """Plans for a detector with certain weights, by what a machine has.

    Args:
        detector: what to run.
        weights: those selected.
        converters: those installed, in the order in which to try them.
        stored: the artifact of a graph kind, or why there is none.
        installed: whether a module can be imported.
    """

    detector: DetectorSpec
    weights: Weights
    converters: Sequence[ConverterSpec]
    stored: Callable[[str], Path | Reason]
    installed: Callable[[str], bool] = is_installed

    def route(self, backend: BackendSpec, device: str = "auto", precision: str = "fp32") -> Route:
        """Return the first route by which a backend can run the detector.

        For each graph kind the backend accepts in that precision, in its order: a stored artifact, the detector's own
        graph, a conversion. The device is ``"auto"``, or one such as ``"cuda:1"``.

        Raises:
            UnsupportedError: there is no route; ``reasons`` holds one for every route tried.
        """
        reasons = self._refusals(backend, device, precision)
        if not reasons:
            lacks = missing(f"backend '{backend.name}'", backend.requires, self.installed)
            routes = self._routes(backend.kinds(device, precision))
            route = self._first_feasible(routes, reasons, backend.requires)
            if route is not None and not lacks:
                return route
            # Where no route is open, to install the backend alone would be of no use.
            reasons = lacks if route is not None else [attrs.evolve(lack, fix=NO_FIX) for lack in lacks] + reasons
        what = f"'{self.detector.name}' cannot run on the backend '{backend.name}'."
        raise UnsupportedError(what, reasons, otherwise=self.weights.matrix_command)

    def quantization(self, kind: str) -> tuple[ConverterSpec, Route]:
        """Return the calibrated converter that makes ``kind``, and the route to the graph it starts from.

        Raises:
            UnsupportedError: there is none, or no such route; ``reasons`` holds why not.
        """
        able = [converter for converter in self.converters if converter.calibrated]
        reasons: list[Reason] = []
        for converter in able:
            if converter.target == kind:
                unmet = self._all_in_float() + missing(
                    f"converter '{converter.name}'", converter.requires, self.installed
                )
                route = None if unmet else self._first_feasible(self._routes([converter.source]), reasons)
                if route is not None:
                    return converter, route
                reasons += unmet
        if not reasons:
            made = sorted({converter.target for converter in able})
            why = f"none that is installed quantizes to {kind}" + (f" (there is {', '.join(made)})" if made else "")
            helpful = [helper.install for helper in HELPFUL if helper.calibrated and helper.target == kind]
            fix = install(*helpful) if helpful else Fix(command="".join(map(self._command_to_make, made[:1])))
            reasons = [Reason(subject="converters", why=why + nearest(kind, made), fix=fix)]
        raise UnsupportedError(f"'{self.detector.name}' cannot be quantized to {quoted(kind)} here.", reasons)

    def conversion(self, kind: str) -> Route:
        """Return the first conversion of what the detector publishes to ``kind``.

        Raises:
            UnsupportedError: there is none; ``reasons`` holds one for every conversion tried.
        """
        made = sorted({converter.target for converter in self.converters})
        reasons = []
        if any(own.kind == kind and own.ref is None and not self._misfit(own) for own in self.detector.graphs):
            why = f"are a graph of the kind {kind} themselves: there is nothing to export"
            reasons.append(Reason(subject=f"weights '{self.weights.label}'", why=why))
        elif made and kind not in made:
            why = f"the converters installed make {', '.join(made)}{nearest(kind, made)}"
            fix = Fix(command=self._command_to_make(made[0]))
            reasons.append(Reason(subject=f"kind {quoted(kind)}", why=why, fix=fix))
        route = self._first_feasible(self._conversions(kind), reasons)
        if route is None:
            raise UnsupportedError(f"'{self.detector.name}' cannot be exported to {quoted(kind)} here.", reasons)
        return route

    def _refusals(self, backend: BackendSpec, device: str, precision: str) -> list[Reason]:
        """Why the backend does not claim to run so, with a setting by which a route is open.

        Where there is none, with what else is in the way: no fix may lead to another refusal, and back.
        """
        elsewhere: list[Reason] = []
        for refused in refusals(backend, device, precision):
            for fix in (attrs.evolve(refused.fix, alternatives=()), *refused.fix.alternatives):
                try:
                    self.route(backend, **{"device": device, "precision": precision, **fix.settings})
                except UnsupportedError as error:
                    further = [attrs.evolve(refused, fix=fix if fixes(error.reasons) else NO_FIX), *error.reasons]
                    elsewhere = elsewhere or further
                else:
                    return [attrs.evolve(refused, fix=fix)]
        return elsewhere

    def _first_feasible(
        self, candidates: Iterable[Route | Reason], reasons: list[Reason], also: Iterable[Requirement] = ()
    ) -> Route | None:
        """The first route that lacks nothing on this machine; why those before it do is added to ``reasons``.

        The command that installs what one lacks installs what is needed ``also``.
        """
        for candidate in candidates:
            if isinstance(candidate, Reason):
                reasons.append(candidate)
                continue
            needs = [need for part in (candidate.source, candidate.converter) if part for need in part.requires]
            unmet = missing(candidate.description, needs, self.installed)
            if not unmet:
                return candidate
            fix = install(*(need.install for need in (*also, *needs) if not self.installed(need.module)))
            reasons += [attrs.evolve(reason, fix=fix) for reason in unmet]
        return None

    def _routes(self, kinds: Iterable[str]) -> Iterator[Route | Reason]:
        """Every route to these graph kinds, best first, with a reason in the place of each that cannot be.

        What the user stored comes before what ships with the detector: it may be calibrated on images like theirs.
        """
        for kind in kinds:
            artifact = self.stored(kind)
            yield artifact if isinstance(artifact, Reason) else Route(kind=kind, artifact=artifact)
            if isinstance(artifact, Reason) and artifact.fix and is_calibrated(kind, self.converters):
                continue  # theirs is there, and damaged: one that was calibrated on other images is no substitute
            for source in self.detector.graphs:
                if source.kind == kind:
                    yield self._from(source, kind)
            yield from self._conversions(kind)

    def _conversions(self, kind: str) -> list[Route | Reason]:
        """Every conversion to a graph kind, those that need images after the others, or why there is none."""
        found: list[Route | Reason] = []
        for converter in sorted(self.converters, key=lambda converter: converter.calibrated):
            if converter.target == kind and converter.calibrated:
                fix = Fix(command=self._command_to_make(kind))
                why = "needs images to calibrate with"
                needs_images = Reason(subject=f"converter '{converter.name}'", why=why, fix=fix)
                found += self._all_in_float() or [needs_images]
            elif converter.target == kind:
                sources = [source for source in self.detector.graphs if source.kind == converter.source]
                found += [self._from(source, kind, converter) for source in sources]
        return found or [self._no_converter(kind)]

    def _all_in_float(self) -> list[Reason]:
        """Why the network is not to be quantized at all, where its record says so."""
        why = "its record keeps every layer in float (keep_float): 8 bits would cost it too much accuracy"
        return [Reason(subject=f"detector '{self.detector.name}'", why=why)] if "*" in self.detector.keep_float else []

    def _from(self, source: GraphSource, kind: str, converter: ConverterSpec | None = None) -> Route | Reason:
        return self._misfit(source) or Route(kind=kind, source=source, converter=converter)

    def _misfit(self, source: GraphSource) -> Reason | None:
        """Why a form in which the network is published is not that of the weights selected."""
        weights, label = self.weights, self.weights.label
        graphs = {other.weights for other in self.detector.graphs if other.ref is None}
        if isinstance(source.ref, Ref) and (weights.own_graph or weights.name in graphs):
            checkpoint = next((file.name for file in self.detector.weights if file.name not in graphs), None)
            return Reason(
                subject=f"{source.kind} builder",
                why=f"loads checkpoints, and the weights '{label}' are a graph",
                fix=NO_FIX if checkpoint is None or weights.own else Fix(settings={"weights": checkpoint}),
            )
        if source.weights == weights.name or (weights.own_graph if source.ref is None else source.weights is None):
            return None
        unlike = f", which does not end in {' or '.join(GRAPH_SUFFIXES)}" if source.ref is None and weights.own else ""
        return Reason(
            subject=f"{'packaged ' if isinstance(source.ref, FileRef) else ''}{source.kind} graph",
            why=f"holds the weights '{source.weights}', not '{label}'{unlike}",
            fix=Fix(settings={"weights": source.weights}),
        )

    def _no_converter(self, kind: str) -> Reason:
        published = dict.fromkeys(source.kind for source in self.detector.graphs)
        reached = {source.kind for source in self.detector.graphs if not self._misfit(source)}
        wanted: list[str] = []
        for helper in HELPFUL:
            if helper.source in reached:
                reached.add(helper.target)
                if helper.target == kind:
                    sources = [source for source in self.detector.graphs if source.kind == helper.source]
                    needs = [need for source in sources for need in source.requires if not self.installed(need.module)]
                    wanted += [*(need.install for need in needs), helper.install]
        make = f"{self._command_to_make(kind)} --output DIR"
        elsewhere = Fix(f"make it on a machine that has that, by `{make}`, and name DIR here as", names=("artifacts",))
        return Reason(
            subject="converters",
            why=f"none that is installed makes {kind} from {', '.join(published)}",
            fix=install(*wanted) | elsewhere if wanted else NO_FIX,
        )

    def _command_to_make(self, kind: str) -> str:
        return shlex.join(command_to_make(kind, self.converters, self.weights))


def is_calibrated(kind: str, converters: Iterable[ConverterSpec]) -> bool:
    """Whether graphs of this kind are made on images."""
    calibrated = [helper.target for helper in HELPFUL if helper.calibrated]
    return kind in (*calibrated, *(converter.target for converter in converters if converter.calibrated))


def command_to_make(kind: str, converters: Sequence[ConverterSpec], weights: Weights) -> list[str]:
    """Return the command that stores a detector's graph of a kind, as its words."""
    quantize = is_calibrated(kind, converters)
    command = ["quantize", weights.detector, "--images", "DIR"] if quantize else ["export", weights.detector]
    return ["polyface", *command, "--to", kind, *weights.options]


def select_device(backend: BackendSpec, found: Sequence[DeviceReport], device: str, precision: str) -> str:
    """Return the device to run on, among those a backend's probe found.

    ``"auto"`` takes the first of the backend's capabilities, in its order, that was found with the precision;
    ``"cuda"`` means ``"cuda:0"``; anything else is taken exactly or refused.

    Raises:
        BackendUnavailableError: it is not there, or not in that precision.
    """
    if device == "auto":
        order = [capability.device for capability in backend.capabilities]
        usable = [
            f.device for kind in order for f in found if device_kind(f.device) == kind and precision in f.precisions
        ]
    else:
        names = (device, f"{device}:0")
        usable = [f.device for f in found if f.device in names and precision in f.precisions]
    if usable:
        return usable[0]
    there = [
        f"{f.device}: {', '.join(f.precisions) or 'not there'}" + (f" ({f.detail})" if f.detail else "") for f in found
    ]
    remedy = next((f.fix for f in found if f.fix and device_kind(f.device) == device_kind(device)), None)
    raise BackendUnavailableError(
        f"The backend '{backend.name}' cannot run on device {quoted(device)} in {quoted(precision)} on this machine.",
        why=[f"found {line}" for line in there] or ["it found no device"],
        fix=remedy or Fix("choose one of those found as", names=("device", "precision")),
    )


@frozen(kw_only=True)
class Names:
    """What the names in the settings stand for: a detector with its weights, and the backends, the preferred first.

    ``owner`` is the distribution whose code reads what the network gives: the detector's, or the family's.
    """

    config: Config
    planner: Planner
    backends: tuple[BackendSpec, ...]
    owner: str


@frozen(kw_only=True)
class Selection:
    """A detector, the backend and device to run it on, and how its network gets there: what is known before loading."""

    detector: DetectorSpec
    backend: BackendSpec
    device: str = "auto"
    weights: Weights
    route: Route


@frozen(kw_only=True)
class Plan:
    """What can run the detector by what is claimed and installed, and why the rest cannot.

    Args:
        config: the settings.
        selections: the preferred first.
        refused: of the last device asked for, since what came before it is only looked for.
        owner: as in :class:`Names`.
    """

    config: Config
    selections: tuple[Selection, ...]
    refused: tuple[Refusal, ...]
    owner: str

    @property
    def first(self) -> Selection:
        """The preferred selection.

        Raises:
            UnsupportedError: there is none; with ``"auto"``, with the reasons of every backend.
        """
        if not self.selections:
            raise refusal(self.config, self.refused)
        return self.selections[0]


def plan(names: Names) -> Plan:
    """Return what can run the detector, going by what is claimed and installed; nothing heavy is loaded.

    ``backend="auto"`` takes the backend of the highest preference that has a route; by name among equals. With
    ``device="auto"`` as well, one that claims a device whose driver is here comes before those that do not.
    """
    config, planner = names.config, names.planner
    selections: list[Selection] = []
    refused: list[Refusal] = []
    devices = [config.device]
    if config.backend == config.device == "auto":
        claims = [capability for backend in names.backends for capability in backend.capabilities]
        devices = [*dict.fromkeys(claim.device for claim in claims if has_driver(claim.driver)), "auto"]
    for device in devices:
        refused = []
        for backend in names.backends:
            try:
                route = planner.route(backend, device, config.precision)
            except UnsupportedError as error:
                LOG.info("passed over: %s", error.summary)
                refused.append(error)
            else:
                detector, weights = planner.detector, planner.weights
                selections.append(
                    Selection(detector=detector, backend=backend, device=device, weights=weights, route=route)
                )
    return Plan(config=config, selections=tuple(selections), refused=tuple(refused), owner=names.owner)


def refusal(config: Config, refused: Sequence[Refusal]) -> Refusal:
    """Return the one error, or one with the reasons of all."""
    if len(refused) == 1:
        return refused[0]
    reasons: list[Reason] = []
    for error in refused:
        whole = Reason(subject=error.what.rstrip("."), why="; ".join(error.why), fix=error.fix)
        reasons += error.reasons if isinstance(error, UnsupportedError) else [whole]
    none = Reason(subject="backends", why="none is installed", fix=install("polyface-onnxruntime[cpu]"))
    # Where no reason has a fix, each error has the same.
    otherwise = {"otherwise": refused[0].fix.command} if refused and not fixes(reasons) else {}
    what = f"No installed backend can run '{config.detector}' as asked."
    return UnsupportedError(what, list(dict.fromkeys(reasons)) or [none], **otherwise)
