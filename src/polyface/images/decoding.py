"""Files of images, opened: only by the decoders that are allowed, and within bounds, whatever their bytes hold.

Pillow is given what makes the pixels and nothing else: texts, profiles, previews and further frames are left out of a
JPEG, PNG or GIF before Pillow sees it, so that neither their size nor their damage matters. It is called by its own
table of formats and not by ``PIL.Image.open``, whose bound on pixels is one for the whole process.
"""

from __future__ import annotations

import importlib
import io
import itertools
import math
import random
import re
import struct
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
from attrs import frozen
from PIL import Image, ImageFile

from polyface.errors import NO_FIX, Fix, ImageError
from polyface.machine.formats import ENDINGS

MAX_PIXELS = 178_956_970
"""The most pixels a file may be decoded to, unless ``max_pixels`` says otherwise: what Pillow lets in by default."""

SMALL = 16_000_000
"""A file may be decoded to so many pixels whatever its length."""

DENSITY = 250
"""A file of more than ``SMALL`` pixels may have at most so many for each of its bytes. Photos have 1 to 100; blank
pages, and files that were made to fill memory, have a thousand and more."""

LONGEST_FILE = 2**30
"""Bytes of a file that has to be in memory as a whole: all but TIFF, BMP, PPM and TGA."""

MOST_SCANS = 50
"""Passes over all pixels that a JPEG may ask for; encoders make about ten."""

MOST_RUNS = 8_000_000
"""Pixels of a BMP that is packed by run lengths: Pillow unpacks them in Python, one by one."""

MOST_STRIPS = 100_000
"""Strips or tiles of a TIFF: each is decoded by itself."""

MOST_TILES = 4096
"""Tiles of a JPEG 2000: each takes memory before one is decoded."""

MOST_PAGES = 16
"""Directories of a TIFF that are looked at to find a second page."""

LONGEST_TEXT = 2**20
"""Bytes of a text that may hold an image's orientation, and of a colour profile that is packed as one."""

LONGEST_LABEL = 32
"""Bytes in which a segment of a JPEG says what it holds."""

_EXIF_TEXT, _XMP_TEXT = b"Raw profile type exif", b"XML:com.adobe.xmp"

RESAVE = "save it anew in an image editor"

READ_DAMAGED = Fix("for what can be read of it", settings={"damaged": "read"})

