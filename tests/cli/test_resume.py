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
OUTPUTS = ("", "faces.csv", "faces.coco.json", "faces.wider.txt", *PARQUET)
"""What is written at once; all lies in one folder."""

INPUTS = ("one", "missing.png", "two")

RUN = """
import sys
import polyface.building, polyface.images.drawing, polyface.jobs.outputs, polyface.jobs.run, polyface.writers.images
from polyface.cli import main
print(flush=True)
main(sys.argv[1:])
"""


def start(folder, *options):
    """Start a run over the images that writes into a folder, and return it once only its work is ahead."""
    outputs = [part for output in OUTPUTS for part in ("--output", f"{folder}/{output}")]
    command = [sys.executable, "-c", RUN, "detect", *INPUTS, *outputs, "--batch-size", "3", *options]
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
    assert len(expected) > 48
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
        # 1 where this last run met a damaged image, and 0 where those before had met them all.
        assert process.returncode in (0, 1)
        assert files(f"killed-{run}") == expected
