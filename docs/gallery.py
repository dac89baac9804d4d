"""Make the images of gallery.md by the commands and the Python that it shows: ``python docs/gallery.py``.

An image has the name of the file that a command on the page wrote, and is reduced to what a dense screen shows of it.
An SVG is what the command above it printed. It needs the backends that the page names.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from rich.console import Console
from rich.text import Text

DOCS = Path(__file__).parent
IMAGES = DOCS / "gallery"
COLUMNS = 116
"""Width of the terminal that the commands print to, in letters."""

DENSITY = 1.75
"""Pixels of an image for each pixel of its width on the page: a dense screen shows the difference."""

PART = re.compile(
    r'^```(?P<kind>console|python)\n(?P<text>.*?)^```|<img src="gallery/(?P<name>[^"]+)" width="(?P<width>\d+)"',
    flags=re.DOTALL | re.MULTILINE,
)


class Shown(NamedTuple):
    """An image of the page: its file below ``gallery/``, and its width on the page, in pixels."""

    name: str
    width: int


class Step(NamedTuple):
    """What Python is given to do, as the page has it, and the images that follow."""

    text: str
    words: tuple[str, ...]
    images: list[Shown]


def read_steps(page: str) -> list[Step]:
    """Return what a page shows, in its order: its commands, its Python, and the images below each."""
    steps: list[Step] = []
    for part in PART.finditer(page):
        if part["kind"] == "python":
            steps.append(Step(part["text"], ("-c", part["text"]), []))
        elif part["kind"]:
            commands = [line[2:] for line in part["text"].splitlines() if line.startswith("$ ")]
            steps += [Step(command, ("-m", *shlex.split(command)), []) for command in commands]
        else:
            steps[-1].images.append(Shown(part["name"], int(part["width"])))
    return steps


def run(words: tuple[str, ...], folder: Path) -> str:
    """Do it in a folder, and return what it prints to a terminal with colours."""
    terminal = {"COLUMNS": str(COLUMNS), "FORCE_COLOR": "1"}
    done = subprocess.run(  # noqa: S603
        [sys.executable, *words],
        check=False,
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        env=os.environ | terminal,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.replace(str(Path.home()), "~")


def draw(printed: str, title: str, path: Path) -> None:
    """Save what a command printed as an SVG, by rich's own export."""
    text = Text.from_ansi(printed.strip("\n"))
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(text)
    console.save_svg(str(path), title=title)


def reduce(source: Path, width: int, path: Path) -> None:
    """Save an image, no larger than the page needs it."""
    with Image.open(source) as image:
        factor = min(1.0, DENSITY * width / image.width)
        size = round(image.width * factor), round(image.height * factor)
        image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(path, quality=80)


def main() -> None:
    """Make all anew."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "examples").symlink_to(DOCS.parent / "examples")
        for step in read_steps((DOCS / "gallery.md").read_text(encoding="utf-8")):
            printed = run(step.words, folder)
            for shown in step.images:
                path = IMAGES / shown.name
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.suffix == ".svg":
                    draw(printed, step.text, path)
                else:
                    reduce(folder / shown.name, shown.width, path)


if __name__ == "__main__":
    main()
