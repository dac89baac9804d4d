"""Predictions in WIDER FACE's text format, and the folder of a run."""

from __future__ import annotations

import contextlib
import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyface.errors import ConfigError, EvaluationError
from polyface.measure.widerface import read_prediction, read_predictions
from polyface.results import Detections, Result
from polyface.storage.places import Place
from polyface.writers.wider import WiderText, as_rows

NAME = "0--Parade/0_Parade_marchingband_1_465"


@contextlib.contextmanager
def open_folder(folder, settings):
    """The writer on a folder of a run."""
    with Place(folder, folder=True) as place:
        yield WiderText(place, settings)


def result(name, boxes=(), scores=()):
    faces = Detections(boxes=np.reshape(np.array(boxes, np.float32), (-1, 4)), scores=scores)
    return Result(name=name, width=640, height=480, faces=faces)


@pytest.fixture
def prediction(tmp_path):
    """Write a file, and read it."""

    def read(text):
        path = tmp_path / "image.txt"
        path.write_bytes(text.encode())
        return read_prediction(path)

    return read


def test_a_file_is_written_as_the_official_evaluation_reads_it(tmp_path):
    with open_folder(tmp_path, {}) as folder:
        folder.write(result(NAME, [[1, 2, 11.5, 22], [-3, 0, 4, 5]], [0.75, 0.5]))
    text = (tmp_path / f"predictions/{NAME}.txt").read_text()
    assert text == "0_Parade_marchingband_1_465\n2\n1.0 2.0 10.5 20.0 0.75\n-3.0 0.0 7.0 5.0 0.5\n"


def test_an_image_without_faces_has_a_file_that_says_0(tmp_path):
    with open_folder(tmp_path, {}) as folder:
        folder.write(result(NAME))
    assert (tmp_path / f"predictions/{NAME}.txt").read_text() == "0_Parade_marchingband_1_465\n0\n"
    assert read_predictions(folder.predictions, [NAME])[NAME].shape == (0, 5)


numbers = st.floats(-1e6, 1e6, width=32)


@given(st.lists(st.tuples(numbers, numbers, numbers, numbers, st.floats(0, 1, width=32)), max_size=5))
def test_what_is_read_back_is_what_was_found_to_the_last_digit(tmp_path_factory, rows):
    table = np.array(rows, np.float32).reshape(-1, 5)
    expected = as_rows(Detections(boxes=table[:, :4], scores=table[:, 4]))
    with open_folder(tmp_path_factory.getbasetemp() / "to-the-last-digit", {}) as folder:
        folder.write(result(NAME, table[:, :4], table[:, 4]))
    assert np.array_equal(read_predictions(folder.predictions, [NAME])[NAME], expected)


@pytest.mark.parametrize(
    "text",
    [
        "x\n2\n1 2 3 4 0.5\n5 6 7 8 9e-1\n",
        "# 0--Parade/x.jpg\r\n2\r\n1 2 3 4 .5\r\n5\t6 7 8 0.9 \r\n",
        "\n2 \n 1 2 3 4 0.5 7 7\n5 6 7 8 0.9 7 7\n\n\n",
    ],
    ids=["plain", "CRLF and tabs", "further columns and blank lines at the end"],
)
def test_what_others_write_is_read(prediction, text):
    assert prediction(text).tolist() == [[1, 2, 3, 4, 0.5], [5, 6, 7, 8, 0.9]]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "list index out of range"),
        ("x\n", "list index out of range"),
        ("x\nmany\n", "invalid literal for int"),
        ("x\n2\n1 2 3 4 0.5\n", "line 2 says 2 faces, and there are 1 more lines"),
        ("x\n1\n1 2 3 4 0.5\n5 6 7 8 0.9\n", "line 2 says 1 faces, and there are 2 more lines"),
        ("x\n-1\n", "line 2 says -1 faces"),
        ("x\n1\n1 2 3 4\n", "cannot reshape"),
        ("x\n2\n1 2 3 4 5\n1 2 3 4\n", "inhomogeneous"),
        ("x\n1\n1,2,3,4,0.5\n", "could not convert string to float"),
        ("x\n2\n1 2 3 4 0.5\n1 2 3 4 nan\n", "line 4 has a number that is not finite"),
        ("x\n1\n1 2 inf 4 0.5\n", "line 3 has a number that is not finite"),
    ],
)
def test_a_file_that_is_not_in_the_format_is_refused_by_its_name(prediction, text, why):
    with pytest.raises(EvaluationError, match=r"image\.txt does not hold predictions") as raised:
        prediction(text)
    assert why in raised.value.why[0]


