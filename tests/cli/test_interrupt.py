"""A run that is interrupted leaves whole lines and whole images."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys

import pytest
from PIL import Image

from polyface.pipeline.detector import FaceDetector
from polyface.storage.places import Place

ONE_BY_ONE = ("--batch-size", 1, "--workers", 0)
"""The second image is looked at once the first is written."""


def check_whole(out):
    """Check that every line and drawing is whole, and return the images of the lines."""
    text = (out / "faces.jsonl").read_text()
    assert text.endswith("\n")
    names = [json.loads(line)["image"] for line in text.splitlines()]
    drawings = [path for path in out.iterdir() if path.name != "faces.jsonl"]
    for drawing in drawings:
        assert drawing.name.endswith("_out.jpg")
        with Image.open(drawing) as image:
            image.load()
    # The drawing comes before its line.
    assert len(drawings) - len(names) in (0, 1)
    return names


@pytest.fixture
def five(image):
    return [image(f"in/{index}.png") for index in range(5)]


def test_while_the_third_image_is_detected(polyface, five, folder, monkeypatch):
    detect, calls = FaceDetector._detect_window, []

    def interrupted(self, *args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return detect(self, *args)

    monkeypatch.setattr(FaceDetector, "_detect_window", interrupted)
    result = polyface("detect", "in", "--output", "out", *ONE_BY_ONE)
    said = "interrupted after 2 of 5; what was written is whole, and --resume goes on from there\n"
    assert (result.exit_code, result.stderr) == (130, said)
    assert check_whole(folder / "out") == ["in/0.png", "in/1.png"]
    calls.clear()
    again = polyface("detect", "in", "--output", "out", *ONE_BY_ONE, "--resume")
    assert (again.exit_code, again.stderr.partition(";")[0]) == (130, "interrupted after 4 of 5")
    assert polyface("detect", "in", "--output", "out", "--resume").exit_code == 0
    assert check_whole(folder / "out") == [f"in/{index}.png" for index in range(5)]


def test_without_a_file_of_results_there_is_nothing_to_go_on_with(polyface, five, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(FaceDetector, "_detect_window", interrupted)
    result = polyface("detect", "in", "--json")
    assert (result.exit_code, result.stderr) == (130, "interrupted after 0 of 5; what was written is whole\n")


def test_while_the_third_drawing_is_written(polyface, five, folder, monkeypatch):
    atomic_write, calls = Place.atomic_write, []

    @contextlib.contextmanager
    def interrupted(self, name):
        calls.append(name)
        with atomic_write(self, name) as stream:
            if len(calls) == 3:
                stream.write(b"half of a JPEG")
                raise KeyboardInterrupt
            yield stream

    monkeypatch.setattr(Place, "atomic_write", interrupted)
    assert polyface("detect", "in", "--output", "out").exit_code == 130
    assert check_whole(folder / "out") == ["in/0.png", "in/1.png"]


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (["detect", "in"], "building.build_for_many"),
        (["matrix"], "plugins.manager.PluginManager.by_name"),
        (["--help"], "plugins.manager.PluginManager.by_name"),
    ],
)
def test_while_it_starts(polyface, five, monkeypatch, arguments, place):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"polyface.{place}", interrupted)
    result = polyface(*arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "interrupted\n")


def test_by_a_signal_to_a_real_process(image, folder):
    # The lines are more than a pipe holds, so the process cannot be done before the signal: nobody reads the rest.
    count = 400
    for index in range(count):
        image(f"in/{index:03}{'x' * 200}.png")
    # A shell's background jobs ignore the signal, and hand that down.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); import polyface.cli as c;"
    command = [sys.executable, "-c", f"{code} c.main(sys.argv[1:])", "detect", "in", "--output", "out", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(3):
            assert json.loads(process.stdout.readline())["error"] is None
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "what was written is whole" in stderr
    assert 3 <= len(check_whole(folder / "out")) < count
