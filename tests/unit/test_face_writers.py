"""Folders of faces, and of images without them."""

from __future__ import annotations

from pathlib import PurePath

import numpy as np
import pytest
from PIL import Image

from pixels import noise
from polyface.errors import ConfigError, ImageError, UnsupportedError
from polyface.images.faces import align
from polyface.images.reading import Decoded
from polyface.results import Detections, Item, Result
from polyface.storage.places import Place
from polyface.writers.crops import Crops

FACES = Detections(boxes=[[2, 3, 22, 33], [30, 10, 50, 20]], scores=[0.9, 0.8])
NONE = Detections.from_dicts([])


def result_of(name, faces=FACES, *, image=None, pixels=None, **fields):
    """The result of an image below a folder of one letter or more."""
    pixels = noise(40, 60) if pixels is None else pixels
    decoded = Decoded(pixels=pixels)
    item = Item(name=name, image=pixels if image is None else image, relative=PurePath(*PurePath(name).parts[1:]))
    height, width = decoded.shape
    return Result(name=name, width=width, height=height, faces=faces, image=decoded, item=item, **fields)


def smooth(height=40, width=60):
    """An image that a JPEG keeps."""
    y, x = np.mgrid[:height, :width]
    return np.stack([2 * x, 3 * y, x + y], axis=2).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """The folder written to, as a place."""
    with Place(tmp_path / "out", folder=True) as place:
        yield place


def files(place):
    return sorted(path.relative_to(place.path).as_posix() for path in place.path.rglob("*.*") if path.suffix != ".lock")


class TestCrops:
    def test_are_numbered_from_the_best_face_on_below_the_images_own_folder(self, folder):
        made = Crops(folder).write(result_of("in/sub/a.png", pixels=smooth()))
        assert made == {"crops": ["sub/a-1.jpg", "sub/a-2.jpg"]}
        for name, (left, top, right, bottom) in zip(made["crops"], FACES.boxes.astype(int).tolist(), strict=True):
            with Image.open(folder.path / name) as face:
                wanted = smooth()[top:bottom, left:right].astype(int)
                np.testing.assert_allclose(np.asarray(face), wanted, atol=12)

    def test_may_have_a_margin_or_be_aligned(self, folder):
        Crops(folder, margin=0.1).write(result_of("in/a.png"))
        with Image.open(folder.path / "a-1.jpg") as face:
            assert face.size == (2 + 20 + 3, 3 + 30 + 3)
        marks = [[[8, 10], [16, 10], [12, 15], [9, 20], [15, 20]]] * 2
        five = Detections(boxes=FACES.boxes, scores=FACES.scores, landmarks=marks)
        Crops(folder, size=96).write(result_of("in/b.png", five, pixels=smooth()))
        with Image.open(folder.path / "b-1.jpg") as face:
            np.testing.assert_allclose(np.asarray(face), align(smooth(), five, size=96)[0].astype(int), atol=30)

    def test_of_another_image_of_that_name_take_the_next_numbers_and_keep_them(self, folder):
        for _ in range(2):  # the run, and the next
            writer = Crops(folder)
            assert writer.write(result_of("one/a.png"))["crops"] == ["a-1.jpg", "a-2.jpg"]
            assert writer.write(result_of("two/a.jpg"))["crops"] == ["a-3.jpg", "a-4.jpg"]
            assert files(folder) == ["a-1.jpg", "a-2.jpg", "a-3.jpg", "a-4.jpg"]

    def test_do_not_take_the_place_of_a_file_of_somebody_else(self, folder):
        (folder.path / "a-1.jpg").write_bytes(b"precious")
        assert Crops(folder).write(result_of("in/a.png"))["crops"] == ["a-2.jpg", "a-3.jpg"]
        assert (folder.path / "a-1.jpg").read_bytes() == b"precious"

    def test_without_faces_are_none_and_of_an_error_nothing(self, folder):
        writer = Crops(folder)
        assert writer.write(result_of("in/a.png", NONE)) == {"crops": []}
        assert writer.write(result_of("in/a.png", error=ImageError("it is damaged"))) == {"crops": None}
        assert files(folder) == []

    def test_that_cannot_be_made_as_asked_are_refused(self, folder):
        with pytest.raises(UnsupportedError, match="cannot be aligned"):
            Crops(folder, size=112).write(result_of("in/a.png"))
        with pytest.raises(ConfigError, match="margin must be"):
            Crops(folder, margin=-1).write(result_of("in/a.png"))
