"""What polyface relies on in a detector beside its head: its record, and the numbers of its network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from attrs import field, frozen

from polyface.building import build
from polyface.errors import PolyfaceError
from polyface.graphs.plan import select_device
from polyface.graphs.resolve import load_graph
from polyface.graphs.weights import verify
from polyface.measure.tolerances import TOLERANCES, Tolerance
from polyface.plugins.manager import PluginManager, missing
from polyface.plugins.protocols import Graph, Head
from polyface.plugins.records import BackendSpec, DetectorSpec, FileRef, Ref, device_kind
from polyface.settings.config import Config
from polyface.testing.conformance.base import fail, fail_where_raised
from polyface.testing.conformance.heads import HeadConformance
from polyface.testing.conformance.networks import (
    check_same,
    differences,
    network_input,
    noise,
    open_session,
    run,
    sizes,
)

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, ImageArray

SEED = 1
BOUND = 1000.0
"""No raw head of a seeded network may be larger: half precision ends at 65504, and its sums before that."""


@frozen(kw_only=True, eq=False)
class Golden:
    """What the original network gave for one image, run by its own code.

    Args:
        image: RGB uint8 ``(H, W, 3)``, of a size that the network takes without padding.
        heads: raw heads of the original by the names of the detector's outputs, without the batch: ``(P, ...)``. Any of
            them will do, where the original gives the others in another form.
        scores: face scores of every anchor, ``(P,)``.
        boxes: boxes of every anchor, ``(P, 4)`` xyxy in pixels, unclipped.
        weights: the checkpoint that the original ran with, as the setting of that name.
        tolerance: how far polyface's numbers may lie off.
    """

    image: ImageArray
    heads: Mapping[str, FloatArray]
    scores: FloatArray | None = None
    boxes: FloatArray | None = None
    weights: str | None = None
    tolerance: Tolerance = field(default=TOLERANCES["fp32"])


@frozen
class Seeded(Ref):
    """A builder that is asked for seeded numbers, whatever weights it is given."""

    def load(self) -> Any:
        """Return the builder."""
        builder = super().load()
        return lambda weights=None, *, seed=SEED: builder(None, seed=seed)  # noqa: ARG005 - a builder's signature


class DetectorConformance(HeadConformance):
    """Whether a detector is what its record says, and its head what :class:`polyface.plugins.protocols.Head` promises.

    Attributes:
        detector: the detector's name.
        backend: the backend its network runs on; ``"auto"`` takes the most preferred that can run it here.
        device: the device it runs on.
        precision: the precision it runs in.

    The fixtures ``plugins`` (where names are looked up), ``weights`` (as the setting of that name; needed where the
    default weights are not on every machine that runs the tests) and ``goldens`` (what the original network gave) may
    be overridden.
    """

    record = DetectorSpec
    detector: ClassVar[str] = ""

    @pytest.fixture(scope="class")
    @classmethod
    def config(cls, weights: str | None) -> Config:
        """The detector by its name."""
        return cls._config(cls.detector, weights)

    @pytest.fixture(scope="class")
    @classmethod
    def goldens(cls) -> Sequence[Golden]:
        """What the original network gave: the author must supply it."""
        return ()

    def test_graphs_load(self, spec: DetectorSpec) -> None:
        """A builder or file that is misnamed is found out by the one user who needs it."""
        for source in spec.graphs:
            if source.ref is not None and not missing(spec.name, source.requires):
                with fail_where_raised(f"The graph of kind '{source.kind}' does not load."):
                    found = source.ref.path() if isinstance(source.ref, FileRef) else source.ref.load()
                if not isinstance(found, Path) and not callable(found):
                    fail(f"'{source.ref.target}' is no builder, but of type {type(found).__name__}.")

    def test_packaged_files_are_whole(self, spec: DetectorSpec) -> None:
        """A file that is not the one of its sha256 is refused on every machine."""
        files = {file.ref: file.sha256 for file in spec.weights if file.ref is not None}
        files |= {source.ref: source.sha256 or "" for source in spec.graphs if isinstance(source.ref, FileRef)}
        for ref, sha256 in files.items():
            try:
                verify(ref.path(), sha256)
            except PolyfaceError as error:
                fail(f"'{ref.target}' is not the file of the record.", why=error.why, fix="correct its sha256")
        for file in spec.weights:
            if file.ref is not None and file.ref.path().stat().st_size != file.size:
                fail(f"'{file.ref.target}' has {file.ref.path().stat().st_size} bytes; declared: {file.size}.")

    def test_a_seed_fixes_the_network(self, plugins: PluginManager, spec: DetectorSpec) -> None:
        """Tests run networks without their weights, whose numbers must then be the same everywhere, and bounded."""
        kind, builder, backend = self._buildable(plugins, spec)
        graph = Graph(kind=kind, source=Seeded(builder.target), detector=spec)
        image = network_input(spec, noise(1, *sizes(spec)[1]))
        found = backend.factory.load()().probe()
        device = select_device(backend, found, self.device, "fp32")
        runs = []
        for _ in range(2):
            with closing(open_session(graph, backend, device, "fp32")) as session:
                runs.append(run(session, spec, image))
        what = f"'{builder.target}' gives other numbers for the same seed"
        allowed = 0.0 if self.device == "cpu" else TOLERANCES["fp32"].heads
        check_same(what, runs[1], runs[0], allowed, heads=True)
        largest = max(float(np.abs(output).max(initial=0)) for output in runs[0].values())
        if not largest <= BOUND:
            fail(f"A seeded network's raw heads reach {largest:g}; they must stay within {BOUND:g}.")

    def _buildable(self, plugins: PluginManager, spec: DetectorSpec) -> tuple[str, Ref, BackendSpec]:
        """The kind and builder of a graph that is built here, and a backend on this machine that takes it as it is."""
        for backend in sorted(plugins.by_name(BackendSpec).values(), key=lambda backend: -backend.preference):
            for source in spec.graphs:
                needs = missing(backend.name, (*backend.requires, *source.requires))
                claimed = device_kind(self.device) in {c.device for c in backend.capabilities}
                if isinstance(source.ref, Ref) and source.kind in backend.accepts and claimed and not needs:
                    return source.kind, source.ref, backend
        pytest.skip("no backend that is installed runs what a builder of this detector builds")

    def test_raw_heads_are_those_of_the_original(
        self, plugins: PluginManager, weights: str | None, spec: DetectorSpec, head: Head, goldens: Sequence[Golden]
    ) -> None:
        """A mean in the wrong channel order, or a padding on the wrong side, costs accuracy and breaks nothing."""
        if not goldens:
            fail(
                f"There are no numbers of the original network to compare '{spec.name}' with.",
                fix="override the fixture goldens, or give the reason in expected_failures",
            )
        for golden in goldens:
            image, allowed = network_input(spec, [golden.image]), golden.tolerance
            own = self._select(spec.name, plugins, golden.weights or weights)
            graph = load_graph(own.route, own.detector, own.weights)
            with closing(open_session(graph, own.backend, self.device, self.precision, self.options)) as session:
                outputs = run(session, spec, image)
            off = differences({n: output[0] for n, output in outputs.items()}, golden.heads, allowed.heads, heads=True)
            if golden.scores is not None:
                off += differences({"scores": head.scores(outputs)[0]}, {"scores": golden.scores}, allowed.score)
            if golden.boxes is not None:
                priors = head.priors(image.shape[2], image.shape[3])
                boxes = head.decode(outputs, priors, 0, np.arange(len(priors))).boxes
                off += differences({"boxes": boxes}, {"boxes": golden.boxes}, allowed.pixels)
            if off or not golden.heads:
                height, width = golden.image.shape[:2]
                fail(
                    f"For an image of {width}x{height} pixels the network gives other numbers than the original.",
                    why=off or ["the golden has no heads"],
                    fix="check channels, mean and std in Preprocess, each in the order of channels",
                )

    def test_landmarks_change_places_in_a_mirror(
        self, plugins: PluginManager, spec: DetectorSpec, config: Config, goldens: Sequence[Golden]
    ) -> None:
        """A left eye that is merged with the right one of a mirrored view comes to lie between the two."""
        places = spec.mirrored_places
        # Seen in the faces of goldens, by the detector's own weights: others may be random numbers.
        own = [golden for golden in goldens if places and golden.weights is None is config.weights]
        for golden in own:
            with build(config.replace(view="plain"), plugins) as detector:
                plain, mirrored = detector.detect_batch([golden.image, golden.image[:, ::-1]])
            back = [face * (-1, 1) + (golden.image.shape[1], 0) for face in np.asarray(mirrored.landmarks)]
            for face, size in zip(np.asarray(plain.landmarks), np.ptp(plain.boxes[:, ::2], axis=1), strict=True):
                for other in back:
                    if np.abs(other.mean(axis=0) - face.mean(axis=0)).max() > size / 4:
                        continue  # another face
                    off = np.linalg.norm(face[:, None] - other, axis=2)
                    for index, place in enumerate(places):
                        nearest = int(off[index].argmin())
                        if 2 * off[index, nearest] < off[index, place]:
                            fail(
                                f"In a mirror '{spec.landmarks[nearest]}' takes the place of "
                                f"'{spec.landmarks[index]}', not '{spec.landmarks[place]}'.",
                                fix="declare the pairs of landmarks that change places, in DetectorSpec.mirrored",
                            )
