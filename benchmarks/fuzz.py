"""Read damaged images: whatever is in a file, an image or an ``ImageError`` comes of it, soon and in little memory.

Makes small files of every format that is read, damages them, and reads them with ``polyface.read_image``: in processes
that are killed where a file takes too long. Run from anywhere, on Linux: ``python benchmarks/fuzz.py --count 200000``.
Everything follows from the seed, so ``--number N --keep FILE`` makes a file again that was found. Exit status: 0 if
nothing was found, 1 if something was.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import io
import json
import logging
import os
import random
import re
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

import polyface
from polyface.errors import PolyfaceError

MOST_BYTES = 100_000
MOST_SECONDS = 2.0
"""Of processor time, for a file of at most ``MOST_BYTES``."""
MOST_MEMORY = 1000
"""Growth of the process while it reads such a file, in MB."""
LARGE_SHARE = 0.002
"""Of the files that hold as many pixels as a short file may: those of a colour, as few bytes as the format takes."""
LARGE = {
    "JPEG": ("L", "L progressive"),
    "PNG": ("1", "L", "P", "RGB", "RGBA", "I;16"),
    "GIF": ("P",),
    "TIFF": ("1 group4", "P tiff_adobe_deflate", "RGB tiff_adobe_deflate", "LAB tiff_adobe_deflate", "I;16 zstd"),
    "JPEG2000": ("L", "RGB", "RGBA"),
    "WEBP": ("RGB", "RGB lossless", "RGBA lossless"),
    "AVIF": ("L", "RGB", "RGBA"),
}

PATIENCE = 20
"""Seconds of processor time after which a process is killed."""

NUMBERS = (
    0,
    1,
    2,
    7,
    127,
    128,
    255,
    256,
    4096,
    16_000,
    32_767,
    32_768,
    65_535,
    65_536,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
)


class Outcome(NamedTuple):
    """What came of a file: ``image``, ``refused``, or a fault, with what it cost."""

    number: int
    kind: str
    what: str
    seconds: float = 0.0
    memory: float = 0.0
    detail: str = ""

    @property
    def fault(self) -> bool:
        """Whether it should not have happened."""
        return self.what not in ("image", "refused")


def samples() -> dict[str, list[bytes]]:
    """Return small valid files of each format that Pillow can write here."""
    found: dict[str, list[bytes]] = {}
    for kind, image, options in _images():
        stream = io.BytesIO()
        more = {"append_images": [image.rotate(90), image.rotate(180)]} if options.get("save_all") else {}
        try:
            image.copy().save(stream, kind, **options, **more)
        except (KeyError, OSError, RuntimeError, ValueError):  # this Pillow, or its libtiff, was built without it
            continue
        found.setdefault("JPEG" if kind == "MPO" else kind, []).append(_without_times(stream.getvalue()))
    for kind, files in _by_hand(found["PNG"][0]).items():
        found[kind] += files
    if importlib.util.find_spec("pillow_heif"):
        found["HEIF"] = _heif()
    return found


def _without_times(data: bytes) -> bytes:
    """Take out when an AVIF animation was made: the same number must give the same file."""
    return re.sub(rb"((?:mvhd|tkhd|mdhd)\x01...).{16}", lambda found: found[1] + bytes(16), data, flags=re.DOTALL)


def _heif() -> list[bytes]:
    import pillow_heif

    files = []
    for image in (Image.new("RGB", (40, 28), (200, 100, 50)), Image.new("RGBA", (40, 28))):
        stream = io.BytesIO()
        pillow_heif.from_pillow(image).save(stream)
        files.append(stream.getvalue())
    return files


def _images() -> list[tuple[str, Image.Image, dict[str, Any]]]:
    """Formats, what is saved in them, and how."""
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)).resize((40, 28))
    grey, palette, alpha, one = photo.convert("L"), photo.quantize(16), photo.convert("RGBA"), photo.convert("1")
    alpha.putalpha(grey)
    both = alpha.convert("LA")
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    cmyk, ycbcr, lab = (photo.convert(mode) for mode in ("CMYK", "YCbCr", "LAB"))
    exif = photo.getexif()
    exif[0x0112], exif[0x010E] = 6, "a text"
    extras = {"exif": exif.tobytes(), "icc_profile": bytes(300), "xmp": b'<x tiff:Orientation="3"/>'}
    frames = {"save_all": True}
    packed = ("packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "jpeg", "lzma", "zstd")
    ways: dict[str, list[tuple[Sequence[Image.Image], Sequence[dict[str, Any]]]]] = {
        "JPEG": [
            ([photo], ({"subsampling": 0, "quality": 95}, {"restart_marker_rows": 1}, extras)),
            ([photo, grey, cmyk, photo.resize((200, 150))], ({}, {"progressive": True})),
        ],
        "MPO": [([photo], [frames])],
        "PNG": [
            ([photo, grey, palette, alpha, both, one, sixteen], [{}]),
            ([photo], [{"transparency": (0, 0, 0)}, extras, frames]),
            ([palette], [{"transparency": 1}]),
        ],
        "GIF": [
            ([photo, palette], [frames, {"comment": b"hello"}]),
            ([palette], [{"transparency": 0, "interlace": 0}]),
        ],
        "BMP": [([photo, grey, palette, one, alpha], [{}])],
        "PPM": [([photo, grey, one, sixteen], [{}])],
        "TGA": [([photo, grey, palette, alpha, both], [{}, {"compression": "tga_rle"}])],
        "TIFF": [
            ([photo, grey, palette, alpha, both, one, sixteen, cmyk, ycbcr, lab], [{}]),
            ([photo, grey], [{"compression": name} for name in packed]),
            ([one], [{"compression": name} for name in ("group3", "group4", "tiff_ccitt")]),
            ([photo], [{"big_tiff": True}, {"exif": exif}, frames]),
        ],
        "JPEG2000": [([photo, grey, alpha, sixteen], [{}, {"no_jp2": True, "tile_size": (16, 16)}])],
        "WEBP": [([photo, alpha], [{}, {"lossless": True}, frames, extras])],
        "AVIF": [([photo, alpha, grey], [{}]), ([photo], [extras, frames])],
    }
    return [
        (kind, image, options)
        for kind, rows in ways.items()
        for images, choices in rows
        for image in images
        for options in choices
    ]


@functools.cache
def large_sample(kind: str, way: str) -> bytes:
    """Return a file of 4000x4000 pixels of one colour; made where it is needed, since that takes a second."""
    mode, _, more = way.partition(" ")
    options: dict[str, Any] = {"compression": more} if kind == "TIFF" else {more: True} if more else {}
    stream = io.BytesIO()
    Image.new(mode, (4000, 4000)).save(stream, kind, **options)
    return stream.getvalue()


def _by_hand(png: bytes) -> dict[str, list[bytes]]:
    """What Pillow does not write."""
    return {
        "PNG": [_with_text(png)],
        "BMP": [_bmp_rle(8), _bmp_rle(4)],
        "TIFF": [_tiled_tiff()],
        "PPM": [
            b"P1 4 2 1 0 1 0 0 1 1 0",
            b"P2 3 2 9 1 2 3 4 5 6",
            b"P3 2 1 255 1 2 3 4 5 6",
            b"P5 4 2 999 " + bytes(range(16)),
            b"P6 2 2 99 " + bytes(range(12)),
            b"P4 9 2 " + bytes(4),
            b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" + bytes(6),
            b"Pf 2 1 -1.0 " + bytes(8),
        ],
    }


def _with_text(png: bytes) -> bytes:
    texts = {
        b"zTXt": b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 10\n4949"),
        b"iTXt": b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b'tiff:Orientation="6"'),
        b"eXIf": b"II*\0" + bytes(40),
    }
    more = b"".join(struct.pack(">I", len(body)) + kind + body + bytes(4) for kind, body in texts.items())
    return mended_png(png[:33] + more + png[33:])


def _bmp_rle(bits: int) -> bytes:
    rows = b"".join(bytes([5, 0x12, 0, 3, 1, 2, 3, 0, 2, 0x21, 0, 0]) for _ in range(7)) + b"\0\2\1\1\0\1"
    colours = bytes(range(256)) * 4 if bits == 8 else bytes(64)
    start = 54 + len(colours)
    head = struct.pack("<IiiHHIIiiII", 40, 10, 8, 1, bits, 1 if bits == 8 else 2, len(rows), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + head + colours + rows


def _tiled_tiff() -> bytes:
    """Four grey tiles of 16x16 pixels, not compressed."""
    fields = [(256, 4, 1, 30), (257, 4, 1, 30), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    fields += [(322, 4, 1, 16), (323, 4, 1, 16), (324, 4, 4, 200), (325, 4, 4, 216)]
    table = b"".join(struct.pack("<HHII", *field) for field in fields)
    head = (b"II*\0" + struct.pack("<IH", 8, len(fields)) + table + bytes(4)).ljust(200, b"\0")
    return head + struct.pack("<8I", 240, 496, 752, 1008, 256, 256, 256, 256) + bytes(8) + bytes(range(256)) * 4


def mended_png(data: bytes) -> bytes:
    """Return the same chunks with the right checksums: without them a damaged header is refused for these alone."""
    found, at = [data[:8]], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + length]
        found.append(data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + length
    return b"".join([*found, data[at:]])


def _repacked(chance: random.Random, png: bytes) -> bytes:
    """The PNG with changed rows in its first chunk of pixels: changes to what is compressed only break it."""
    at = png.index(b"IDAT") - 4
    length = int.from_bytes(png[at : at + 4], "big")
    rows = bytearray(zlib.decompressobj().decompress(png[at + 8 : at + 8 + length]))
    for _ in range(chance.choice((1, 5, 50))):
        rows[chance.randrange(len(rows))] = chance.randrange(256)
    body = zlib.compress(rows)
    return png[:at] + struct.pack(">I", len(body)) + b"IDAT" + body + png[at + 8 + length :]


def damaged(chance: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return the file with a few changes, at most ``MOST_BYTES`` long."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3, 5, 9))):
        # Most of what decides about the rest stands near the start.
        place = chance.randrange(min(len(changed), chance.choice((32, 200, 10**6))) or 1)
        _damage(chance, changed, place, others)
    del changed[MOST_BYTES:]
    return bytes(changed)


def _damage(chance: random.Random, data: bytearray, place: int, others: Sequence[bytes]) -> None:
    match chance.choice(DAMAGES):
        case "flip":
            data[place : place + 1] = bytes(byte ^ 1 << chance.randrange(8) for byte in data[place : place + 1])
        case "set":
            data[place : place + 1] = bytes([chance.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, chance.randrange(256)))])
        case "number":
            size = chance.choice((2, 2, 3, 4, 4, 8))
            value = chance.choice(NUMBERS) % 256**size
            data[place : place + size] = value.to_bytes(size, chance.choice(("big", "little")))
        case "cut":
            del data[chance.randrange(len(data) + 1) :]
        case "remove":
            del data[place : place + chance.choice((1, 2, 4, 30))]
        case "insert":
            data[place:place] = chance.randbytes(chance.choice((1, 2, 4, 60)))
        case "repeat":  # chunks, scans, frames, tags
            part = bytes(data[place : place + chance.choice((4, 12, 40, 300))])
            data[place:place] = part * chance.choice((1, 3, 30, 1000, 1 + MOST_BYTES // (len(part) or 1)))
        case "splice":
            other = chance.choice(others)
            data[place:] = other[chance.randrange(len(other)) :]


DAMAGES = (*["flip", "cut", "remove", "insert", "repeat", "splice"], *["set"] * 3, *["number"] * 3)


class Fuzzer:
    """Damaged files by their number.

    Args:
        seed: what they are drawn with.
        formats: those to take; all by default.
    """

    def __init__(self, seed: int, formats: Sequence[str] = ()) -> None:
        self.seed = seed
        self.samples = {kind: files for kind, files in samples().items() if not formats or kind in formats}
        self._all = [data for files in self.samples.values() for data in files]

    def file(self, number: int) -> tuple[str, bytes]:
        """Return the format and the bytes of a file."""
        chance = random.Random(f"{self.seed}/{number}")  # noqa: S311 - no secret
        kind = list(self.samples)[number % len(self.samples)]
        files = self.samples[kind]
        large = chance.random() < LARGE_SHARE
        data = large_sample(kind, chance.choice(LARGE[kind])) if large and kind in LARGE else chance.choice(files)
        if kind == "PNG" and chance.random() < 0.4:
            data = _repacked(chance, data)
            if chance.random() < 0.5:
                return kind, data
        data = damaged(chance, data, chance.choice((files, self._all)))
        return kind, mended_png(data) if kind == "PNG" and chance.random() < 0.8 else data

    def read(self, number: int, read: Callable[[bytes], Any] = polyface.read_image) -> Outcome:
        """Read a file and return what came of it."""
        kind, data = self.file(number)
        before, started = _start_memory(), time.process_time()
        what, detail = "image", ""
        try:
            read(data)
        except PolyfaceError as error:
            what, detail = "refused", str(error)
            if isinstance(error.__cause__, MemoryError):
                what = "memory"
        except Exception:  # noqa: BLE001 - what it is here to find
            what, detail = "exception", traceback.format_exc()
        seconds, memory = time.process_time() - started, _peak() - before
        if what in ("image", "refused") and seconds > MOST_SECONDS:
            what = "slow"
        elif what in ("image", "refused") and memory > MOST_MEMORY:
            what = "memory"
        return Outcome(number, kind, what, round(seconds, 3), round(memory, 1), detail)


def _start_memory() -> float:
    """Forget the peak of this process; return its size, in MB."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _memory("VmRSS")


