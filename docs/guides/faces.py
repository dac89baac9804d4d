"""Make the images of faces.md and of the tutorial by the commands that they show: ``python docs/guides/faces.py``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageOps

GUIDES = Path(__file__).parent
ROOT = GUIDES.parents[1]
EXAMPLES = ROOT / "examples"
GAP = 4


def run(folder: Path, command: str, image: str, *options: str) -> list[Path]:
    """Run a command on an example, and return what it wrote, the best face first."""
    output = Path(tempfile.mkdtemp(dir=folder))
    words = [sys.executable, "-m", "polyface", command, str(EXAMPLES / image), "--output", str(output), *options]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    return sorted(output.glob("*.jpg"), key=lambda path: (len(path.name), path.name))


def lay_out(paths: list[Path], name: str, height: int) -> None:
    """Save images side by side, each of that height in pixels."""
    tiles = []
    for path in paths:
        with Image.open(path) as image:
            tiles.append(ImageOps.scale(image, height / image.height))
    sheet = Image.new("RGB", (sum(tile.width + GAP for tile in tiles) - GAP, height), "white")
    left = 0
    for tile in tiles:
        sheet.paste(tile, (left, 0))
        left += tile.width + GAP
    sheet.save(GUIDES / name, quality=88)


def main() -> None:
    """Make all four."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lay_out(run(folder, "crop", "collage.jpg", "--margin", "0.25")[:8], "crops.jpg", 140)
        lay_out(run(folder, "crop", "collage.jpg", "--align", "112")[:8], "aligned.jpg", 112)
        ways = [run(folder, "anonymize", "astronaut.jpg", "--how", how) for how in ("blur", "pixelate", "fill")]
        lay_out([path for written in ways for path in written], "anonymized.jpg", 300)
        pair = [run(folder, command, "astronaut.jpg") for command in ("detect", "anonymize")]
        lay_out([path for written in pair for path in written], "tutorial.jpg", 320)


if __name__ == "__main__":
    main()
