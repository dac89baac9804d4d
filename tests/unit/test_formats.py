"""Which formats are read, and how their files end."""

from __future__ import annotations

import subprocess
import sys

import pytest

from polyface.machine.formats import ENDINGS, HEIC_SUFFIXES, known, suffixes


@pytest.mark.parametrize(
    "ending",
    [".jpg", ".jpeg", ".mpo", ".png", ".apng", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".tga", ".avif", ".webp"],
)
def test_the_endings_of_images_are_known(ending):
    assert ending in suffixes()


@pytest.mark.parametrize(
    "ending", [".eps", ".ps", ".pdf", ".wmf", ".emf", ".h5", ".grib", ".mpg", ".psd", ".ico", ".pfm"]
)
def test_what_is_no_image_or_runs_a_program_is_none_of_them(ending):
    assert ending not in suffixes()


def test_a_format_that_is_asked_for_adds_its_endings():
    assert suffixes(["eps"]) - suffixes() == {".eps", ".ps"}


def test_a_format_that_is_read_anyway_adds_none():
    assert suffixes(["PNG"]) == suffixes()


def test_heic_stands_apart_since_it_needs_a_package():
    assert {".heic", ".heif", ".hif"} == HEIC_SUFFIXES
    assert not HEIC_SUFFIXES & suffixes()


def test_all_that_are_read_by_default_are_known_and_so_are_pillows_others():
    assert set(ENDINGS) | {"EPS", "SGI", "ICO"} <= known()


def test_the_endings_are_known_without_numpy_and_without_pillow():
    code = (
        "import sys, polyface.machine.formats as f; f.suffixes(); sys.exit(bool({'numpy', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
