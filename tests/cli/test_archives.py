"""The images of tar archives, all the way to what is written of them."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest


@pytest.fixture
def shard(image):
    """Write an archive of two images and what belongs to them."""

    def write(path, *names):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as file:
            for name in names or ("0001.png", "sub/0002.png"):
                file.add(image(f"source/{name}"), name)
                Path("source/label.cls").write_text("1")
                file.add("source/label.cls", f"{name}.cls")
        return path

    return write


def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_are_drawn_in_a_folder_for_each_shard(polyface, shard):
    result = polyface("detect", shard("in/a.tar"), shard("in/b.tar"), "--output", "out")
    assert result.exit_code == 0
    assert [(line["image"], line["drawing"], len(line["faces"])) for line in lines("out/faces.jsonl")] == [
        ("in/a.tar/0001.png", "a/0001_out.jpg", 1),
        ("in/a.tar/sub/0002.png", "a/sub/0002_out.jpg", 1),
        ("in/b.tar/0001.png", "b/0001_out.jpg", 1),
        ("in/b.tar/sub/0002.png", "b/sub/0002_out.jpg", 1),
    ]
    assert Path("out/b/sub/0002_out.jpg").is_file()
    what = "files in archives that are no images (4)"
    assert result.stderr == f"note: left out: {what}; what is named itself is read\n"


def test_are_anonymised_and_cropped_likewise(polyface, shard):
    assert polyface("anonymize", shard("a.tar"), "--output", "nobody").exit_code == 0
    assert [line["anonymized"] for line in lines("nobody/faces.jsonl")] == ["a/0001.png", "a/sub/0002.png"]
    assert polyface("crop", "a.tar", "--output", "faces").exit_code == 0
    assert [line["crops"] for line in lines("faces/faces.jsonl")] == [["a/0001-1.jpg"], ["a/sub/0002-1.jpg"]]


def test_that_were_done_are_left_out_by_resume(polyface, shard):
    whole = shard("a.tar", "1.png", "2.png", "3.png")
    data = Path(whole).read_bytes()
    assert polyface("detect", whole, "--output", "undisturbed.jsonl").exit_code == 0
    Path("faces.jsonl").write_bytes(b"".join(Path("undisturbed.jsonl").read_bytes().splitlines(keepends=True)[:2]))
    result = polyface("detect", whole, "--output", "faces.jsonl", "--resume")
    assert "1 image, 2 done before" in result.stdout
    assert Path("faces.jsonl").read_bytes() == Path("undisturbed.jsonl").read_bytes()
    assert Path(whole).read_bytes() == data


def test_that_cannot_be_decoded_are_told_without_a_name_of_their_own(polyface):
    Path("a.png").write_bytes(b"no image")
    with tarfile.open("a.tar", "w") as file:
        file.add("a.png")
    result = polyface("detect", "a.tar", "--json")
    assert result.exit_code == 1
    [line] = map(json.loads, result.stdout.splitlines())
    assert line["error"].startswith("is not an image in a format that is read: ")
    assert result.stderr.startswith("a.tar/a.png: is not an image in a format that is read: ")


def test_of_a_cut_archive_are_done_before_it_fails(polyface, shard):
    data = Path(shard("a.tar", "1.png", "2.png")).read_bytes()
    Path("a.tar").write_bytes(data[: len(data) // 1024 * 512])
    result = polyface("detect", "a.tar", "--output", "faces.jsonl")
    assert result.exit_code == 1
    done = lines("faces.jsonl")
    assert done[0]["image"] == "a.tar/1.png"
    assert done[0]["error"] is None
    assert done[-1]["image"] == "a.tar"
    assert done[-1]["error"].startswith("the archive cannot be read any further: it is cut short")
