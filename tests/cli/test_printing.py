"""What is printed where the console's encoding lacks letters of it: all of it, the letters as escapes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

NAMES = ["é.png", "日本.png", "🙂.png", os.fsdecode(b"caf\xe9.png")]
ENCODINGS = ["ascii:strict", "cp1252:strict", "latin-1:strict", "utf-8:strict", "utf-16-le:strict"]


@pytest.fixture
def names(image):
    try:
        return [str(image("a.png").rename(name)) for name in NAMES]
    except OSError:
        pytest.skip("this file system wants names in UTF-8")


def run(encoding, *arguments, **environ):
    command = [sys.executable, "-m", "polyface", *arguments]
    result = subprocess.run(
        command, capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": encoding, **environ}
    )
    assert b"Traceback" not in result.stderr, result.stderr
    return result


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_table_of_detect(names, encoding):
    result = run(encoding, "detect", *names, "--timing", "--output", "out")
    assert result.returncode == 0
    table = result.stdout.decode(encoding.partition(":")[0])
    assert "4 images" in table
    assert "Where the time went" in table
    assert len(Path("out/faces.jsonl").read_bytes().splitlines()) == 4


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_is_utf8_on_every_console(names, encoding):
    result = run(encoding, "detect", *names, "--json")
    assert result.returncode == 0
    assert [json.loads(line)["image"] for line in result.stdout.decode("utf-8").splitlines()] == NAMES
    shown = json.loads(run(encoding, "config", "--json", "--output", names[1]).stdout.decode("utf-8"))
    assert shown["output"]["value"][0].endswith("日本.png")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_errors_about_names(folder, encoding):
    result = run(encoding, "detect", *NAMES)
    assert result.returncode == 1
    assert result.stderr.count(b"there is no such file or folder") == 4 or encoding.startswith("utf-16")


def test_a_letter_that_the_console_lacks_is_shown_as_its_escape(names):
    assert b"\\u65e5\\u672c.png" in run("cp1252:strict", "detect", "日本.png").stdout
    assert "é.png".encode("cp1252") in run("cp1252:strict", "detect", "é.png").stdout


ODD = [
    "é.png",
    "日本.png",
    os.fsdecode(b"caf\xe9.png"),
    "lone-\udcff.png",
    "two\nlines.png",
    "\x1b[31mred.png",
    "\u202eltr.png",
]


@pytest.mark.parametrize("encoding", ENCODINGS[:2])
def test_the_bar_the_failures_and_their_summary_on_a_terminal(image, encoding):
    for name in ODD:
        image("a.png").rename(name)
    Path("bad").mkdir()
    for name in ODD:
        (Path("bad") / name).write_bytes(b"no image")
    screen, terminal = pty.openpty()
    command = [sys.executable, "-m", "polyface", "detect", ".", "--output", "faces.jsonl"]
    environ = {**os.environ, "PYTHONIOENCODING": encoding}
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, check=False, env=environ)
    os.close(terminal)
    shown = os.read(screen, 100_000)
    os.close(screen)
    assert result.returncode == 1
    assert b"14/14" in shown
    assert b"failed: 7 images" in shown
    assert b"\x1b[31mred" not in shown + result.stdout
    assert b"14 images, 7 failed" in result.stdout
    names = [json.loads(line)["image"] for line in Path("faces.jsonl").read_text().splitlines()]
    assert sorted(names) == sorted([*ODD, *(f"bad/{name}" for name in ODD)])


@pytest.mark.parametrize("encoding", ENCODINGS[:2])
def test_names_in_a_list_and_in_an_archive(image, encoding):
    with tarfile.open("a.tar", "w") as file:
        for name in ODD:
            file.add(image("a.png"), name)
            Path("a.png").rename(name)
    Path("list.bin").write_bytes(b"\0".join(map(os.fsencode, ODD)))
    for location in ("a.tar", "@list.bin"):
        result = run(encoding, "detect", location, "--json", "--output", "out", "--resume")
        assert result.returncode == 0
        names = [json.loads(line)["image"] for line in result.stdout.decode().splitlines()]
        assert names == [f"a.tar/{name}" if location == "a.tar" else name for name in ODD]
        assert run(encoding, "detect", location).returncode == 0


@pytest.mark.parametrize("arguments", [["plugins"], ["detectors"], ["backends"], ["matrix"], ["weights"], ["--help"]])
def test_every_listing(folder, arguments):
    run("ascii:strict", *arguments, LANG="C", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
