"""A run that is killed at any moment and then resumed ends as one that nothing disturbed."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from polyface.machine.drivers import is_installed
from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import WriterSpec

PARQUET = ["faces.parquet"] if "parquet" in installed_plugins().by_name(WriterSpec) and is_installed("pyarrow") else []
DOCUMENTS = ("faces.csv", "faces.coco.json", "faces.wider.txt", *PARQUET)
OUTPUTS = ("", "crops:crops/", "anonymized:nobody/", *DOCUMENTS)
"""What is written at once; all lies in one folder."""

INPUTS = ("one", "missing.png", "two")

RUN = """
import sys
import polyface.building, polyface.images.drawing, polyface.jobs.outputs, polyface.jobs.run, polyface.writers.images
import polyface.writers.anonymized, polyface.writers.crops
from polyface.cli import main
print(flush=True)
main(sys.argv[1:])
"""


def arguments(folder, *options, outputs=OUTPUTS):
    """The command line of a run over the images that writes into a folder."""
    split = [output.rpartition(":") for output in outputs]
    named = [part for name, colon, path in split for part in ("--output", f"{name}{colon}{folder}/{path}")]
    return ["detect", *INPUTS, *named, "--batch-size", "3", *options]


def start(folder, *options):
    """Start a run, and return it once only its work is ahead."""
    command = [sys.executable, "-c", RUN, *arguments(folder, *options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    process.stdout.readline()
    return process


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
    }


@pytest.fixture
def images(image):
    """Images with faces and without, of the same names in two folders, and some that cannot be read."""
    for index in range(12):
        for folder in ("one", "two"):
            image(f"{folder}/{index:02}.png", 64 + index)
            Image.new("RGB", (40, 30)).save(f"{folder}/{index:02} none.png")
        Path(f"two/{index:02} damaged.png").write_bytes(b"no image")


@pytest.mark.parametrize("moments", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_random_moments_and_resumed_it_leaves_the_files_of_an_undisturbed_run(images, moments):
    with start("undisturbed") as process:
        began = time.perf_counter()
        process.communicate()
        lasted = time.perf_counter() - began
    assert process.returncode == 1
    expected = files("undisturbed")
    assert len(expected) > 48 + 24 + 24  # drawings, crops, and images without faces, of which two have one content
    moment, killed, run = random.Random(moments), 0, 0  # noqa: S311
    while killed < moments:
        run += 1
        options = ()
        while True:
            with start(f"killed-{run}", *options) as process:
                try:
                    process.communicate(timeout=moment.uniform(0, lasted) if killed < moments else None)
                except subprocess.TimeoutExpired:
                    process.kill()
            if process.returncode >= 0:
                break
            killed += 1
            options = ("--resume",)
        assert process.returncode == 1  # some images are damaged, whichever run met them
        assert files(f"killed-{run}") == expected


KEPT = ("faces.jsonl", "crops/faces.jsonl", "nobody/faces.jsonl", *(f"{document}.journal" for document in DOCUMENTS))


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("lines", [0, 1, 20])
def test_files_that_a_kill_left_at_different_lengths_are_even_again(polyface, images, kept, lines):
    assert polyface(*arguments("out")).exit_code == 1
    expected = files("out")
    for path in map(Path, (f"out/{document}" for document in DOCUMENTS)):
        path.unlink()  # they are made at the end
    path = Path("out", kept)
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole[: len(whole) - lines]))
    result = polyface(*arguments("out", "--resume"))
    assert f"{len(whole) - lines} done before" in result.stdout
    assert files("out") == expected


def test_an_output_that_is_new_is_filled_without_adding_to_the_others(polyface, images):
    few, all_of_them = ("", DOCUMENTS[0]), ("", *DOCUMENTS)
    assert polyface(*arguments("whole", outputs=all_of_them)).exit_code == 1
    assert polyface(*arguments("out", outputs=few)).exit_code == 1
    assert polyface(*arguments("out", "--resume", outputs=all_of_them)).exit_code == 1
    assert files("out") == files("whole")


def test_failures_of_the_runs_before_are_said_and_count_for_the_exit_status(polyface, images):
    assert polyface(*arguments("out")).exit_code == 1
    result = polyface(*arguments("out", "--resume"))
    assert "0 images, 61 done before (13 of them failed)" in result.stdout
    assert result.exit_code == 1


def test_a_folder_that_another_writer_filled_is_not_gone_on_with(polyface, image):
    image("in/a.png")
    assert polyface("detect", "in", "--output", "out").exit_code == 0
    for command in ("anonymize", "crop"):
        result = polyface(command, "in", "--output", "out", "--resume")
        assert "out was not filled by the writer '" in result.stderr
        assert result.exit_code == 2
    assert polyface("detect", "in", "--output", "out", "--resume").exit_code == 0


def test_a_finished_run_is_resumed_with_new_images_alone(polyface, images, image):
    polyface(*arguments("one-by-one"))
    image("two/more.png")
    assert "1 image, 61 done before" in polyface(*arguments("one-by-one", "--resume")).stdout
    polyface(*arguments("at-once"))
    assert files("one-by-one").keys() == files("at-once").keys()
    assert files("one-by-one")["more_out.jpg"] == files("at-once")["more_out.jpg"]
    lines = files("one-by-one")["faces.jsonl"].splitlines(keepends=True)
    assert b"more.png" in lines[-1]
    assert sorted(lines) == sorted(files("at-once")["faces.jsonl"].splitlines(keepends=True))
