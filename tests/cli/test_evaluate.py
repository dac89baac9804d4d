"""``polyface evaluate widerface``: what it measures, keeps and prints, and how it goes on after an interruption."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

import click
import pytest
from PIL import Image

from polyface.cli import group
from polyface.errors import NumericalError, PluginError
from polyface.pipeline.detector import FaceDetector
from polyface.settings.config import Config
from polyface.settings.record import settings
from polyface.storage.places import Place

# Where the images of `image` have their red square, and where they have nothing.
SQUARE, NOTHING = (16, 8, 8, 8), (40, 24, 8, 8)
TRUTH = {
    "0--Parade/a": ([SQUARE], {"easy": [1], "medium": [1], "hard": [1]}),
    "0--Parade/b": ([NOTHING], {"hard": [1]}),
    "1--Handshaking/c": ([SQUARE], {}),
    "1--Handshaking/d": ([SQUARE], {"easy": [1]}),
}
RUN = ("evaluate", "widerface", "--images", "images", "--ground-truth", "ground_truth")
# In a every subset's face is found. In b a false positive counts, and the face of hard is missed.
SUBSETS = {
    "easy": {"faces": 1, "average_precision": 50},
    "medium": {"faces": 1, "average_precision": 50},
    "hard": {"faces": 2, "average_precision": 25},
}


@pytest.fixture(autouse=True)
def data_set(write_mats, image, folder):
    """Ground truth for four images, three of which are there."""
    write_mats(folder / "ground_truth", TRUTH)
    for name in list(TRUTH)[:3]:
        image(f"images/{name}.jpg", quality=100, subsampling=0)


@pytest.fixture
def report(polyface):
    """Run the command with ``--json``; it must succeed without a word on standard error."""

    def run(*arguments, stderr=""):
        result = polyface(*(arguments or RUN), "--json")
        assert (result.exit_code, result.stderr) == (0, stderr)
        return json.loads(result.stdout)

    return run


def rows(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_report_has_the_figures_over_the_images_that_are_there_and_how_they_were_made(report):
    actual = report()
    assert {key: actual[key] for key in ("dataset", "evaluated", "of", "subsets", "failed")} == {
        "dataset": "WIDER FACE",
        "evaluated": 3,
        "of": 4,
        "subsets": SUBSETS,
        "failed": {},
    }
    assert {key: actual[key] for key in ("images", "ground_truth", "predictions", "plot")} == {
        "images": "images",
        "ground_truth": "ground_truth",
        "predictions": "widerface-results/predictions",
        "plot": "widerface-results/precision_recall.png",
    }
    made = actual["settings"]
    assert made["versions"].keys() == {"polyface", "numpy"}
    wanted = {
        "detector": "example-redbox",
        "graph_version": 1,
        "weights": "",
        "backend": "numpy",
        "device": "cpu",
        "precision": "fp32",
        "providers": [],
        "pad_to": 32,
    }
    assert {key: made[key] for key in wanted} == wanted
    assert made == json.loads(Path("widerface-results/settings.json").read_text())


def test_the_table_has_them_too(polyface):
    result = polyface(*RUN, "--max-side", "64")
    assert (result.exit_code, result.stderr) == (0, "")
    table = rows(result.stdout)
    assert table[0] == "WIDER FACE, 3 of 4 images"
    for row in (
        "Subset Faces Average precision",
        "easy 1 50.00",
        "medium 1 50.00",
        "hard 2 25.00",
        "detector example-redbox",
        "weights none needed",
        "backend numpy",
        "score_threshold 0.02",
        "max_side 64",
        "predictions widerface-results/predictions",
    ):
        assert row in table
    assert not [row for row in table if row.startswith("flip")]


def test_predictions_are_kept_in_the_official_format_and_evaluate_alike(report, folder):
    first = report()
    files = sorted(path.relative_to(folder / "widerface-results/predictions") for path in folder.rglob("*.txt"))
    assert [file.as_posix() for file in files] == ["0--Parade/a.txt", "0--Parade/b.txt", "1--Handshaking/c.txt"]
    name, count, row = Path("widerface-results/predictions/0--Parade/a.txt").read_text().splitlines()
    assert (name, count) == ("a", "1")
    assert [float(cell) for cell in row.split()] == pytest.approx([*SQUARE, 0.99966], abs=0.05)
    again = report(*RUN, "--predictions", "widerface-results/predictions")
    assert (again["subsets"], again["settings"], again["plot"]) == (first["subsets"], None, None)


def test_an_image_of_the_curve_that_cannot_be_written_takes_no_figure_with_it(polyface, folder):
    (folder / "file").write_text("in the way")
    result = polyface(*RUN, "--plot", "file/curve.png", "--json")
    assert (result.exit_code, json.loads(result.stdout)["subsets"]) == (2, SUBSETS)
    assert result.stderr.startswith("error: Cannot write to file/curve.png.\n  - ")
    assert result.stderr.endswith("\nTo fix it: name another file\n")


def test_an_image_of_the_curve_is_drawn_beside_them_or_where_it_is_told(report):
    report()
    report(*RUN, "--predictions", "widerface-results/predictions", "--plot", "curves/mine.webp")
    for path, kind in (("widerface-results/precision_recall.png", "PNG"), ("curves/mine.webp", "WEBP")):
        with Image.open(path) as image:
            assert (image.format, image.size) == (kind, (720, 600))
            assert len(image.convert("RGB").getcolors(1 << 20)) > 10  # not all white


class TestThreshold:
    def test_it_is_that_of_the_protocol_where_none_is_set(self, report):
        assert report()["settings"]["score_threshold"] == 0.02

    def test_a_preset_brings_its_own(self, report):
        assert report(*RUN, "--preset", "dsfd-multiscale")["settings"]["score_threshold"] == 0.01

    def test_one_of_a_file_meant_for_use_is_taken_and_said(self, polyface, folder):
        Path("polyface.toml").write_text("score_threshold = 0.6")
        result = polyface(*RUN, "--json")
        assert result.exit_code == 0
        assert json.loads(result.stdout)["settings"]["score_threshold"] == 0.6
        assert result.stderr == (
            f"note: score_threshold 0.6 ({folder / 'polyface.toml'}) cuts off what a precision-recall curve needs, and "
            "lowers average precision; usual is 0.02\n"
        )


class TestInterruption:
    @pytest.fixture
    def detected(self, monkeypatch):
        """The images that a detector sees; while it sees the second, somebody interrupts, once."""
        read, seen = FaceDetector.read, []

        def interrupted(self, image):
            seen.append(image.name)
            if len(seen) == 2:
                raise KeyboardInterrupt
            return read(self, image)

        monkeypatch.setattr(FaceDetector, "read", interrupted)
        return seen

    def test_the_same_command_goes_on_from_there(self, polyface, report, detected):
        result = polyface(*RUN, "--json", "--batch-size", 1)
        assert (result.exit_code, result.stdout) == (130, "")
        assert result.stderr == "interrupted after 1 of 3; the same command goes on from there\n"
        assert report(*RUN, stderr="note: 1 of 3 images were done before\n")["subsets"] == SUBSETS
        assert detected == ["a.jpg", "b.jpg", "b.jpg", "c.jpg"]

    def test_while_a_file_is_written_nothing_of_it_stays(self, polyface, report, folder, monkeypatch):
        atomic_write, calls = Place.atomic_write, []

        @contextlib.contextmanager
        def interrupted(self, name):
            calls.append(name)
            with atomic_write(self, name) as stream:
                if len(calls) == 3:  # settings, the first image, the second
                    stream.write(b"b.jpg")
                    raise KeyboardInterrupt
                yield stream

        with monkeypatch.context() as patch:
            patch.setattr(Place, "atomic_write", interrupted)
            assert polyface(*RUN).exit_code == 130
        files = [path.name for path in (folder / "widerface-results").rglob("*") if path.is_file()]
        assert sorted(files) == ["a.txt", "settings.json"]
        assert report(*RUN, stderr="note: 1 of 3 images were done before\n")["subsets"] == SUBSETS

    def test_other_settings_do_not_go_on_with_these_predictions(self, polyface, report):
        report()
        result = polyface(*RUN, "--pad-to", "8", "--flip")
        assert result.exit_code == 2
        assert result.stderr == (
            "error: The predictions in widerface-results were made with other settings.\n"
            "  - pad_to: 32 there, 8 now\n"
            "  - flip: False there, True now\n"
            "To fix it: choose another --output; or: to begin again: "
            "rm -r widerface-results/predictions widerface-results/settings.json\n"
        )
        assert report(*RUN, "--pad-to", "8", "--flip", "--output", "other")["subsets"] == SUBSETS

    def test_what_moves_no_box_may_change(self, report):
        report()
        report(*RUN, "--batch-size", "2", stderr="note: 3 of 3 images were done before\n")


def test_a_fault_of_a_plugin_ends_the_run_and_keeps_what_was_done(polyface, report, monkeypatch):
    read = FaceDetector.read

    def faulty(self, image):
        if image.name == "c.jpg":
            raise PluginError("The plugin is broken.")
        return read(self, image)

    with monkeypatch.context() as patch:
        patch.setattr(FaceDetector, "read", faulty)
        result = polyface(*RUN, "--batch-size", 1, "--workers", 0)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", "error: The plugin is broken.\n")
    assert report(*RUN, stderr="note: 2 of 3 images were done before\n")["subsets"] == SUBSETS


def test_a_failure_of_the_network_ends_the_run_at_the_first_image(polyface, report, monkeypatch):
    with monkeypatch.context() as patch:
        asked = []

        def fail(self, images, *_):
            asked.append(len(images))
            raise NumericalError("The network gave numbers that are not finite.")

        patch.setattr(FaceDetector, "_detect_window", fail)
        result = polyface(*RUN, "--batch-size", 1, "--workers", 0)
    assert (result.exit_code, asked) == (2, [1])
    assert result.stderr.splitlines()[-1] == "error: The network gave numbers that are not finite."
    assert report(*RUN)["subsets"] == SUBSETS


class TestImagesThatCannotBeRead:
    def test_count_as_without_faces_are_named_and_end_with_status_1(self, polyface):
        Path("images/0--Parade/a.jpg").write_bytes(b"no image")
        result = polyface(*RUN, "--json")
        assert result.exit_code == 1
        first, last = result.stderr.splitlines()
        assert first.startswith("0--Parade/a: is not an image in a format that is read: ")
        assert last == "note: counted as without faces, since they could not be read, 1: 0--Parade/a"
        actual = json.loads(result.stdout)
        assert list(actual["failed"]) == ["0--Parade/a"]
        assert {subset: figures["average_precision"] for subset, figures in actual["subsets"].items()} == {
            "easy": 0,
            "medium": 0,
            "hard": 0,
        }
        assert rows(polyface(*RUN).stdout)[0] == "WIDER FACE, 3 of 4 images, 1 of them not read"

    def test_are_tried_again(self, polyface, report):
        path = Path("images/0--Parade/a.jpg")
        whole = path.read_bytes()
        path.write_bytes(whole[:200])
        assert polyface(*RUN).exit_code == 1
        path.write_bytes(whole)
        assert report(*RUN, stderr="note: 2 of 3 images were done before\n")["subsets"] == SUBSETS

    def test_that_do_not_fit_into_memory_are_among_them(self, polyface, monkeypatch):
        def detect(self, *args):
            raise MemoryError

        monkeypatch.setattr(FaceDetector, "_detect_window", detect)
        result = polyface(*RUN, "--json")
        assert result.exit_code == 1
        failed = json.loads(result.stdout)["failed"].values()
        assert {reason.partition("; to fix it: ")[0] for reason in failed} == {"does not fit into memory"}


class TestPredictionsOfOthers:
    @pytest.fixture(autouse=True)
    def predictions(self):
        """Somebody's files for every image of the ground truth: all faces, exactly."""
        for name, (boxes, _) in TRUTH.items():
            path = Path("theirs", f"{name}.txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name}.jpg\n1\n{' '.join(map(str, boxes[0]))} 0.9\n")

    EVERY = ("evaluate", "widerface", "--predictions", "theirs", "--ground-truth", "ground_truth")

    def test_are_evaluated_over_the_whole_ground_truth(self, report):
        actual = report(*self.EVERY)
        assert (actual["evaluated"], actual["of"]) == (4, 4)
        assert actual["subsets"]["easy"] == {"faces": 2, "average_precision": 100}

    def test_or_over_the_images_that_are_there_and_what_is_left_out_is_said(self, report):
        note = "note: predictions for images that are not evaluated are left out, 1: 1--Handshaking/d\n"
        actual = report(*self.EVERY, "--images", "images", stderr=note)
        assert (actual["evaluated"], actual["of"]) == (3, 4)
        assert actual["subsets"]["hard"] == {"faces": 2, "average_precision": 100}

    def test_that_are_missing_are_named(self, polyface):
        Path("theirs/0--Parade/b.txt").unlink()
        result = polyface(*self.EVERY)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "theirs has no predictions for 1 of 4 images.\n  - 1: 0--Parade/b\n" in result.stderr
        assert "or evaluate only the images that have predictions" in result.stderr

    def test_that_are_damaged_are_named(self, polyface):
        Path("theirs/0--Parade/b.txt").write_text("b\n1\n1 2 3 4 nan\n")
        result = polyface(*self.EVERY)
        assert result.exit_code == 2
        assert "theirs/0--Parade/b.txt does not hold predictions" in result.stderr

    def test_run_no_detector(self, report, monkeypatch):
        monkeypatch.setenv("POLYFACE_DETECTOR", "nobody-has-this")
        report(*self.EVERY)

    @pytest.mark.parametrize(
        "options", [("--backend", "numpy"), ("--pad-to", "1"), ("--output", "out"), ("--config", "x"), ("--no-flip",)]
    )
    def test_leave_no_part_to_what_is_said_of_a_detector(self, polyface, options):
        result = polyface(*self.EVERY, *options)
        assert result.exit_code == 2
        flag = options[0].replace("--no-", "--")
        assert f"--predictions runs no detector, so {flag} has no part in it." in result.stderr


