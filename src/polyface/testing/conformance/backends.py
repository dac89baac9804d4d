"""The session contract, as checks of a backend."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, TypeAlias

import numpy as np
import pytest

from polyface.errors import BackendUnavailableError, ClosedError, UnsupportedError, described
from polyface.graphs.artifacts import ArtifactKey, ArtifactStore
from polyface.graphs.plan import Planner, Selection
from polyface.graphs.weights import select_weights
from polyface.machine import gate
from polyface.measure.tolerances import TOLERANCES
from polyface.plugins.manager import PluginManager
from polyface.plugins.protocols import Backend, DeviceReport, Graph, PixelSession, Session
from polyface.plugins.records import BackendSpec, ConverterSpec, DetectorSpec, Ref, device_kind
from polyface.testing.conformance.base import fail, fail_where_raised, said_in_child
from polyface.testing.conformance.networks import (
    NetworkConformance,
    check_growth,
    check_same,
    differences,
    network_input,
    noise,
    open_session,
    run,
    sizes,
)
from polyface.testing.conformance.reference import REFERENCE

Opener: TypeAlias = Callable[..., Session]


class BackendConformance(NetworkConformance):
    """Whether a backend keeps the contract of :class:`polyface.plugins.protocols.Backend` and of its sessions.

    Attributes:
        backend: the backend's name.
        detector: the installed detector whose network it runs; ``None`` takes the kit's own tiny network, which is
            there as the graph kinds ``numpy`` and ``onnx``. A detector that publishes the kind ``numpy`` says by it
            what numbers are right.
        device: the device that the checks run on, as a probe names it.
        precision: the precision they run in.
        options: what ``backend_options`` would hold.
        child_seconds: how long a child of a fork may take for a run; one that takes longer counts as waiting for ever.

    The fixtures ``plugins`` (where names are looked up) and ``weights`` (of the detector, as the setting of that name)
    may be overridden.
    """

    detector: ClassVar[str | None] = None
    child_seconds: ClassVar[int] = 60

    @pytest.fixture(scope="class")
    @classmethod
    def selection(cls, plugins: PluginManager, weights: str | None) -> Selection:
        """What runs on what, and by which route."""
        if cls.detector is not None:
            return cls._select(cls.detector, plugins, weights)
        backend, none = plugins.get(BackendSpec, cls.backend), select_weights(REFERENCE, None)
        planner = Planner(
            detector=REFERENCE,
            weights=none,
            converters=plugins.all(ConverterSpec),
            stored=lambda kind: ArtifactStore().find(ArtifactKey.of(REFERENCE, "", kind)),
        )
        try:
            route = planner.route(backend, cls.device, cls.precision)
        except UnsupportedError as error:
            fail(
                f"The kit's own network cannot run on '{cls.backend}'.",
                why=error.why,
                fix='name an installed detector that can: detector = "..."',
            )
        return Selection(detector=REFERENCE, backend=backend, weights=none, route=route)

    @pytest.fixture(scope="class")
    @classmethod
    def spec(cls, selection: Selection) -> DetectorSpec:
        """The record of the detector whose network is run."""
        return selection.detector

    @pytest.fixture(scope="class")
    @classmethod
    def found(cls, selection: Selection) -> tuple[DeviceReport, ...]:
        """What the backend's probe finds here."""
        backend: Backend = selection.backend.factory.load()()
        return tuple(backend.probe())

    @pytest.fixture
    def opened(self, selection: Selection, graph: Graph) -> Iterator[Opener]:
        """A function from device and precision, and ``threads`` if need be, to a session of its own."""
        sessions: list[Session] = []

        def opened(device: str, precision: str, threads: int | None = None) -> Session:
            sessions.append(open_session(graph, selection.backend, device, precision, self.options, threads=threads))
            return sessions[-1]

        yield opened
        for session in sessions:
            session.close()

    def test_factory_gives_a_backend(self, selection: Selection) -> None:
        """What it gives is called by the names of the protocol, and by no other."""
        factory = selection.backend.factory
        made = factory.load()()
        if not isinstance(made, Backend):
            fail(f"'{factory.target}' gives a {type(made).__name__}, which has no probe and compile.")

    def test_probe_finds_the_device_under_test(self, found: tuple[DeviceReport, ...]) -> None:
        """What the probe does not find is never granted, so nothing else here would be about it."""
        if not any(f.device == self.device and self.precision in f.precisions for f in found):
            there = [f"{f.device}: {', '.join(f.precisions) or 'not there'}" for f in found]
            fail(f"The probe does not find '{self.device}' with '{self.precision}'.", why=there)

    def test_probe_finds_no_more_than_is_claimed(self, selection: Selection, found: tuple[DeviceReport, ...]) -> None:
        """The planner refuses what the record does not claim, so what is found beyond it can never be used."""
        pairs = [(f.device, precision) for f in found for precision in f.precisions]
        more = [
            f"{device}: {precision}" for device, precision in pairs if not selection.backend.claims(device, precision)
        ]
        if more:
            fail("The probe finds what the record does not claim.", why=more, fix="add it to capabilities")

    def test_every_device_found_compiles_and_runs(
        self, selection: Selection, found: tuple[DeviceReport, ...], opened: Opener, spec: DetectorSpec, graph: Graph
    ) -> None:
        """Whoever asks for a device takes the probe's word that it works."""
        image = network_input(spec, noise(1, *sizes(spec)[1]))
        for device, precision in ((f.device, precision) for f in found for precision in f.precisions):
            if graph.kind not in selection.backend.kinds(device, precision):
                continue  # it wants another kind of graph
            try:
                run(opened(device, precision), spec, image)
            except BackendUnavailableError as error:
                fail(f"The probe finds '{device}' with '{precision}', which does not work.", why=[error.what])

    def test_execution_is_what_was_asked_for(self, session: Session) -> None:
        """Users read from it what they measure and pay for."""
        got = session.execution
        if (got.device, got.precision) != (self.device, self.precision):
            fail(
                f"Asked for {self.device} in {self.precision}, the session says {got.device} in {got.precision}.",
                fix="read it back from the runtime, and raise BackendUnavailableError where it is another",
            )

    def test_no_more_threads_than_asked_for(self, opened: Opener) -> None:
        """Who runs several processes on one machine shares its cores out among them."""
        threads = opened(self.device, self.precision, threads=1).execution.threads
        if threads not in (None, 1):
            fail(
                f"Asked for 1 thread, the session says that it runs on {threads}.",
                fix="hand request.threads to the runtime, or leave execution.threads out where it plays no part",
            )

    def test_a_device_not_found_is_refused(
        self, selection: Selection, found: tuple[DeviceReport, ...], opened: Opener
    ) -> None:
        """A run that falls back to the CPU looks right, is many times slower, and is found out too late."""
        there = {f.device for f in found if f.precisions}
        absent = ["no-such-device"]
        for kind in dict.fromkeys(claim.device for claim in selection.backend.capabilities):
            absent += [f"{kind}:99", *([] if {device_kind(d) for d in there} & {kind} else [kind, f"{kind}:0"])]
        for device in absent:
            self._refused(opened, device, self.precision)

    def test_a_precision_not_found_is_refused(self, found: tuple[DeviceReport, ...], opened: Opener) -> None:
        """Numbers of another precision than was asked for are compared with the wrong tolerance."""
        there = next((f.precisions for f in found if f.device == self.device), ())
        for precision in ("fp32", "bf16", "fp16", "int8", "no-such-precision"):
            if precision not in there:
                self._refused(opened, self.device, precision)

    def _refused(self, opened: Opener, device: str, precision: str) -> None:
        wanted = "it must raise BackendUnavailableError, and never settle for another"
        try:
            execution = opened(device, precision).execution
        except BackendUnavailableError:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not what the contract names
            fail(f"Asked for '{device}' in '{precision}', compile raised {described(error)}", why=[wanted])
        fail(
            f"Asked for '{device}' in '{precision}', which the probe does not find, compile gave a session.",
            why=[f"it says that it runs on {execution.device} in {execution.precision}", wanted],
        )

    def test_raw_heads_are_the_networks(self, session: Session, spec: DetectorSpec) -> None:
        """Heads under each other's names, or a little off, still look like numbers."""
        builder = next((g.ref for g in spec.graphs if g.kind == "numpy" and isinstance(g.ref, Ref)), None)
        if builder is None:
            fail(
                f"Nothing says which numbers of '{spec.name}' are right.",
                why=["it publishes no graph of the kind numpy"],
                fix="name a detector that does, or none, or declare this check in expected_failures",
            )
        for height, width in sizes(spec):
            image = network_input(spec, noise(spec.fixed_batch or 1, height, width))
            expected = builder.load()(None)({spec.input.name: image.copy()})
            what = f"The raw heads of {width}x{height} pixels are others"
            check_same(what, run(session, spec, image), expected, TOLERANCES[self.precision].heads, heads=True)

    def test_any_batch_height_and_width_runs(self, session: Session, spec: DetectorSpec) -> None:
        """A graph frozen at the size it was traced at fails on the first image of another."""
        for count, (height, width) in itertools.product((1, 3), sizes(spec)):
            with fail_where_raised(f"A batch of {count} of {width}x{height} pixels does not run."):
                outputs = run(session, spec, network_input(spec, noise(count, height, width)))
            if any(len(output) != count for output in outputs.values()):
                fail(f"A batch of {count} of {width}x{height} pixels gives outputs of another batch.")

    def test_repeated_runs_are_equal(self, session: Session, spec: DetectorSpec) -> None:
        """What depends on the run before cannot be reproduced."""
        image = network_input(spec, noise(2, *sizes(spec)[1]))
        first = run(session, spec, image)
        run(session, spec, network_input(spec, noise(1, *sizes(spec)[2])))
        again = run(session, spec, image)
        check_same("A run again gives other numbers", again, first, self._exactly(), heads=True)

    def test_a_batch_equals_singles(self, session: Session, spec: DetectorSpec) -> None:
        """What is found in an image must not depend on its neighbours in the batch."""
        image = network_input(spec, noise(3, *sizes(spec)[1]))
        batch = run(session, spec, image)
        for place in range(len(image)):
            alone = run(session, spec, image[place : place + 1])
            together = {name: output[place : place + 1] for name, output in batch.items()}
            what = f"Image {place} of a batch gives other numbers than by itself"
            check_same(what, together, alone, TOLERANCES[self.precision].heads, heads=True)

    def test_two_threads_get_what_one_gets(self, session: Session, spec: DetectorSpec) -> None:
        """Servers run one session from many threads."""
        images = [network_input(spec, noise(1 + seed % 2, *sizes(spec)[seed % 4], seed)) for seed in range(8)]
        alone = [run(session, spec, image) for image in images]
        with ThreadPoolExecutor(2) as threads:
            jobs = [(seed, threads.submit(run, session, spec, images[seed])) for seed in [*range(8)] * 3]
            for seed, job in jobs:
                what = "Two threads at once get other numbers"
                check_same(what, job.result(), alone[seed], self._exactly(), heads=True)

    def test_inputs_are_not_written_to(self, session: Session, spec: DetectorSpec) -> None:
        """The array is the caller's, who may run it again."""
        image = network_input(spec, noise(2, *sizes(spec)[1]))
        given = image.copy()
        session.run({spec.input.name: given})
        if not np.array_equal(given, image):
            fail("A run changed its input.", fix="copy it first")
        given.flags.writeable = False
        with fail_where_raised("A run needs its input to be writeable.", "copy it first"):
            session.run({spec.input.name: given})

    def test_pixels_give_what_floats_give(self, session: Session, spec: DetectorSpec) -> None:
        """A session that normalises by itself may do it in another order of channels, and still find faces."""
        if not isinstance(session, PixelSession):
            return
        for height, width in sizes(spec):
            images = noise(2, height, width)
            pixels = np.stack(images)
            pixels.flags.writeable = False
            what = f"Pixels of {width}x{height} give other numbers than floats"
            expected = run(session, spec, network_input(spec, images))
            check_same(what, session.run_pixels(pixels), expected, TOLERANCES[self.precision].heads, heads=True)

    def test_outputs_are_the_callers_own(self, opened: Opener, spec: DetectorSpec) -> None:
        """A buffer that is used again changes results that somebody still holds."""
        session = opened(self.device, self.precision)
        given = network_input(spec, noise(2, *sizes(spec)[1]))
        first = session.run({spec.input.name: given})
        kept = {name: output.copy() for name, output in first.items()}
        second = session.run({spec.input.name: given[::-1].copy()})
        session.close()
        for name, output in first.items():
            others = {"the input": given, **{f"'{other}' of the next run": array for other, array in second.items()}}
            others |= {f"'{other}'": array for other, array in first.items() if other != name}
            shared = [label for label, other in others.items() if np.shares_memory(output, other)]
            if shared or not np.array_equal(output, kept[name], equal_nan=True) or not output.flags.writeable:
                fail(
                    f"The output '{name}' is not the caller's own.",
                    why=[f"it shares memory with {label}" for label in shared]
                    or ["the next run or close changed it" if output.flags.writeable else "it cannot be written to"],
                    fix="return a copy: np.array(output)",
                )

    def test_a_closed_session_refuses_to_run(self, opened: Opener, spec: DetectorSpec) -> None:
        """Memory that was to be free is still held by a session that survives close."""
        session = opened(self.device, self.precision)
        image = network_input(spec, noise(1, *sizes(spec)[1]))
        session.close()
        session.close()
        try:
            session.run({spec.input.name: image})
        except ClosedError:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not what the contract names
            fail("A closed session raises another error than ClosedError.", why=[described(error)])
        fail("A closed session still runs.", fix="let close drop the network, and run raise ClosedError")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    def test_a_child_of_a_fork_runs_or_is_refused(self, opened: Opener, spec: DetectorSpec) -> None:
        """Servers make a detector and then fork their workers, where a run that never ends looks like a slow one."""
        session = opened(self.device, self.precision)
        image = network_input(spec, noise(2, *sizes(spec)[1]))
        with gate.runs:  # as a detector runs it, so that the fork comes when the runtime's threads are at rest
            expected = run(session, spec, image)

        def work() -> str:
            said = ""
            try:
                actual = run(session, spec, image)
            except BackendUnavailableError as error:
                said = "" if error.why and error.fix else f"it does not say why, or what to do: {error.what}"
            else:
                said = "; ".join(differences(actual, expected, TOLERANCES[self.precision].heads, heads=True))
            session.close()  # which must not wait for threads that are not there
            return said

        what = "In a child of a fork, a session that ran before"
        fix = "raise BackendUnavailableError there (refuse_in_child in polyface.machine.gate, or keep_in_children)"
        said = said_in_child(what, work, self.child_seconds, fix)
        if said:
            fail(f"{what} neither runs as in the parent nor is refused with its reason.", why=[said], fix=fix)

    def test_memory_stays_bounded(self, session: Session, spec: DetectorSpec) -> None:
        """Images come in endless sizes, and what is kept for each fills the memory of a server in days."""

        def visit(height: int, width: int) -> None:
            session.run({spec.input.name: np.zeros((1, 3, height, width), np.float32)})

        check_growth(f"A session of '{self.backend}'", spec, visit)

    def _exactly(self) -> float:
        """How far runs of the same may lie apart: on a CPU, not at all."""
        return 0.0 if device_kind(self.device) == "cpu" else TOLERANCES[self.precision].heads
