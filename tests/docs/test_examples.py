"""The example images are what the table beside them says."""

from __future__ import annotations

import re

from PIL import Image


def test_every_example_image_stands_in_the_table_with_its_size_and_is_small(pytestconfig):
    folder = pytestconfig.rootpath / "examples"
    table = (folder / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+\.jpg)` \|.*?(\d+) x (\d+)", table, flags=re.MULTILINE)
    said = {name: (int(width), int(height)) for name, width, height in rows}
    sizes = {}
    for path in folder.glob("*.jpg"):
        assert path.stat().st_size < 400_000
        with Image.open(path) as image:
            sizes[path.name] = image.size
    assert said == sizes