@given(st.binary(max_size=60))
def test_a_file_of_anything_is_refused_or_read(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "anything.txt"
    path.write_bytes(data)
    try:
        rows = read_prediction(path)
    except EvaluationError:
        return
    assert rows.shape[1:] == (5,)
    assert np.isfinite(rows).all()


def test_images_without_a_file_are_counted_and_the_first_five_named(tmp_path):
    names = [f"e/{index}" for index in range(8)]
    with open_folder(tmp_path, {}) as folder:
        folder.write(result("e/0"))
    with pytest.raises(EvaluationError, match="has no predictions for 7 of 8 images") as raised:
        read_predictions(tmp_path / "predictions", names)
    assert raised.value.why == ("7: e/1, e/2, e/3, e/4, e/5 and 2 more",)


SETTINGS = {"detector": "toy", "scales": (0.5, 1.0), "score_threshold": 0.02}


def run(folder, settings=SETTINGS, names=()):
    """A run into the folder that predicts those images."""
    with open_folder(folder, settings) as results:
        for name in names:
            results.write(result(name))


class TestFolderOfARun:
    def test_the_same_settings_go_on(self, tmp_path):
        run(tmp_path, names=["e/a"])
        with open_folder(tmp_path, SETTINGS) as folder:
            assert ("e/a" in folder, "e/b" in folder) == (True, False)

    def test_other_settings_are_refused_with_what_differs_and_change_nothing(self, tmp_path):
        run(tmp_path)
        before = (tmp_path / "settings.json").read_bytes()
        with pytest.raises(EvaluationError, match="were made with other settings") as raised:
            run(tmp_path, {**SETTINGS, "score_threshold": 0.5, "flip": True})
        assert raised.value.why == ("score_threshold: 0.02 there, 0.5 now", "flip: None there, True now")
        assert str(raised.value.fix).startswith("choose another output; or: to begin again: rm -r ")
        assert (tmp_path / "settings.json").read_bytes() == before
        run(tmp_path)  # the refused run has let go of the folder

    @pytest.mark.parametrize("text", [None, "", "[]", "{", "\xff", "[" * 100_000, "1" * 5000], ids=range(7))
    def test_predictions_made_nobody_knows_how_are_refused(self, tmp_path, text):
        run(tmp_path)
        (tmp_path / "settings.json").unlink()
        if text is not None:
            (tmp_path / "settings.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(EvaluationError, match="were made is not known"), open_folder(tmp_path, SETTINGS):
            pass

    def test_a_folder_of_something_else_is_added_to(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        run(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "predictions", "settings.json"]
        assert json.loads((tmp_path / "settings.json").read_text())["scales"] == [0.5, 1.0]

    def test_one_run_at_a_time_writes_to_it(self, tmp_path):
        with open_folder(tmp_path, SETTINGS), pytest.raises(ConfigError, match="Another run writes to the folder"):
            run(tmp_path)

    @pytest.mark.parametrize("link", ["predictions", "predictions/e"])
    def test_nothing_is_written_through_a_link_in_it(self, tmp_path, link):
        mine, folder = tmp_path / "mine", tmp_path / "results"
        mine.mkdir()
        run(folder)
        (folder / "predictions").rmdir()
        (folder / link).parent.mkdir(exist_ok=True)
        (folder / link).symlink_to(mine)
        with pytest.raises(OSError, match="links in a folder of results are not followed"):
            run(folder, names=["e/a"])
        assert list(mine.iterdir()) == []

    def test_that_is_moved_away_is_noticed_and_not_made_anew(self, tmp_path):
        with open_folder(tmp_path / "here", SETTINGS) as folder:
            (tmp_path / "here").rename(tmp_path / "there")
            with pytest.raises(OSError, match="was removed, moved or replaced"):
                folder.write(result("e/a"))
        assert [path.name for path in tmp_path.iterdir()] == ["there"]

    def test_an_image_whose_name_is_not_utf8_is_written_and_read(self, tmp_path):
        name = os.fsdecode(b"e/caf\xe9")
        run(tmp_path, names=[name])
        assert read_predictions(tmp_path / "predictions", [name])[name].shape == (0, 5)