_STREAMED = ("TIFF", "BMP", "PPM", "TGA")
_HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")
_MODULES = {"JPEG2000": "Jpeg2K", "WEBP": "WebP"}  # the others are called as their formats
_VIDEO = "pip install polyface-video, and give it as polyface detect clip.mp4; or save its frames as images first"
_LOOKS = (
    (rb"%PDF-", "a PDF document", "save its pages as images first"),
    (rb"%!|\xc5\xd0\xd3\xc6", "a PostScript program, which polyface does not run", "save it as a PNG first"),
    (rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body)", "an HTML page, not the image it may link to", ""),
    (rb"(?i)(\xef\xbb\xbf)?\s*<(\?xml|svg|!--)", "XML or SVG, which is text", "save it as a PNG first"),
    (rb"PK\x03\x04", "a ZIP archive", "unpack it first"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd", "a compressed archive", "unpack it first"),
    (rb"RIFF....AVI |\x1a\x45\xdf\xa3|\x00\x00\x01[\xb3\xba]", "a video", _VIDEO),
    (rb"....ftyp(isom|iso2|mp4|avc1|qt  |M4V|3gp)", "a video", _VIDEO),
    (rb"....ftypcrx |FUJIFILMCCD-RAW", "the raw data of a camera", "develop it into a JPEG or TIFF first"),
    (rb"....ftyp", "in a container of a kind that is not known here", ""),
    (rb"version https://git-lfs", "a pointer of Git LFS, not the image itself", "git lfs pull"),
)


@frozen(kw_only=True)
class Source:
    """A file of an image, open for reading and seekable, its length in bytes, and what an error calls it.

    ``max_pixels`` is the most it may be decoded to; ``None`` takes :data:`MAX_PIXELS`, and less for short files.
    ``damaged`` is whether a JPEG that is cut short is opened.
    """

    file: BinaryIO
    length: int
    label: str
    max_pixels: int | None
    damaged: bool = False

    def check_size(self, size: tuple[int, int]) -> None:
        """Refuse what would be decoded to too many pixels; a draft of this width and height counts by its own.

        Raises:
            ImageError: it has more; names the bound and how to raise it.
        """
        width, height = size
        pixels = width * height
        bound = self.max_pixels or min(MAX_PIXELS, max(SMALL, DENSITY * self.length))
        if pixels > bound:
            short = "" if self.max_pixels or bound == MAX_PIXELS else f" from a file of {self.length:,} bytes"
            raise ImageError(
                f"{self.label} has too many pixels: {width}x{height}.",
                why=[f"at most {bound:,} are read{short}, so that no file fills the memory"],
                fix=Fix("if you trust it", settings={"max_pixels": pixels}),
            )


@frozen(kw_only=True, eq=False)
class Opened:
    """A file of an image whose header was read.

    Args:
        image: of which Pillow has not decoded the pixels yet.
        source: the file.
        orientation: as EXIF counts it; 1, upright, where Pillow turns the image itself.
        note: what the file shows beside this image, or an empty text.
        profile: its ICC profile as it stands in the file, or nothing.
        jpeg: the bytes of a JPEG that Pillow gets; empty for other formats.
        ended: whether the JPEG has its end marker.
        missing: whether whole scans of the JPEG are missing.
    """

    image: Image.Image
    source: Source
    orientation: int = 1
    note: str = ""
    profile: bytes = b""
    jpeg: bytes = b""
    ended: bool = True
    missing: bool = False


@frozen(kw_only=True)
class _Found:
    """What Pillow gets in the place of the file, if anything, and what was found beside the pixels."""

    data: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    note: str = ""
    profile: bytes = b""
    ended: bool = True
    missing: bool = False


def open_file(
    file: BinaryIO,
    label: str,
    formats: Sequence[str] = (),
    max_pixels: int | None = None,
    *,
    damaged: bool = False,
) -> Opened:
    """Read the header of an image, in a file that is open for reading and seekable, from its start.

    ``formats`` are Pillow's names of further formats to allow; all else is as of :class:`Source`.

    Raises:
        ImageError: it is in no format that is read, or damaged; says what it looks like.
    """
    length = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(512)
    source = Source(file=file, length=length, label=label, max_pixels=max_pixels, damaged=damaged)
    tried: dict[str, str] = {}
    # TGA has no signature, so it comes last.
    further = (name for name in formats if name not in ENDINGS)
    wanted = [*(name for name in ENDINGS if name != "TGA"), "HEIF", *further, "TGA"]
    for name in wanted:
        factory, accept = _plugin(name)
        answer = factory is not None and (accept is None or accept(start[:16]))
        if isinstance(answer, str):
            tried[name] = f"Pillow here was built without {name}"
        elif answer and factory is not None:
            file.seek(0)
            try:
                return _open(name, factory, source)
            except (SyntaxError, IndexError, TypeError, struct.error) as error:
                if accept is not None:
                    tried[name] = str(error) or type(error).__name__
    raise _unreadable(label, start, length, tried)


def orientation_of(exif: bytes, xmp: bytes = b"") -> int:
    """Return the orientation that EXIF data, or else XMP, give; 1, upright, where they are damaged."""
    found = 0
    tiff = exif.removeprefix(b"Exif\0\0")
    for tag, kind, _, value in _entries(tiff):
        if tag == 0x0112 and kind in (1, 3, 4):
            (found,) = struct.unpack_from(_order(tiff) + {1: "B", 3: "H", 4: "I"}[kind], value)
            break
    if not found and (match := re.search(rb'tiff:Orientation(?:="|>)([0-9])', xmp[:LONGEST_TEXT])):
        found = int(match[1])
    return found if 1 <= found <= 8 else 1


def _plugin(name: str) -> tuple[Callable[..., Any] | None, Callable[..., Any] | None]:
    """Pillow's class for a format, and what tells its files by their first 16 bytes; neither where it is not here."""
    try:
        if name == "HEIF":  # not registered with Pillow, which would be for the whole process
            return importlib.import_module("pillow_heif").HeifImageFile, _is_heic
        if name in ENDINGS:
            importlib.import_module(f"PIL.{_MODULES.get(name, name.capitalize())}ImagePlugin")
        elif name not in Image.OPEN:
            Image.init()
    except ImportError:
        return None, None
    factory, accept = Image.OPEN.get(name, (None, None))
    return factory, accept


def _is_heic(start: bytes) -> bool:
    return start[4:8] == b"ftyp" and start[8:12] in _HEIC


def _open(name: str, factory: Callable[..., Any], source: Source) -> Opened:
    if name not in _STREAMED and source.length > LONGEST_FILE:
        why = f"at most {LONGEST_FILE:,} are read as {name}"
        raise ImageError(f"{source.label} is too long: {source.length:,} bytes.", why=[why])
    found = _LOOKS_INSIDE[name](source) if name in _LOOKS_INSIDE else _Found()
    source.file.seek(0)
    # Without the file's name: Pillow would map it into memory, and die where it becomes shorter.
    image = factory(io.BytesIO(found.data) if found.data else source.file, "")
    if name in ("WEBP", "AVIF", "HEIF"):
        exif, xmp = (_bytes(image.info.get(key)) for key in ("exif", "xmp"))
        found = _Found(exif=exif, xmp=xmp, note=_animation(image.n_frames))
    orientation = orientation_of(found.exif, found.xmp)
    return Opened(
        image=image,
        source=source,
        orientation=orientation,
        note=found.note,
        profile=found.profile or _bytes(image.info.get("icc_profile")),
        jpeg=found.data if name == "JPEG" else b"",
        ended=found.ended,
        missing=found.missing,
    )


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else b""


def _animation(frames: int) -> str:
    return f"an animation of {frames} frames, of which the first is read" if frames > 1 else ""


def _unreadable(label: str, start: bytes, length: int, tried: dict[str, str]) -> ImageError:
    if length == 0:
        return _foreign(label, "it is empty (0 bytes)")
    if _is_heic(start) and _plugin("HEIF")[0] is None:
        return _foreign(label, "it is a HEIC image, which Pillow alone does not read", "pip install pillow-heif")
    if start[4:8] == b"ftyp" and start[8:12] in (b"avif", b"avis") and _plugin("AVIF")[0] is None:
        tried = {"AVIF": "Pillow here was built without AVIF"}
    if tried:
        why = [f"{name}: {reason}" for name, reason in tried.items()]
        fix = "pip install --upgrade pillow" if any("built without" in reason for reason in why) else RESAVE
        return ImageError(f"{label} cannot be decoded.", why=why, fix=fix)
    for pattern, look, fix in _LOOKS:
        if re.match(pattern, start, re.DOTALL):
            return _foreign(label, f"it is {look}", fix)
    Image.init()
    for name, (_, accept) in Image.OPEN.items():
        if accept is not None and name not in ENDINGS and accept(start[:16].ljust(16, b"\0")):  # some want all 16
            return _foreign(
                label,
                f"it looks like {name}, which is read only where it is asked for",
                Fix("if you trust it", settings={"formats": name}),
            )
    return _foreign(label, f"its {length} bytes do not begin as an image does")


def _foreign(label: str, why: str, fix: Fix | str = NO_FIX) -> ImageError:
    return ImageError(f"{label} is not an image in a format that is read.", why=[why], fix=fix)


def _order(data: bytes) -> str:
    return ">" if data[:2] == b"MM" else "<"


def _entries(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Tag, type, count and the four bytes of each entry in the first directory of TIFF-like data."""
    if data[:2] not in (b"II", b"MM") or len(data) < 8:
        return
    order = _order(data)
    at = struct.unpack(order + "I", data[4:8])[0]
    (count,) = struct.unpack(order + "H", data[at : at + 2].ljust(2, b"\0"))
    for place in range(at + 2, min(at + 2 + 12 * count, len(data) - 11), 12):
        yield struct.unpack(order + "HHI4s", data[place : place + 12])


# JPEG


def _look_into_jpeg(source: Source) -> _Found:
    """Keep tables, frame and scans; find EXIF, XMP, and what lies behind the image."""
    kept, scans = [b"\xff\xd8"], 0
    beside: defaultdict[tuple[int, bytes], list[bytes]] = defaultdict(
        list
    )  # by marker and what the segment calls itself
    bits: dict[tuple[int, int], int] = {}
    ended = False
    for marker, segment in _segments(source.file.read()):
        body = segment[4:]
        if marker in (0xE1, 0xE2):
            beside[marker, body[:LONGEST_LABEL].partition(b"\0")[0]].append(body)
        elif marker in (0xE0, 0xEE) or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(segment)
        ended |= marker == 0xD9
        if marker in _FRAMES:
            components = body[6 : 6 + 3 * int.from_bytes(body[5:6]) : 3]
            bits |= dict.fromkeys(itertools.product(components, range(64)), 1)
        if marker == 0xDA:
            scans += 1
            _note_bits(body, bits)
    most = MOST_SCANS if ended else MOST_SCANS // 2  # one without its end is decoded several times
    if scans > most:
        why = f"it has {scans:,} scans; at most {most} are read, since each passes over all pixels"
        raise ImageError(f"{source.label} cannot be decoded.", why=[why], fix=RESAVE)
    missing = not ended and any(bits.values())
    if missing and not source.damaged:
        raise ImageError(
            f"{source.label} cannot be decoded.", why=["it is cut short: its last scans are missing"], fix=READ_DAMAGED
        )
    others = next(filter(None, map(_views_beside, beside[0xE2, b"MPF"])), 0)
    parts = {body[12]: body[14:] for body in reversed(beside[0xE2, b"ICC_PROFILE"]) if len(body) > 14}
    return _Found(
        data=b"".join(kept),
        exif=next(iter(beside[0xE1, b"Exif"]), b""),
        xmp=next(iter(beside[0xE1, b"http://ns.adobe.com/xap/1.0/"]), b""),
        note=f"a file of {1 + others} views of one scene, of which the first is read" if others else "",
        profile=b"".join(parts[number] for number in sorted(parts)),
        ended=ended or not scans,
        missing=missing,
    )


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The marker and all bytes of each segment up to the end marker; of a scan with what it encodes."""
    at = 2
    while match := _SEGMENT.search(data, at):
        marker, start = match[0][-1], match.end() - 2
        if marker == 0xD9:
            yield marker, match[0]
            return
        at = start + 2 + max(2, int.from_bytes(data[start + 2 : start + 4], "big"))
        if marker == 0xDA:
            match = _MARKER.search(data, at)
            at = match.start() if match else len(data)
        yield marker, data[start:at]


_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_SEGMENT = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd8]")
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def continuations(jpeg: bytes) -> Iterator[bytes]:
    """Yield several things that might follow a JPEG that was cut off: noise, with the restart markers that come next.

    Noise alone would not do where the cut is at the end of an interval: the decoder skips it, in search of a marker.
    """
    scan = jpeg.rfind(b"\xff\xda")
    last = max(range(8), key=lambda number: jpeg.rfind(bytes([0xFF, 0xD0 + number]), scan))
    first = last + 1 if jpeg.rfind(bytes([0xFF, 0xD0 + last]), scan) >= 0 else 0
    for seed in range(3):
        noise = random.Random(seed).randbytes(4096).replace(b"\xff", b"")  # noqa: S311 - nothing secret
        yield noise + b"".join(bytes([0xFF, 0xD0 + (first + step) % 8]) + noise for step in range(8))


def _note_bits(scan: bytes, bits: dict[tuple[int, int], int]) -> None:
    """How many bits of each component's coefficients are still missing after a scan."""
    count = scan[0] if scan else 0
    if len(scan) < 4 + 2 * count:
        return
    first, last, low = scan[1 + 2 * count], scan[2 + 2 * count], scan[3 + 2 * count] & 15
    for component in scan[1 : 1 + 2 * count : 2]:
        for place in range(first, min(last, 63) + 1):
            bits[component, place] = low


def _views_beside(body: bytes) -> int:
    """How many further images an MPO holds; previews and maps of depth or light are none."""
    data = body[4:]
    for tag, _, size, value in _entries(data):
        if tag == 0xB002:
            (at,) = struct.unpack(_order(data) + "I", value)
            listed = [data[place : place + 4] for place in range(at, min(at + size, len(data) - 15), 16)][1:]
            kinds = [struct.unpack(_order(data) + "I", entry)[0] & 0xFFFFFF for entry in listed]
            return sum(kind >> 16 == 2 for kind in kinds)
    return 0


# PNG


def _look_into_png(source: Source) -> _Found:
    """Keep header, palette, transparency and pixels, these in one chunk; find what turns the image."""
    data = source.file.read()
    head, pixels, exif, profile, frames, at = [data[:8]], [], b"", b"", 1, 8
    texts: dict[bytes, bytes] = {}
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        if kind == b"IDAT":
            pixels.append(body)
        elif kind in (b"IHDR", b"PLTE", b"tRNS") and not pixels:
            head.append(data[at : at + 12 + length])
        elif kind == b"acTL":
            frames = int.from_bytes(body[:4], "big")
        elif kind == b"eXIf":
            exif = exif or body
        elif kind == b"iCCP":
            profile = profile or _text(b"zTXt", body)  # which is packed likewise
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            keyword = body[:80].partition(b"\0")[0]
            if keyword in (_EXIF_TEXT, _XMP_TEXT) and keyword not in texts:  # of many, only the first is unpacked
                texts[keyword] = _text(kind, body)
        elif kind == b"IEND":
            break
        at += 12 + length
    chunks = [_chunk(b"IDAT", b"".join(pixels))] if pixels else []
    joined = b"".join([*head, *chunks, _chunk(b"IEND", b"")])
    exif = exif or _hex_profile(texts.get(_EXIF_TEXT, b""))
    return _Found(data=joined, exif=exif, xmp=texts.get(_XMP_TEXT, b""), note=_animation(frames), profile=profile)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _text(kind: bytes, body: bytes) -> bytes:
    """The text of a chunk, at most ``LONGEST_TEXT`` bytes."""
    text = body[: LONGEST_TEXT + 200].partition(b"\0")[2]
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed, text = text[:1] == b"\1", text[2:].split(b"\0", 2)[-1]
    elif packed:
        text = text[1:]
    try:
        return zlib.decompressobj().decompress(text, LONGEST_TEXT) if packed else text
    except zlib.error:
        return b""


def _hex_profile(text: bytes) -> bytes:
    """EXIF data as ImageMagick writes them: three lines, then hexadecimal digits."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n", 3)[3:]).decode("ascii"))
    except ValueError:
        return b""


# GIF


def _look_into_gif(source: Source) -> _Found:
    """Keep the screen, the first frame, and what controls it; find out whether there is another."""
    data = source.file.read()
    at = 13 + _colours(data, 10)
    kept, frames, note = [data[:at]], 0, ""
    while at < len(data):
        start, kind = at, data[at]
        if kind == 0x2C:
            frames += 1
            if frames == 2:
                note = "an animation of several frames, of which the first is read"
                break
            at = _blocks_end(data, at + 11 + _colours(data, at + 9))
            kept.append(data[start:at])
        elif kind == 0x21:
            at = _blocks_end(data, at + 2)
            if data[start + 1 : start + 2] == b"\xf9" and not frames:
                kept.append(data[start:at])
        elif kind == 0x3B:
            break
        else:
            at += 1  # as Pillow does
    return _Found(data=b"".join([*kept, b";"]), note=note)


def _colours(data: bytes, flags_at: int) -> int:
    """Bytes of the colour table that these flags announce."""
    flags = data[flags_at] if flags_at < len(data) else 0
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _blocks_end(data: bytes, at: int) -> int:
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return min(at + 1, len(data))


# Formats that are only looked at before Pillow sees them


def _look_into_bmp(source: Source) -> _Found:
    start = source.file.read(34)
    if len(start) == 34 and start[14:18] != b"\x0c\0\0\0" and start[30] in (1, 2):
        width, height = (abs(side) for side in struct.unpack_from("<ii", start, 18))
        if width * height > MOST_RUNS:
            why = f"it is packed by run lengths; at most {MOST_RUNS:,} pixels are unpacked, not {width}x{height}"
            raise ImageError(f"{source.label} cannot be decoded.", why=[why], fix=RESAVE)
    return _Found()


_PPM = re.compile(rb"P([56])" + 3 * rb"(?:\s|#[^\n]*\n)+(\d{1,9})" + rb"\s")


def _look_into_ppm(source: Source) -> _Found:
    """Scale levels of an odd range, as of 10 or 12 bits: Pillow does so in Python, number by number."""
    match = _PPM.match(source.file.read(4096))
    if match is None:
        return _Found()
    kind, width, height, most = map(int, match.groups())
    if most in (255, 65_535) or not 0 < most < 65_536:
        return _Found()
    source.check_size((width, height))
    top = 65_535 if most > 255 and kind == 5 else 255  # as Pillow takes them
    levels = np.minimum(np.round(np.arange(65_536) / most * top), top).astype(">u2" if top > 255 else np.uint8)
    source.file.seek(match.end())
    numbers = np.dtype(">u2" if most > 255 else np.uint8)
    size = width * height * (3 if kind == 6 else 1) * numbers.itemsize
    data = source.file.read(size)
    if len(data) < size:
        return _Found()  # Pillow says so
    return _Found(data=b"P%d %d %d %d\n" % (kind, width, height, top) + levels[np.frombuffer(data, numbers)].tobytes())


def _look_into_webp(source: Source) -> _Found:
    """Pillow takes memory for the canvas when it opens the file."""
    start = source.file.read(30)
    if start[12:16] == b"VP8X" and len(start) == 30:
        source.check_size((1 + int.from_bytes(start[24:27], "little"), 1 + int.from_bytes(start[27:30], "little")))
    return _Found()


def _look_into_tiff(source: Source) -> _Found:
    """Refuse directories whose values are longer than the file, since Pillow reads each before it knows what it is."""
    head = source.file.read(16)
    tiff = _Tiff(source.file, _order(head), big=head[2:4] in (b"+\0", b"\0+"))
    first, after = tiff.directory(tiff.number(head[8:16] if tiff.big else head[4:8]))
    parts = [first] + [tiff.directory(tiff.number(first[tag][2]))[0] for tag in (34665, 34853, 40965) if tag in first]
    total = sum(size for part in parts for kind, many, _ in part.values() if (size := many * _SIZES.get(kind, 0)) > 8)
    strips = max(first.get(tag, (0, 0, b""))[1] for tag in (273, 324))
    source.check_size((tiff.value(first, 322), tiff.value(first, 323)))
    why, fix = "", RESAVE
    if total > source.length + 65_536:
        why = f"its tags hold {total:,} bytes, which is more than the whole file"
    elif strips > MOST_STRIPS:
        why = f"it has {strips:,} strips; at most {MOST_STRIPS:,} are read, since each is decoded by itself"
    elif tiff.value(first, 259) in (6, 7) and (scans := _scans_inside(source)) > MOST_SCANS + 4 * strips:
        why = f"its JPEG data have {scans:,} scans; at most {MOST_SCANS} are read, since each passes over all pixels"
    elif 50706 in first:
        why, fix = "it is the raw data of a camera (DNG)", "develop it into a JPEG or TIFF first"
    elif tiff.value(first, 254) & 1 or tiff.value(first, 255) == 2 or tiff.has_larger_below(first):
        why = "it begins with a thumbnail; the image itself is raw data of a camera, or on another page"
        fix = "develop it into a JPEG or TIFF first"
    if why:
        raise ImageError(f"{source.label} cannot be decoded.", why=[why], fix=fix)
    note = ""
    for _ in range(MOST_PAGES):
        page, after = tiff.directory(after)
        if page and not tiff.value(page, 254) & 5:  # a smaller copy of the first, or a mask, is no further page
            note = note or "a file of several pages, of which the first is read"
            if tiff.pixels(page) > tiff.pixels(first):
                return _Found(note=f"{note}, though another is larger")
    return _Found(note=note)


def _scans_inside(source: Source) -> int:
    source.file.seek(0)
    found, before = 0, b""
    while part := source.file.read(2**20):
        found += (before + part).count(b"\xff\xda")
        before = part[-1:]
    return found


class _Tiff:
    """The directories of a TIFF, read without what their tags point to."""

    def __init__(self, file: BinaryIO, order: str, *, big: bool) -> None:
        self._file = file
        self._order = order
        self.big = big

    def directory(self, at: int) -> tuple[dict[int, tuple[int, int, bytes]], int]:
        """Type, count and value field by tag, and where the next directory lies; empty where there is none."""
        entry, count = (self._order + code for code in (("HHQ8s", "Q") if self.big else ("HHI4s", "H")))
        if not 0 < at < 2**63:
            return {}, 0
        self._file.seek(at)
        number = self.number(self._file.read(struct.calcsize(count)))
        step = struct.calcsize(entry)
        table = self._file.read(step * min(number, 65_535))
        found = struct.iter_unpack(entry, table[: len(table) // step * step])
        after = self.number(self._file.read(8 if self.big else 4))
        return {tag: (kind, many, value) for tag, kind, many, value in found}, after

    def number(self, field: bytes) -> int:
        return int.from_bytes(field, "big" if self._order == ">" else "little")

    def pixels(self, directory: dict[int, tuple[int, int, bytes]]) -> int:
        """How many pixels the image of a directory has."""
        return self.value(directory, 256) * self.value(directory, 257)

    def has_larger_below(self, directory: dict[int, tuple[int, int, bytes]]) -> bool:
        """Whether a directory below this one has a larger image, of which this is then a small copy."""
        kind, many, field = directory.get(330, (0, 0, b""))
        size = _SIZES.get(kind, 0)
        if size * many > len(field):
            self._file.seek(self.number(field))
            field = self._file.read(size * min(many, MOST_PAGES))
        places = [self.number(field[at : at + size]) for at in range(0, size * min(many, MOST_PAGES), size or 1)]
        return any(self.pixels(self.directory(place)[0]) > self.pixels(directory) for place in places)

    def value(self, directory: dict[int, tuple[int, int, bytes]], tag: int) -> int:
        """The single number of a tag, or 0."""
        kind, _, field = directory.get(tag, (0, 0, b""))
        return self.number(field[: _SIZES.get(kind, 0)])


_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def _look_into_jpeg2000(source: Source) -> _Found:
    """Refuse what makes OpenJPEG take much memory or time for few bytes: it plans every tile and block beforehand."""
    data = source.file.read()
    fine = any(_is_fine(data, match.start()) for match in re.finditer(rb"\xff[\x52\x53]", data))
    # A file may hold several codestreams, and OpenJPEG takes the first that its boxes lead to: each has to do.
    for match in re.finditer(rb"\xff\x4f\xff\x51.{38}", data, re.DOTALL):
        # Of the image the right and lower edges, the left and upper, and the same of the tiles; then the components.
        x1, y1, x0, y0, tile_w, tile_h, tile_x, tile_y, components = struct.unpack_from(">8IH", match[0], 8)
        source.check_size((max(0, x1 - x0), max(0, y1 - y0)))
        tiles = math.ceil(max(0, x1 - tile_x) / max(1, tile_w)) * math.ceil(max(0, y1 - tile_y) / max(1, tile_h))
        for bad, what in (
            (components > 4, f"{components} components, where at most 4 are read"),
            (tiles > MOST_TILES, f"{tiles:,} tiles, where at most {MOST_TILES:,} are read"),
            (fine, "very small blocks"),
        ):
            if bad:
                why = f"it has {what}: each takes memory before one pixel is decoded"
                raise ImageError(f"{source.label} cannot be decoded.", why=[why], fix=RESAVE)
    return _Found()


def _is_fine(data: bytes, at: int) -> bool:
    """Whether a marker segment that sets the coding style asks for many small blocks; pixels may look like one."""
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    # COD: style, then progression, layers and transform; COC: the component, then style.
    style, rest = (data[at + 4 : at + 5], 9) if data[at + 1] == 0x52 else (data[at + 5 : at + 6], 6)
    body = data[at + rest : at + 2 + length]
    if not 9 <= length <= 60 or len(body) < 5 or body[0] > 32 or body[1] > 8 or body[2] > 8 or body[4] > 1:
        return False
    with_precincts = bool(style and style[0] & 1)
    if len(body) != 5 + (body[0] + 1 if with_precincts else 0):
        return False
    # Powers of two, from the smallest image to the whole; each has half the sides of the next, and may have of them.
    precincts = reversed(body[5:])
    fine = any(min(sides & 15, sides >> 4) < 4 - halved for halved, sides in enumerate(precincts))
    return fine or body[1] + body[2] + 4 < 8


_LOOKS_INSIDE: dict[str, Callable[[Source], _Found]] = {
    "BMP": _look_into_bmp,
    "GIF": _look_into_gif,
    "JPEG": _look_into_jpeg,
    "JPEG2000": _look_into_jpeg2000,
    "PNG": _look_into_png,
    "PPM": _look_into_ppm,
    "TIFF": _look_into_tiff,
    "WEBP": _look_into_webp,
}


def prepare_memory(image: Image.Image) -> None:
    """Give a TIFF its memory, where Pillow would compare its pixels with a bound that is the whole process's."""
    if isinstance(image, ImageFile.ImageFile) and image.format == "TIFF" and hasattr(image, "tag_v2"):
        tags = image.tag_v2
        image.im = Image.new(image.mode, (tags[256], tags[257])).im
