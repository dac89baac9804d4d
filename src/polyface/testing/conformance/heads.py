"""What polyface relies on in a head, whether a detector's record or a family's names it."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from attrs import frozen

from polyface.building import build, resolve
from polyface.errors import described
from polyface.graphs.plan import Selection, plan
from polyface.measure.tolerances import TOLERANCES
from polyface.pipeline.detector import FaceDetector
from polyface.plugins.manager import PluginManager
from polyface.plugins.protocols import Candidates, Head, Session
from polyface.plugins.records import DetectorSpec
from polyface.plugins.toolkit import clip_rounding
from polyface.results import Detections
from polyface.settings.config import Config
from polyface.testing.conformance.base import fail, fail_where_raised
from polyface.testing.conformance.networks import (
    NetworkConformance,
    check_growth,
    check_same,
    network_input,
    noise,
    run,
    sizes,
)

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, ImageArray


class HeadConformance(NetworkConformance):
    """What checks of a head share; a subclass has the fixture ``config``, the settings of what is checked."""

    backend: ClassVar[str] = "auto"

    @pytest.fixture(scope="class")
    @classmethod
    def selection(cls, plugins: PluginManager, config: Config) -> Selection:
        """What runs on what, and by which route."""
        return plan(resolve(config, plugins)).first

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
        arrays = [array for array in (*sample.outputs.values(), sample.priors, sample.keep) if array.flags.writeable]
        for array in arrays:
            array.flags.writeable = False
        try:
            head.scores(sample.outputs)
            sample.decoded(head, 1, sample.keep)
        except ValueError as error:
            fail("The head writes to what it is given.", why=[described(error)], fix="copy it first")
        finally:
            for array in arrays:
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

    def test_a_spawned_process_rebuilds_it(self, plugins: PluginManager, spec: DetectorSpec, config: Config) -> None:
        """Workers of a data loader or a server are sent a detector, and build it again."""
        image = noise(1, *sizes(spec)[1])[0]
        with build(config, plugins) as detector:
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
