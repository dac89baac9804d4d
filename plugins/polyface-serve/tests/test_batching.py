"""Images of many requests in one stream: in order, within a bound, and each with its own failure."""

from __future__ import annotations

import threading
import weakref

import pytest

from polyface.errors import PluginError
from polyface.results import Detections, Item, Result

pytest.importorskip("prometheus_client", reason="needs prometheus-client: pip install polyface-serve")

from polyface_serve.batching import Model
from polyface_serve.limits import Limits
from polyface_serve.metrics import Metrics
from polyface_serve.refusals import Refusal

PATIENCE = 60


class Detector:
    """Gives each image back as a result, once it may; two in a row share a run, and so its seconds."""

    def __init__(self):
        self.may_go, self.begun = threading.Event(), threading.Event()
        self.rounds, self.workers, self.error, self.closed = [], [], None, False

    def stream(self, items, *, keep_images, workers=None):
        assert keep_images
        self.rounds.append([])
        self.workers.append(workers)
        for number, item in enumerate(items):
            self.rounds[-1].append(item.name)
            self.begun.set()
            assert self.may_go.wait(PATIENCE)
            if self.error:
                raise self.error
            faces = Detections.from_dicts([])
            yield Result(name=item.name, faces=faces, timing={"network": float(number // 2)}, item=item)

    def close(self):
        self.closed = True


@pytest.fixture
def detector():
    return Detector()


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def model(detector, metrics):
    model = Model("fake", detector, Limits(queue=4, gather_seconds=0.001), metrics)
    yield model
    detector.may_go.set()
    model.close()


def items(*names):
    return [Item(name=name, image=b"") for name in names]


def name_of(result):
    return result.name


def test_each_image_gets_what_is_made_of_its_own_result(model, detector):
    detector.may_go.set()
    futures = model.submit(items("a", "b", "c"), name_of)
    assert [future.result(PATIENCE) for future in futures] == ["a", "b", "c"]


def test_what_waits_while_one_is_examined_goes_together(model, detector):
    futures = model.submit(items("first"), name_of)
    assert detector.begun.wait(PATIENCE)
    futures += model.submit(items("b", "c"), name_of) + model.submit(items("d"), name_of)
    detector.may_go.set()
    assert [future.result(PATIENCE) for future in futures] == ["first", "b", "c", "d"]
    assert detector.rounds == [["first"], ["b", "c", "d"]]
    assert detector.workers == [0, None]  # a lone image needs no threads


def test_a_full_queue_says_when_to_come_again(model, detector):
    model.submit(items("first"), name_of)
    assert detector.begun.wait(PATIENCE)
    model.submit(items("b", "c", "d"), name_of)
    with pytest.raises(Refusal) as refused:
        model.submit(items("e"), name_of)
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (503, "1")
    assert refused.value.to_dict()["why"] == ["it holds 4 images, and 1 more would be over 4"]


def test_more_images_than_a_queue_can_hold_are_refused_for_good(model):
    with pytest.raises(Refusal) as refused:
        model.submit(items(*"abcde"), name_of)
    assert refused.value.to_dict()["what"] == "The request has 5 images; the queue of 'fake' holds 4."
    assert (refused.value.status, "Retry-After" in refused.value.headers) == (413, False)


def test_a_place_is_free_again_once_an_image_is_done(model, detector):
    detector.may_go.set()
    for name in "abcdefgh":
        (future,) = model.submit(items(name), name_of)
        assert future.result(PATIENCE) == name


def test_what_nobody_waits_for_is_not_examined(model, detector):
    (first,) = model.submit(items("first"), name_of)
    assert detector.begun.wait(PATIENCE)
    gone, wanted = model.submit(items("gone", "wanted"), name_of)
    assert gone.cancel()
    detector.may_go.set()
    assert [first.result(PATIENCE), wanted.result(PATIENCE)] == ["first", "wanted"]
    assert [name for round_ in detector.rounds for name in round_] == ["first", "wanted"]


def test_what_nobody_waits_for_is_not_kept(model, detector):
    model.submit(items("first"), name_of)
    assert detector.begun.wait(PATIENCE)
    (item,) = items("gone")
    (future,) = model.submit([item], name_of)
    kept = weakref.ref(item)
    del item
    assert kept() is not None
    future.cancel()
    assert kept() is None


def test_what_fails_for_one_is_its_own(model, detector):
    detector.may_go.set()

    def fail(result):
        if result.name == "b":
            raise ValueError("of b")
        return result.name

    first, second, third = model.submit(items("a", "b", "c"), fail)
    assert [first.result(PATIENCE), third.result(PATIENCE)] == ["a", "c"]
    with pytest.raises(ValueError, match="of b"):
        second.result(PATIENCE)


def test_a_detector_that_fails_is_tried_again_by_the_next(model, detector):
    detector.error = PluginError("The backend failed.")
    detector.may_go.set()
    (future,) = model.submit(items("a"), name_of)
    with pytest.raises(PluginError):
        future.result(PATIENCE)
    detector.error = None
    (future,) = model.submit(items("b"), name_of)
    assert future.result(PATIENCE) == "b"
    assert model.alive


def test_closing_examines_what_waits_and_takes_no_more(detector, metrics):
    model = Model("fake", detector, Limits(), metrics)
    futures = model.submit(items("a", "b"), name_of)
    detector.may_go.set()
    model.close()
    assert [future.result(0) for future in futures] == ["a", "b"]
    assert detector.closed
    assert not model.alive
    with pytest.raises(Refusal, match="The server is stopping"):
        model.submit(items("c"), name_of)


def test_runs_of_the_network_are_told_by_their_equal_seconds(detector, metrics):
    """Three images are a run of two, and one of one."""
    model = Model("fake", detector, Limits(), metrics)
    model.submit(items("a", "b", "c"), name_of)
    detector.may_go.set()
    model.close()
    text = metrics.write().decode().splitlines()
    assert 'polyface_batch_images_count{model="fake"} 2.0' in text
    assert 'polyface_batch_images_sum{model="fake"} 3.0' in text
    assert 'polyface_batch_images_bucket{le="1.0",model="fake"} 1.0' in text
