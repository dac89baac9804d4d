"""What polyface relies on in a detector: its record, its head, and the numbers of its network."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from attrs import field, frozen

from polyface.building import build
from polyface.errors import PolyfaceError, described
from polyface.graphs.plan import Selection, select_device
from polyface.graphs.resolve import load_graph
from polyface.graphs.weights import verify
from polyface.measure.tolerances import TOLERANCES, Tolerance
from polyface.pipeline.detector import FaceDetector
from polyface.plugins.manager import PluginManager, missing
from polyface.plugins.protocols import Candidates, Graph, Head, Session
from polyface.plugins.records import BackendSpec, DetectorSpec, FileRef, Ref, device_kind
from polyface.plugins.toolkit import clip_rounding
from polyface.results import Detections
from polyface.testing.conformance.base import fail, fail_where_raised
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


class DetectorConformance(NetworkConformance):
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
    backend: ClassVar[str] = "auto"

    @pytest.fixture(scope="class")
    @classmethod
    def goldens(cls) -> Sequence[Golden]:
        """What the original network gave: the author must supply it."""
        return ()

    @pytest.fixture(scope="class")
    @classmethod
    def selection(cls, plugins: PluginManager, weights: str | None) -> Selection:
        """What runs on what, and by which route."""
        return cls._select(cls.detector, plugins, weights)

    @pytest.fixture
    def head(self, spec: DetectorSpec) -> Head:
        """A head of its own for each check."""
        head: Head = spec.make_head()
        return head

    @pytest.fixture(scope="class")
    @classmethod
    def sample(cls, spec: DetectorSpec, session: Session) -> Sample:
        """The raw heads of two images of noise, of even height and width."""
        height, width = sizes(spec)[1]
        outputs = run(session, spec, network_input(spec, noise(2, height, width)))
        priors = spec.make_head().priors(height, width)
        # Out of order, with both ends and a gap.
        keep = np.unique(np.linspace(0, len(priors) - 1, 7).astype(np.intp))[::-1].copy()
        return Sample(height=height, width=width, outputs=outputs, priors=priors, keep=keep)

    def test_head_is_a_head(self, spec: DetectorSpec) -> None:
        """What it gives is called by the names of the protocol, and by no other."""
        made = spec.make_head()
        if not isinstance(made, Head):
            fail(f"'{spec.head.target}' gives a {type(made).__name__}, which has no priors, scores and decode.")

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

    def test_there_is_a_prior_for_each_anchor(self, session: Session, spec: DetectorSpec, head: Head) -> None:
        """A head that rounds otherwise than the network shifts every box after the first odd row."""
        for height, width in sizes(spec):
            outputs = run(session, spec, network_input(spec, noise(1, height, width)))
            priors, scores = len(head.priors(height, width)), head.scores(outputs).shape
            counted = {  # every output whose dims share a name with the second axis of the first has P there
                declared.name: outputs[declared.name].shape[1]
                for declared in spec.outputs
                if len(declared.dims) > 1 and declared.dims[1] == spec.outputs[0].dims[1]
            }
            if scores != (1, priors):
                fail(
                    f"At {width}x{height} pixels there are {priors} priors for scores of the shape {scores}.",
                    why=[f"'{name}' has {count} anchors" for name, count in counted.items()],
                )

    def test_scores_are_probabilities(self, sample: Sample, head: Head) -> None:
        """Thresholds and NMS compare them with numbers from 0 to 1."""
        scores = head.scores(sample.outputs)
        if scores.dtype != np.float32 or scores.shape != (2, len(sample.priors)):
            fail(f"Scores are {scores.dtype} {scores.shape}; wanted: float32 (2, {len(sample.priors)}).")
        scores = clip_rounding(scores)
        if not ((scores >= 0) & (scores <= 1)).all():
            fail(f"Scores reach from {scores.min():g} to {scores.max():g}; wanted: from 0 to 1.")

    def test_decode_gives_boxes_and_landmarks(self, sample: Sample, spec: DetectorSpec, head: Head) -> None:
        """Everything after it counts on one box, and the declared landmarks, for each anchor kept."""
        for keep in (sample.keep, sample.keep[:1], sample.keep[:0]):
            found = sample.decoded(head, 1, keep)
            shapes = {"boxes": (len(keep), 4), "landmarks": (len(keep), len(spec.landmarks), 2)}
            if (found.landmarks is None) != (not spec.landmarks):
                got = "none" if found.landmarks is None else "some"
                fail(f"decode gives {got}; the record declares {len(spec.landmarks)} landmarks.")
            for name, array in found._asdict().items():
                if array is not None and (array.dtype != np.float32 or array.shape != shapes[name]):
                    got = f"{array.dtype} {array.shape}"
                    fail(f"For {len(keep)} anchors the {name} are {got}; wanted: float32 {shapes[name]}.")
                if array is not None and not np.isfinite(array).all():
                    fail(f"The {name} are not finite.")

    def test_decode_keeps_to_keep(self, sample: Sample, head: Head) -> None:
        """A box in another place of the array gets another anchor's score."""
        every = sample.decoded(head, 1, np.arange(len(sample.priors)))
        landmarks = None if every.landmarks is None else every.landmarks[sample.keep]
        wanted = Candidates(every.boxes[sample.keep], landmarks)
        _equal(sample.decoded(head, 1, sample.keep), wanted, "Anchors decode otherwise together than alone")

    def test_decode_takes_the_image_asked_for(self, sample: Sample, head: Head) -> None:
        """The second image of a batch would get the boxes of the first."""
        for place in range(2):
            alone = {name: output[place : place + 1] for name, output in sample.outputs.items()}
            wanted = head.decode(alone, sample.priors, 0, sample.keep)
            _equal(sample.decoded(head, place, sample.keep), wanted, f"Image {place} of a batch decodes otherwise")
            scores = head.scores(sample.outputs)[place]
            what, expected = f"Image {place} of a batch scores otherwise than by itself", head.scores(alone)[0]
            check_same(what, {"scores": scores}, {"scores": expected}, TOLERANCES["fp32"].score)

    def test_head_writes_to_nothing(self, sample: Sample, head: Head) -> None:
        """Priors are kept for the next image, and raw heads are still being read."""
        for array in (*sample.outputs.values(), sample.priors, sample.keep):
            array.flags.writeable = False
        try:
            head.scores(sample.outputs)
            sample.decoded(head, 1, sample.keep)
        except ValueError as error:
            fail("The head writes to what it is given.", why=[described(error)], fix="copy it first")
        finally:
            for array in (*sample.outputs.values(), sample.priors, sample.keep):
                array.flags.writeable = True

    def test_head_keeps_no_state(self, sample: Sample, spec: DetectorSpec, head: Head) -> None:
        """One head serves many threads and every size at once."""

        def whole(_: int) -> list[FloatArray]:
            found = sample.decoded(head, 1, sample.keep)
            return [head.priors(sample.height, sample.width), head.scores(sample.outputs), found.boxes]

        wanted = whole(0)
        for height, width in sizes(spec):
            head.priors(height, width)
        if not np.array_equal(sample.decoded(head, 1, sample.keep).boxes, wanted[-1]):
            fail("A head decodes otherwise after priors of another size.", fix="keep nothing on self")
        with ThreadPoolExecutor(2) as threads:
            jobs = [threads.submit(whole, turn) for turn in range(16)]
            for height, width in sizes(spec) * 4:
                head.priors(height, width)
            for job in jobs:
                if not all(map(np.array_equal, job.result(), wanted)):
                    fail("A head gives other numbers while another thread uses it.", fix="keep nothing on self")

    def test_head_memory_stays_bounded(self, spec: DetectorSpec, head: Head) -> None:
        """Images come in endless sizes, and polyface already keeps the priors of the latest."""
        check_growth("The head", spec, head.priors)

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
        self, plugins: PluginManager, spec: DetectorSpec, weights: str | None, goldens: Sequence[Golden]
    ) -> None:
        """A left eye that is merged with the right one of a mirrored view comes to lie between the two."""
        places = spec.mirrored_places
        # Seen in the faces of goldens, by the detector's own weights: others may be random numbers.
        own = [golden for golden in goldens if places and golden.weights is None is weights]
        for golden in own:
            with build(self._config(self.detector, None).replace(view="plain"), plugins) as detector:
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

    def test_a_spawned_process_rebuilds_it(
        self, plugins: PluginManager, spec: DetectorSpec, weights: str | None
    ) -> None:
        """Workers of a data loader or a server are sent a detector, and build it again."""
        image = noise(1, *sizes(spec)[1])[0]
        with build(self._config(self.detector, weights), plugins) as detector:
            here = detector.detect(image)
            rebuilds = fail_where_raised(f"A spawned process cannot rebuild '{spec.name}'.")
            with rebuilds, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                there = pool.submit(_rebuilt, pickle.dumps(detector), image).result()
        if there != here:
            fail(f"'{spec.name}' finds other faces in a spawned process: {len(there)}, not {len(here)}.")


@frozen(kw_only=True, eq=False)
class Sample:
    """The raw heads of two images, their priors, and some anchors to keep."""

    height: int
    width: int
    outputs: dict[str, FloatArray]
    priors: FloatArray
    keep: Any

    def decoded(self, head: Head, index: int, keep: Any) -> Candidates:
        """Decode anchors of one image."""
        return head.decode(self.outputs, self.priors, index, keep)


def _rebuilt(pickled: bytes, image: ImageArray) -> Detections:
    # Not sent as an object: what fails while a worker unpickles its task ends the worker without a word.
    detector: FaceDetector = pickle.loads(pickled)  # noqa: S301 - made by the test that waits for it
    with detector:
        return detector.detect(image)


def _equal(actual: Candidates, expected: Candidates, otherwise: str) -> None:
    wanted = {name: array for name, array in expected._asdict().items() if array is not None}
    check_same(otherwise, actual._asdict(), wanted, TOLERANCES["fp32"].pixels)
