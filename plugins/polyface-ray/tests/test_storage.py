"""Files of storage services; ``file://`` goes the way of all of them."""

from __future__ import annotations

import pickle
from pathlib import PurePosixPath

import pytest

import polyface
from polyface.errors import ConfigError, ImageError
from polyface.plugins.protocols import Search

pytest.importorskip("pyarrow", reason="needs pyarrow: pip install polyface-ray")

from polyface_ray.storage import Storage, StoredFile, is_uri, open_location


def test_a_uri_is_told_from_a_path():
    assert [is_uri(text) for text in ("s3://b/a.jpg", "gs://b", "a/b://c", "/a.jpg", "C:/a.jpg")] == [
        *(True, True),
        *(False, False, False),
    ]


def test_nothing_in_a_path_is_an_escape(tmp_path):
    (tmp_path / "a%20b ?#.txt").write_bytes(b"here")
    system, path = open_location(f"file://{tmp_path}/a%20b ?#.txt")
    assert system.open_input_stream(path).read() == b"here"


def test_an_unknown_service_is_refused():
    with pytest.raises(ConfigError, match="'nothing://x' cannot be opened"):
        open_location("nothing://x/a.jpg")


def test_a_file_is_read_in_pieces_and_again_and_elsewhere(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"12345")
    file = pickle.loads(pickle.dumps(StoredFile(f"file://{tmp_path}/a.txt")))  # noqa: S301 - our own
    assert [file.read(3), file.read(3), file.read(3), file.read(5)] == [b"123", b"45", b"", b"12345"]
    assert StoredFile(f"file://{tmp_path}/a.txt").read() == b"12345"


def test_a_file_that_is_not_there_is_an_error_of_the_image(tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        StoredFile(f"file://{tmp_path}/none.jpg").read()
    with pytest.raises(ImageError, match="cannot be read"):
        StoredFile(f"file://{tmp_path}").read()


def test_an_image_is_read_through_it(photos):
    image = polyface.read_image(StoredFile(f"file://{photos}/0000.jpg"))
    assert image.shape == (96, 96, 3)


def test_a_folder_has_its_images_sorted_and_leaves_out_what_is_hidden(tmp_path):
    for name in ("b/2.JPG", "a.png", ".hidden/3.jpg", "b/.4.jpg", "notes.txt"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    source = Storage(f"file://{tmp_path}/photos/", Search())
    assert [item.name for item in source] == [f"file://{tmp_path}/photos/{name}" for name in ("a.png", "b/2.JPG")]
    assert [item.relative for item in source] == [PurePosixPath("a.png"), PurePosixPath("b/2.JPG")]
    assert (source.count(), dict(source.left_out)) == (2, {"hidden files": 2})


def test_a_folder_without_images_is_an_item_with_its_problem(tmp_path):
    [item] = Storage(f"file://{tmp_path}", Search())
    assert item.problem == "the folder has no images"