def _peak() -> float:
    return _memory("VmHWM")


def _memory(field: str) -> float:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text[text.index(field) :].split(maxsplit=2)[1]) / 1000


def run(fuzzer: Fuzzer, numbers: Sequence[int], workers: int) -> Iterator[Outcome]:
    """Read the files in so many processes; a process that dies costs one file."""
    waiting = [list(numbers[start::workers])[::-1] for start in range(workers)]
    running = [(*_fork(fuzzer, todo), todo) for todo in waiting if todo]
    while running:
        for worker in list(running):
            stream, process, todo = worker
            line = stream.readline()
            if line:
                todo.pop()
                yield Outcome(*json.loads(line))
                continue
            stream.close()
            running.remove(worker)
            _, status = os.waitpid(process, 0)
            if todo:
                number = todo.pop()
                name = signal.Signals(status & 127).name if status & 127 else f"status {status >> 8}"
                what = "slow" if name == "SIGPROF" else "crash"
                yield Outcome(number, fuzzer.file(number)[0], what, float(PATIENCE), 0.0, name)
                if todo:
                    running.append((*_fork(fuzzer, todo), todo))


def _fork(fuzzer: Fuzzer, numbers: Sequence[int]) -> tuple[BinaryIO, int]:
    """Start a process that reads the files from the last to the first; return where its outcomes come, and its id."""
    here, there = os.pipe()
    sys.stdout.flush()
    if process := os.fork():
        os.close(there)
        return os.fdopen(here, "rb"), process
    status = 1
    try:
        most = int((_memory("VmSize") + 4 * MOST_MEMORY) * 1e6)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        warnings.simplefilter("ignore")
        logging.disable()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff says there what it thinks of each
        for number in reversed(numbers):
            signal.setitimer(signal.ITIMER_PROF, PATIENCE)  # the signal kills
            os.write(there, json.dumps(fuzzer.read(number)).encode() + b"\n")
        status = 0
    finally:
        os._exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the files, print a table and what was found, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="files (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--formats", default="", help="such as PNG,TIFF; all by default")
    parser.add_argument("--number", type=int, help="read this file alone")
    parser.add_argument("--keep", type=Path, help="where to write it")
    options = parser.parse_args(arguments)
    fuzzer = Fuzzer(options.seed, [name for name in options.formats.upper().split(",") if name])
    if not fuzzer.samples:
        parser.error(f"no such format: {options.formats}")
    numbers = range(options.count) if options.number is None else [options.number]
    if options.keep:
        options.keep.write_bytes(fuzzer.file(numbers[0])[1])
    rows: dict[str, Counter[str]] = {kind: Counter() for kind in fuzzer.samples}
    slowest, largest = ({kind: Outcome(-1, kind, "") for kind in rows} for _ in range(2))
    faults = []
    for outcome in run(fuzzer, numbers, options.workers):
        rows[outcome.kind][outcome.what] += 1
        slowest[outcome.kind] = max(slowest[outcome.kind], outcome, key=lambda one: one.seconds)
        largest[outcome.kind] = max(largest[outcome.kind], outcome, key=lambda one: one.memory)
        if outcome.fault:
            faults.append(outcome)
            print(f"{outcome.kind} {outcome.number}: {outcome.what}, {outcome.seconds} s, {outcome.memory} MB")
            print(f"  {outcome.detail.strip()}".replace("\n", "\n  "))
        elif options.number is not None:
            print(outcome)
    print(f"{'format':10} {'images':>9} {'refused':>9} {'faults':>7}  slowest, and its number   most memory, likewise")
    for kind, row in rows.items():
        slow, large = slowest[kind], largest[kind]
        bad = row.total() - row["image"] - row["refused"]
        figures = f"{slow.seconds:8.2f} s {slow.number:12} {large.memory:11.0f} MB {large.number:12}"
        print(f"{kind:10} {row['image']:9} {row['refused']:9} {bad:7} {figures}")
    print(f"{len(numbers)} files, seed {options.seed}: {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