class TestBeforeTheFirstImage:
    @pytest.fixture(autouse=True)
    def no_detector(self, monkeypatch):
        def create(**options):
            raise AssertionError("the detector was made")

        monkeypatch.setattr("polyface.building.create_detector", create)

    def test_a_missing_package_is_named_with_its_command(self, polyface, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        result = polyface(*RUN)
        assert result.exit_code == 2
        assert "needs matplotlib, which cannot be imported" in result.stderr
        assert "To fix it: pip install 'polyface[evaluate]'" in result.stderr

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--ground-truth", "ground_truth"), "There is nothing to evaluate."),
            (("--ground-truth", "nowhere", "--images", "images"), "nowhere is not there"),
            (("--ground-truth", "images", "--images", "images"), "images lacks wider_face_val.mat"),
            (("--ground-truth", "ground_truth", "--images", "ground_truth"), "has none of the 4 images"),
            ((*RUN[2:], "--plot", "x.xyz"), "matplotlib writes no image named x.xyz"),
            ((*RUN[2:], "--plot", "x"), "matplotlib writes no image named x"),
        ],
    )
    def test_what_is_wrong_is_said(self, polyface, arguments, said):
        result = polyface("evaluate", "widerface", *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert said in result.stderr


def test_images_without_ground_truth_are_named(report, image):
    image("images/9--Other/x.jpg")
    actual = report(*RUN, stderr="note: images without ground truth are left out, 1: 9--Other/x\n")
    assert actual["evaluated"] == 3


def test_hidden_files_beside_the_images_are_nobodys(report):
    for name in ("images/0--Parade/._a.jpg", "images/.git/b.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"of a file system that has no place for it")
    assert report()["subsets"] == SUBSETS


def test_a_folder_of_images_that_cannot_be_listed_ends_the_evaluation(polyface, monkeypatch):
    listdir = os.listdir

    def guarded(path):
        if Path(path).name == "1--Handshaking":
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", guarded)
    result = polyface(*RUN)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "images cannot be searched" in result.stderr
    assert "images/1--Handshaking" in result.stderr


def test_the_text_file_gives_one_subset(report):
    text = "".join(
        f"{name}.jpg\n1\n{' '.join(map(str, boxes[0]))} 0 0 0 {int(name.endswith('b'))} 0 0\n"
        for name, (boxes, _) in TRUTH.items()
    )
    Path("gt.txt").write_text(text)
    actual = report(*RUN[:-1], "gt.txt")
    # Two of two are found, and the false positive in b scores alike: precision 2/3.
    assert actual["subsets"] == {"all": {"faces": 2, "average_precision": pytest.approx(200 / 3)}}


def test_a_subset_without_faces_has_no_figure(polyface, write_mats, folder):
    write_mats(folder / "ground_truth", {name: (boxes, {"hard": [1]}) for name, (boxes, _) in TRUTH.items()})
    result = polyface(*RUN, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["subsets"]["easy"] == {"faces": 0, "average_precision": None}
    assert "easy 0 -" in rows(polyface(*RUN).stdout)


def test_a_folder_that_cannot_be_written_to_is_named(polyface):
    Path("taken").write_text("a file")
    result = polyface(*RUN, "--output", "taken")
    assert result.exit_code == 2
    assert "Cannot write to taken." in result.stderr


def test_every_option_has_a_help_text_and_every_setting_of_a_detector_is_one(polyface):
    result = polyface("evaluate", "widerface", "--help")
    command = group.get_command(click.Context(group), "evaluate").commands["widerface"]
    assert all(option.help and option.opts[0] in result.stdout for option in command.params)
    names = {option.name for option in command.params}
    assert {key.name for key in settings(Config)} - {"timing"} <= names
