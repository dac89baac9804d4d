"""Items in, results out, in order: one item's failure is its own."""

from __future__ import annotations

import functools
import gc
import itertools
import threading
import weakref
from pathlib import Path, PurePath

import numpy as np
import pytest
from PIL import Image

from polyface.errors import BackendUnavailableError, ClosedError, ConfigError, ImageError, PluginError
from polyface.results import Item
from toy_network import faces, make_image, one_face, shapes


@pytest.fixture(params=[0, 3], ids=["one after the other", "in threads"])
def make(make, request):
    return functools.partial(make, workers=request.param)


def names(results):
    return [result.name for result in results]


def test_each_image_has_the_faces_that_it_has_alone_in_the_order_given(make):
    detector = make()
    images = [make_image(red, height=20 + red) for red in (5, 3, 9, 3)]
    results = list(detector.stream(images, batch_size=3))
    assert [result.faces for result in results] == [detector.detect(image) for image in images]
    assert [(result.width, result.height, result.error) for result in results] == [
        (20, 25, None),
        (20, 23, None),
        (20, 29, None),
        (20, 23, None),
    ]


class TestNames:
    def test_are_given_with_the_image_or_the_path_or_the_number(self, make, tmp_path):
        path = tmp_path / "a.png"
        Image.fromarray(make_image(1)).save(path)
        items = [make_image(1), ("mine", make_image(2)), path, str(path), path.read_bytes()]
        assert names(make().stream(items)) == ["0", "mine", str(path), str(path), "4"]

    def test_of_an_item_stay_with_all_that_it_says(self, make):
        item = Item(name="clip.mp4#7", image=make_image(1), relative=PurePath("clip/7"), extra={"frame": 7})
        [result] = make().stream([item])
        assert (result.name, result.item, result.extra) == ("clip.mp4#7", item, {"frame": 7})


class TestFailures:
    def test_of_one_item_are_its_error_and_the_next_are_done(self, make):
        items = [b"no image", make_image(3), Path("missing.png"), Item(name="known", problem="it is not there"), 7]
        results = list(make().stream(items))
        assert names(results) == ["0", "1", "missing.png", "known", "4"]
        assert [type(result.error) for result in results] == [ImageError, type(None), *[ImageError] * 3]
        assert results[3].reason == "it is not there"
        assert [len(result.faces) for result in results] == [0, 1, 0, 0, 0]

    def test_of_a_batch_are_those_of_the_one_that_fails_alone_too(self, make):
        def network(batch):
            if (batch[:, 0, 0, 0] == 7).any():
                raise BackendUnavailableError("The runtime ran out of something.")
            return one_face(batch)

        results = list(make(network).stream([make_image(red) for red in (5, 7, 9)]))
        assert [result.error and result.error.what for result in results] == [
            None,
            "The runtime ran out of something.",
            None,
        ]
        assert [round(float(face.box[0])) for result in results for face in result.faces] == [5, 9]

    def test_without_memory_are_told_with_the_settings_that_need_less(self, make):
        def network(batch):
            raise MemoryError

        [result] = make(network).stream([make_image(1)])
        assert result.reason == "does not fit into memory"
        assert {"max_side", "pad_to"} <= set(result.error.fix.names)

    @pytest.mark.parametrize("error", [PluginError("The plugin is broken."), ClosedError("It is closed.")])
    def test_that_would_be_every_items_end_the_stream(self, make, error):
        def network(batch):
            raise error

        with pytest.raises(type(error)):
            list(make(network).stream([make_image(1), make_image(2)]))

    def test_of_a_detector_that_is_closed_end_the_stream(self, make):
        detector = make()
        detector.close()
        with pytest.raises(ClosedError):
            list(detector.stream([make_image(1)]))

    def test_of_the_iterable_itself_come_after_what_was_taken_before(self, make):
        def items():
            yield make_image(1)
            yield make_image(2)
            raise RuntimeError("the camera was unplugged")

        results = make().stream(items())
        assert [len(next(results).faces), len(next(results).faces)] == [1, 1]
        with pytest.raises(RuntimeError, match="unplugged"):
            next(results)

    @pytest.mark.parametrize("items", ["a.jpg", b"image", make_image(1), Path("a.jpg"), 7])
    def test_of_one_image_in_the_place_of_many_are_told_at_once(self, make, items):
        with pytest.raises(ImageError, match="stream wants an iterable of images"):
            make().stream(items)

    @pytest.mark.parametrize("size", [0, -1, 1.5, True, "many"])
    def test_of_a_batch_size_that_is_no_count_are_told_at_once(self, make, size):
        with pytest.raises(ConfigError, match="batch_size must be a whole number from 1 to 65536"):
            make().stream([], batch_size=size)

    def test_of_other_numbers_that_are_out_of_range_are_told_at_once(self, make):
        with pytest.raises(ConfigError, match="workers must be a whole number from 0 to 1024, not -1"):
            make().stream([], workers=-1)
        with pytest.raises(ConfigError, match="look_ahead must be a whole number from 1 "):
            make().stream([], look_ahead=0)


