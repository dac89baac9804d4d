"""Which formats of images are read, and how their files end: the one place that says it.

The formats are those that cameras, phones, scanners, browsers and data sets give images in, by Pillow's names. Others
that Pillow knows are read only where ``formats`` asks for them: some run a program (``EPS`` runs Ghostscript), many are
no images, and each is more code that untrusted bytes can reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

ENDINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
        "PNG": (".png", ".apng"),
        "WEBP": (".webp",),
        "AVIF": (".avif", ".avifs"),
        "TIFF": (".tif", ".tiff"),
        "GIF": (".gif",),
        "BMP": (".bmp",),
        "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
        "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
        # Last: its files have no signature, so nearly anything could be one.
        "TGA": (".tga", ".icb", ".vda", ".vst"),
    }
)
"""The formats that are read by default, in the order in which they are tried, and their files' endings."""

HEIC_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
"""The endings of the format ``HEIF``, which is read as well where pillow-heif is installed."""

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz")
"""The endings of archives whose images are read."""


def suffixes(formats: Iterable[str] = ()) -> frozenset[str]:
    """Return the endings, in lower case and with their dot, of the files that are read.

    Args:
        formats: Pillow's names of further formats, as of the setting ``formats``. Those of HEIF are always apart, in
            :data:`HEIC_SUFFIXES`.
    """
    found = {ending for endings in ENDINGS.values() for ending in endings}
    further = {name.upper() for name in formats} - set(ENDINGS)
    if further:
        from PIL import Image

        Image.init()
        found.update(ending for ending, name in Image.EXTENSION.items() if name in further)
    return frozenset(found)


def known() -> frozenset[str]:
    """Return the names that the setting ``formats`` may hold: all formats Pillow can open here."""
    from PIL import Image

    Image.init()
    return frozenset(Image.OPEN) | set(ENDINGS) | {"HEIF"}
