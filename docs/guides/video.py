"""Make the images of video.md by the commands that it shows: ``python docs/guides/video.py``.

With a path, ``python docs/guides/video.py clip.mp4``, it makes the clip that they are of, and nothing else.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

GUIDES = Path(__file__).parent
ROOT = GUIDES.parents[1]
SIZE = (480, 270)
"""Width and height of the clip."""

COUNT, RATE = 80, 25
FACE = 115
"""Height of each face, in pixels."""

WALL, PILLAR = 1.5, 6.75
"""Pixels by which they move to the left in each frame: what is nearer to the camera moves faster."""

GAP = 4
STEP = 2
"""Of so many frames, the animation shows one."""


def load_benchmark() -> Any:
    """Return the benchmark that makes clips of the examples."""
    spec = importlib.util.spec_from_file_location("benchmark", ROOT / "benchmarks/video.py")
    assert spec is not None  # noqa: S101 - the path is there
    assert spec.loader is not None  # noqa: S101 - likewise
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    return benchmark


VIDEO = load_benchmark()


def make_clip(path: Path) -> None:
    """Write the clip: a camera moves along two portraits on a wall, and a pillar comes between."""
    pictures, faces = VIDEO.load_examples()
    wall = hang([scale(pictures[name], faces[name][0]) for name in ("astronaut", "grace_hopper")])
    images = []
    for number in range(COUNT):
        left = 400 - PILLAR * number
        pillar = (left, 0, left + 60, SIZE[1]) if left > -60 else None
        view = VIDEO.View((0, 0), (-WALL * number, 0))
        images.append(VIDEO.draw(VIDEO.Frame("wall", (view,), pillar), wall, SIZE))
    VIDEO.write_video(path, images, RATE)


def scale(picture: Image.Image, face: Any) -> Image.Image:
    """Return a part of a picture as high as the clip, so that the face is as high as all are."""
    times = face.height / FACE
    left, top = max(0, face.x - 200 * times), max(0, face.y - 115 * times)
    right = min(picture.width, face.x + 150 * times)
    part = (left, top, right, top + SIZE[1] * times)
    return picture.resize((round((right - left) / times), SIZE[1]), Image.Resampling.LANCZOS, part)


def hang(pictures: list[Image.Image], gap: int = 0) -> Image.Image:
    """Return pictures of one height, side by side."""
    wall = Image.new("RGB", (sum(picture.width + gap for picture in pictures) - gap, pictures[0].height), "white")
    left = 0
    for picture in pictures:
        wall.paste(picture, (left, 0))
        left += picture.width + gap
    return wall


def read_steps(page: str) -> list[list[str]]:
    """Return what Python is given to do what a page shows, in its order: its commands, and its Python."""
    steps = []
    for kind, text in re.findall(r"^```(console|python)\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE):
        commands = [["-m", *shlex.split(line[2:])] for line in text.splitlines() if line.startswith("$ ")]
        steps += commands if kind == "console" else [["-c", text]]
    return steps


def follow(steps: Iterable[Sequence[str]], folder: Path) -> None:
    """Do them in a folder; there is no camera."""
    for step in steps:
        if "--live" not in step:
            subprocess.run([sys.executable, *step], check=True, cwd=folder, stdout=subprocess.DEVNULL)  # noqa: S603


def show(folder: Path, name: str, number: int) -> Image.Image:
    """Return a frame of a video."""
    return Image.fromarray(next(itertools.islice(VIDEO.read_video(folder / name), number, None)))


def animate(folder: Path, names: Iterable[str]) -> None:
    """Save videos side by side."""
    frames = zip(*(VIDEO.read_video(folder / name) for name in names), strict=True)
    shown = [
        hang([ImageOps.scale(Image.fromarray(image), 0.6) for image in images], GAP)
        for images in itertools.islice(frames, None, None, STEP)
    ]
    duration = round(1000 * STEP / RATE)
    shown[0].save(
        GUIDES / "video.webp", save_all=True, append_images=shown[1:], duration=duration, loop=0, quality=45, method=6
    )


def main() -> None:
    """Make the clip, or all three images."""
    if sys.argv[1:]:
        make_clip(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_clip(folder / "clip.mp4")
        steps = read_steps((GUIDES / "video.md").read_text(encoding="utf-8"))
        follow(steps[:2], folder)
        animate(folder, ("boxes.mp4", "safe.mp4"))  # which is made anew later
        follow(steps[2:], folder)
        hang([show(folder, "boxes.mp4", number) for number in (40, 46)], GAP).save(GUIDES / "found.jpg", quality=82)
        covered = [show(folder, name, 46) for name in ("preview.mp4", "kept.mp4", "mended.mp4")]
        hang(covered, GAP).save(GUIDES / "covered.jpg", quality=82)


if __name__ == "__main__":
    main()