@pytest.mark.parametrize("make", [0], ids=["one after the other"], indirect=True)
class TestBatches:
    def test_have_at_most_batch_size_images_of_one_shape(self, make):
        detector = make()
        assert len(list(detector.stream([make_image(1)] * 7, batch_size=3))) == 7
        assert [count for count, *_ in shapes(detector)] == [3, 3, 1]

    def test_have_as_many_as_the_setting_says(self, make):
        detector = make(batch_size=2)
        assert len(list(detector.stream([make_image(1)] * 4))) == 4
        assert [count for count, *_ in shapes(detector)] == [2, 2]

    def test_are_taken_when_they_are_asked_for_and_no_earlier(self, make):
        taken = []
        results = make().stream((taken.append(number) or make_image(1) for number in itertools.count()), batch_size=2)
        assert taken == []
        next(results)
        assert taken == [0, 1]
        next(results)
        next(results)
        assert taken == [0, 1, 2, 3]

    def test_end_before_memory_is_full(self, make):
        detector = make()
        assert len(list(detector.stream([make_image(1)] * 5, batch_size=5, look_ahead=2 * 20 * 20 * 3))) == 5
        assert [count for count, *_ in shapes(detector)] == [2, 2, 1]


class TestImages:
    def test_are_kept_only_where_they_are_asked_for(self, make):
        assert [result.image for result in make().stream([make_image(1)])] == [None]
        [result] = make().stream([make_image(1)], keep_images=True)
        assert np.array_equal(result.image.pixels, make_image(1))

    @pytest.mark.parametrize("keep", [False, True])
    def test_of_a_batch_are_gone_when_the_next_is_asked_for(self, make, keep):
        references, reading = [], []

        class Tracked(np.ndarray):
            pass

        def alive():
            gc.collect()
            return sum(reference() is not None for reference in references)

        def items():
            for _ in range(6):
                reading.append(alive())
                image = make_image(1).view(Tracked)
                references.append(weakref.ref(image))
                yield image

        held = [alive() for _ in make().stream(items(), workers=0, batch_size=2, keep_images=keep)]
        # The two of a batch, and the last of the batch before, which the loops still name.
        assert max(held) <= 3
        # What the next is read beside: the first of its batch, and that last one.
        assert max(reading) <= 2


def test_closing_it_early_leaves_no_thread_and_takes_no_further_item(make):
    before, taken = threading.active_count(), []
    items = (taken.append(number) or make_image(1) for number in range(100))
    results = make().stream(items, batch_size=2)
    next(results)
    ahead = len(taken)
    results.close()
    assert (threading.active_count(), len(taken)) == (before, ahead)


def test_seconds_add_up_to_those_of_the_images(make):
    results = list(make(faces((0, 0, 9, 9, 0.9)), timing=True).stream([make_image(1), b"no image", make_image(2)]))
    assert [result.timing is None for result in results] == [False, True, False]
    assert set(results[0].timing) == {"read", "prepare", "network", "trim", "decode", "nms"}


class TestImagesThatAreNotExamined:
    def test_pass_through_in_their_place_without_faces_and_say_so(self, make):
        items = [Item(name=str(number), image=make_image(3), examine=number % 3 == 0) for number in range(7)]
        results = list(make().stream(items, batch_size=2))
        assert names(results) == ["0", "1", "2", "3", "4", "5", "6"]
        assert [len(result.faces) for result in results] == [1, 0, 0, 1, 0, 0, 1]
        assert [result.extra for result in results] == [{} if n % 3 == 0 else {"examined": False} for n in range(7)]
        assert {(result.width, result.height, result.error, result.image) for result in results} == {
            (20, 20, None, None)
        }

    def test_have_their_image_where_images_are_kept(self, make):
        item = Item(name="a", image=make_image(3), examine=False)
        [result] = make().stream([item], keep_images=True)
        assert np.array_equal(result.image.pixels, make_image(3))

    def test_do_not_reach_the_network(self, make):
        items = [Item(name="a", image=make_image(3), examine=False) for _ in range(3)]
        assert [result.timing for result in make(timing=True).stream(items)] == [None] * 3

    def test_that_cannot_be_read_are_errors_as_any(self, make):
        [result] = make().stream([Item(name="a", problem="it is cut short", examine=False)])
        assert (result.reason, result.extra) == ("it is cut short", {})
