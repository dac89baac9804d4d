"""Files of images: which decoders may see them, within what bounds, and what is said of those that are refused."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import struct
import sys
import threading
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFile

from polyface.errors import ConfigError, Fix, ImageError
from polyface.images.decoding import DENSITY, MAX_PIXELS, SMALL, Source, orientation_of
from polyface.images.reading import decode, read_image


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(height=12, width=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(colour, *chunks, side=8, pixel=b"\0"):
    rows = chunk(b"IDAT", zlib.compress((b"\0" + pixel * side) * side))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + rows + chunk(b"IEND", b"")


def with_chunk(data, kind, body):
    """A PNG with a chunk behind its header, which is 33 bytes."""
    return data[:33] + chunk(kind, body) + data[33:]


def tiff(*fields, order="<", pixels=b""):
    """A TIFF of one directory; a field is tag, type, count and its value, or the place of it."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    table = b""
    for tag, kind, count, value in fields:
        short = kind == 3 and count == 1
        table += struct.pack(order + ("HHIHH" if short else "HHII"), tag, kind, count, value, *([0] if short else []))
    return (head + struct.pack(order + "H", len(fields)) + table + b"\0" * 4).ljust(200, b"\0") + pixels


def grey_tiff(*more, width=2, height=1, bits=8, photometric=1, pixels=b"\0\xff"):
    fields = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, bits), 259: (3, 1, 1), 262: (3, 1, photometric)}
    fields |= {273: (4, 1, 200), 277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, len(pixels))}
    fields |= {tag: rest for tag, *rest in more}
    return tiff(*((tag, *fields[tag]) for tag in sorted(fields)), pixels=pixels)


def refusal(source, **options):
    with pytest.raises(ImageError) as caught:
        read_image(source, **options)
    return caught.value


class TestFormats:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 28\n%%EndComments\nshowpage\n%%EOF\n"

    @pytest.fixture
    def called(self, tmp_path, monkeypatch):
        """Whether a stand-in for Ghostscript was run on a file: the file that it then leaves."""
        gs, trace = tmp_path / "gs", tmp_path / "called"
        gs.write_text(f"#!/bin/sh\n[ \"$1\" = --version ] || : > '{trace}'\ncat > /dev/null\necho 10.0\n")
        gs.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        from PIL import EpsImagePlugin

        monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
        return trace

    @pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
    def test_postscript_is_not_run(self, called):
        error = refusal(self.postscript)
        assert error.why == ("it is a PostScript program, which polyface does not run",)
        assert not called.exists()

    @pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
    def test_postscript_is_run_where_it_was_asked_for(self, called):
        refusal(self.postscript, formats=["EPS"])  # the stand-in draws nothing
        assert called.exists()

    def test_a_format_that_is_not_among_the_usual_is_read_where_it_is_asked_for(self):
        data = encoded(Image.fromarray(noise()), "SGI")
        error = refusal(data)
        assert error.why == ("it looks like SGI, which is read only where it is asked for",)
        assert str(error.fix) == 'if you trust it: formats="SGI"'
        np.testing.assert_array_equal(read_image(data, formats=["SGI"]), noise())

    @pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TGA", "TIFF"])
    def test_the_usual_formats_are_told_by_what_is_in_the_file(self, tmp_path, kind):
        path = tmp_path / "image.eps"
        path.write_bytes(encoded(Image.fromarray(noise()), kind))
        np.testing.assert_array_equal(read_image(path), noise())

    @pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "JPEG2000", "AVIF"])
    def test_the_lossy_ones_are_read_nearly_as_they_were(self, kind):
        if kind == "AVIF" and kind not in Image.SAVE:
            pytest.skip("Pillow here has no AVIF")
        plain = Image.new("RGB", (32, 24), (200, 100, 50))
        assert np.abs(read_image(encoded(plain, kind)).astype(int) - (200, 100, 50)).max() <= 12

    def test_the_setting_is_a_list_or_a_text_of_names_and_they_are_pillows(self):
        from polyface.settings.config import Config

        assert Config(formats="eps, SGI").formats == Config(formats=["EPS", "SGI"]).formats == ("EPS", "SGI")
        with pytest.raises(ConfigError, match=r"^formats must be names of formats that Pillow reads, .* not 'EPSS'"):
            Config(formats="EPSS")

    def test_heic_names_the_package_that_reads_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        error = refusal(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(400))
        assert error.why == ("it is a HEIC image, which Pillow alone does not read",)
        assert str(error.fix) == "pip install pillow-heif"

    def test_heic_is_read_by_that_package_and_pillow_does_not_learn_it(self, require):
        require("pillow_heif")
        import pillow_heif

        stream = io.BytesIO()
        pillow_heif.from_pillow(Image.new("RGB", (64, 48), (200, 100, 50))).save(stream)
        image = read_image(stream.getvalue())
        assert image.shape == (48, 64, 3)
        assert np.abs(image.astype(int) - (200, 100, 50)).max() <= 12
        assert "HEIF" not in Image.OPEN

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"%PDF-1.7\n", "it is a PDF document"),
            (b"<!DOCTYPE html><html>", "it is an HTML page, not the image it may link to"),
            (b"<?xml version='1.0'?><svg/>", "it is XML or SVG, which is text"),
            (b"PK\3\4" + bytes(40), "it is a ZIP archive"),
            (b"\0\0\0\x20ftypisom" + bytes(40), "it is a video"),
            (b"version https://git-lfs.github.com/spec/v1\n", "it is a pointer of Git LFS, not the image itself"),
            (b"\1\2\3\4" * 10, "its 40 bytes do not begin as an image does"),
        ],
    )
    def test_what_is_no_image_is_named_where_it_can_be_known(self, data, why):
        assert refusal(data).why == (why,)

    def test_of_a_video_the_error_says_what_reads_it(self):
        assert "pip install polyface-video" in str(refusal(b"\0\0\0\x20ftypisom" + bytes(40)).fix)


class TestWhateverADecoderRaises:
    def test_a_palette_that_is_lost(self):
        assert "cannot be decoded" in refusal(png(3)).what
        read_image(png(3, chunk(b"PLTE", b"\0" * 3)))

    @pytest.mark.parametrize("error", [AssertionError(), AttributeError("x"), RecursionError(), ZeroDivisionError("0")])
    def test_any_exception_becomes_the_images_error(self, monkeypatch, error):
        def fail(*_):
            raise error

        monkeypatch.setattr(Image.Image, "crop", fail)
        assert refusal(png(2, pixel=b"\0\0\0")).why == (str(error) or type(error).__name__,)

    def test_what_is_no_exception_of_a_decoder_goes_through(self, monkeypatch):
        def fail(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(Image.Image, "crop", fail)
        with pytest.raises(KeyboardInterrupt):
            read_image(png(2, pixel=b"\0\0\0"))

    @pytest.mark.parametrize("end", ["closed", "verified"])
    def test_a_pil_image_without_its_file_says_so(self, end):
        image = Image.open(io.BytesIO(encoded(Image.fromarray(noise()))))
        if end == "verified":
            image.verify()
        else:
            with image:
                pass
        assert refusal(image).why == ("it was closed, or only verified, before its pixels were read",)

    def test_a_pil_image_that_was_loaded_and_closed_is_an_image(self, tmp_path):
        (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(noise())))
        with Image.open(tmp_path / "a.png") as image:
            image.load()
        np.testing.assert_array_equal(read_image(image), noise())

    def test_a_tiff_that_was_loaded_is_turned_once(self):
        exif = Image.Exif()
        exif[0x0112] = 6
        data = encoded(Image.fromarray(noise(12, 16)), "TIFF", exif=exif)
        image = Image.open(io.BytesIO(data))
        image.load()
        for source in (data, image, image.copy()):
            np.testing.assert_array_equal(read_image(source), np.rot90(noise(12, 16), -1))

    def test_a_header_that_the_decoder_knows_and_cannot_use_gives_its_reason(self):
        assert refusal(grey_tiff(bits=24)).why == ("TIFF: unknown pixel mode",)


def file_of(length):
    return Source(file=io.BytesIO(), length=length, label="it", max_pixels=None)


class TestPixels:
    def test_a_file_may_have_as_many_as_pillow_lets_in_by_default(self):
        assert MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS
        file_of(10**9).check_size((MAX_PIXELS, 1))
        with pytest.raises(ImageError) as caught:
            file_of(10**9).check_size((MAX_PIXELS + 1, 1))
        assert caught.value.why == ("at most 178,956,970 are read, so that no file fills the memory",)

    def test_a_short_file_may_have_fewer(self):
        file_of(1).check_size((SMALL, 1))
        file_of(100_000).check_size((DENSITY * 100_000, 1))
        with pytest.raises(ImageError) as caught:
            file_of(100_000).check_size((5000, 5001))
        assert str(caught.value).splitlines() == [
            "it has too many pixels: 5000x5001.",
            "  - at most 25,000,000 are read from a file of 100,000 bytes, so that no file fills the memory",
            "To fix it: if you trust it: max_pixels=25005000",
        ]

    def test_the_setting_alone_counts_where_it_is_given(self):
        data = encoded(Image.new("1", (6000, 6000)))
        assert len(data) < 6000
        refusal(data)
        assert read_image(data, max_pixels=36_000_000).shape == (6000, 6000, 3)
        refusal(data, max_pixels=35_999_999)
        assert "at most 191 are read" in refusal(encoded(Image.fromarray(noise())), max_pixels=191).why[0]

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "JPEG2000", "TGA"])
    def test_it_holds_for_every_format(self, kind):
        data = encoded(Image.new("RGB", (40, 30)), kind)
        assert read_image(data, max_pixels=1200).shape == (30, 40, 3)
        assert "too many pixels: 40x30" in refusal(data, max_pixels=1199).what

    def test_a_draft_counts_by_its_own_pixels(self):
        data = encoded(Image.new("L", (800, 640)), "JPEG")
        assert decode(data, lambda *_: 0.01, max_pixels=8000).pixels.shape == (80, 100, 3)
        with pytest.raises(ImageError, match="too many pixels: 100x80"):
            decode(data, lambda *_: 0.01, max_pixels=7999)

    def test_a_draft_of_a_progressive_jpeg_counts_by_the_whole_which_is_held(self):
        data = encoded(Image.new("L", (800, 640)), "JPEG", progressive=True)
        with pytest.raises(ImageError, match="too many pixels: 800x640"):
            decode(data, lambda *_: 0.01, max_pixels=8000)

    def test_threads_do_not_see_each_others_bounds(self):
        data = encoded(Image.new("L", (40, 30)))
        found = {True: set(), False: set()}

        def read(allowed):
            for _ in range(200):
                try:
                    found[allowed].add(read_image(data, max_pixels=1200 if allowed else 1199).shape)
                except ImageError:
                    found[allowed].add(None)

        threads = [threading.Thread(target=read, args=[allowed]) for allowed in (True, False) * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {True: {(30, 40, 3)}, False: {None}}

    def test_the_tiles_of_a_tiff_count_as_well(self):
        data = grey_tiff((322, 4, 1, 100_000), (323, 4, 1, 100_000))
        assert "too many pixels: 100000x100000" in refusal(data).what

    def test_the_canvas_of_a_webp_is_looked_at_before_it_is_opened(self, monkeypatch):
        data = bytearray(encoded(Image.fromarray(noise()), "WEBP", exif=b"Exif\0\0II*\0"))
        assert data[12:16] == b"VP8X"
        data[24:30] = b"\xff\xff\x3f" * 2
        monkeypatch.setitem(Image.OPEN, "WEBP", (pytest.fail, lambda start: start[8:12] == b"WEBP"))
        assert "too many pixels: 4194304x4194304" in refusal(bytes(data)).what


class TestWorkThatFewBytesBuy:
    def scans(self, count):
        """A progressive JPEG whose last scan comes ``count`` times."""
        data = encoded(Image.new("L", (16, 16), 90), "JPEG", progressive=True)
        at = data.rindex(b"\xff\xda")
        return data[:at] + data[at:-2] * count + data[-2:]

    def test_a_jpeg_of_many_scans_is_refused(self):
        read_image(self.scans(1))
        assert "at most 50 are read" in refusal(self.scans(200)).why[0]

    def test_a_tiff_of_many_scans_is_refused(self):
        data = encoded(Image.fromarray(noise(16, 16)), "TIFF", compression="jpeg")
        read_image(data)
        assert "scans; at most 50 are read" in refusal(data + b"\xff\xda" * 200).why[0]

    def test_a_tiff_of_many_strips_is_refused(self):
        data = grey_tiff((273, 4, 200_000, 200), height=200_000, width=1) + bytes(800_000)
        assert refusal(data).why == (
            "it has 200,000 strips; at most 100,000 are read, since each is decoded by itself",
        )

    def test_a_tiff_whose_tags_all_show_the_same_bytes_is_refused(self):
        data = grey_tiff(*((tag, 7, 60_000, 200) for tag in (700, 701, 702))) + bytes(60_000)
        assert refusal(data).why == ("its tags hold 180,000 bytes, which is more than the whole file",)

    def test_exif_data_whose_tags_all_show_the_same_bytes_are_read_for_the_orientation_alone(self):
        tags = [(0x0112, 3, 1, 6)] + [(1000 + tag, 7, 40_000, 200) for tag in range(9)]
        exif = b"Exif\0\0" + tiff(*tags) + bytes(40_000)
        assert read_image(encoded(Image.fromarray(noise(12, 16)), "JPEG", exif=exif)).shape == (16, 12, 3)

    @pytest.mark.parametrize(
        ("field", "value", "why"),
        [(24, struct.pack(">II", 2, 2), "16,384 tiles"), (40, struct.pack(">H", 16_000), "16000 components")],
    )
    def test_a_jpeg_2000_of_very_many_tiles_or_components_is_refused(self, field, value, why):
        data = bytearray(encoded(Image.fromarray(noise(256, 256)), "JPEG2000", no_jp2=True))
        data[field : field + len(value)] = value
        assert why in refusal(bytes(data)).why[0]

    def test_each_codestream_of_a_jpeg_2000_counts(self):
        plain = encoded(Image.fromarray(noise(64, 64)), "JPEG2000")
        bait = encoded(Image.fromarray(noise(8, 8)), "JPEG2000", no_jp2=True)
        box = struct.pack(">I4s", 8 + len(bait), b"uuid") + bait
        read_image(plain[:32] + box + plain[32:])
        read_image(plain[:32] + box + plain[32:], max_pixels=64 * 64)
        assert "64x64" in refusal(plain[:32] + box + plain[32:], max_pixels=64 * 64 - 1).what

    def test_a_jpeg_2000_of_very_small_blocks_is_refused(self):
        image = Image.fromarray(noise(64, 64))
        read_image(encoded(image, "JPEG2000", codeblock_size=(16, 16)))
        assert "very small blocks" in refusal(encoded(image, "JPEG2000", codeblock_size=(4, 4))).why[0]
        data = encoded(image, "JPEG2000", precinct_size=(64, 64))
        precincts = bytes([0x11, 0x22, 0x33, 0x44, 0x55, 0x66])  # powers of two, from the smallest resolution on
        read_image(data)
        assert "very small blocks" in refusal(data.replace(precincts, precincts[:5] + b"\x22")).why[0]

    @pytest.mark.parametrize("kind", [b"P5", b"P6"])
    @pytest.mark.parametrize("most", [1, 7, 100, 254, 256, 999, 1023, 4095, 65_534])
    @pytest.mark.parametrize("head", [b"%s %d %d %d ", b"%s\n# a text\n%d %d # another\n%d\n"])
    def test_a_ppm_of_an_odd_range_is_scaled_as_pillow_does_it(self, kind, most, head):
        values = np.random.default_rng(most).integers(0, most + 2, 5 * 4 * (3 if kind == b"P6" else 1))
        body = values.clip(0, 65_535 if most > 255 else 255).astype(">u2" if most > 255 else np.uint8).tobytes()
        data = head % (kind, 5, 4, most) + body
        np.testing.assert_array_equal(read_image(data), read_image(Image.open(io.BytesIO(data))))
        assert "cannot be decoded" in refusal(data[:-1]).what

    @pytest.mark.parametrize("kind", [1, 2])
    def test_a_large_bmp_that_is_packed_by_run_lengths_is_refused(self, kind):
        bits = 8 // kind
        rows = bytes([8, 0x33, 0, 0]) * 2 + b"\0\1"

        def bmp(height):
            head = struct.pack("<IiiHHIIiiII", 40, 8, height, 1, bits, kind, len(rows), 0, 0, 0, 0)
            colours = bytes(4 * 2**bits)
            start = 54 + len(colours)
            return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + head + colours + rows

        assert read_image(bmp(2)).shape == (2, 8, 3)
        assert refusal(bmp(1_000_001)).why == (
            "it is packed by run lengths; at most 8,000,000 pixels are unpacked, not 8x1000001",
        )

    def test_a_long_narrow_lab_image_is_converted_at_once_and_not_by_the_strip(self, monkeypatch):
        strips = []
        convert = Image.Image.convert
        monkeypatch.setattr(
            Image.Image, "convert", lambda self, *args: strips.append(self.size) or convert(self, *args)
        )
        assert read_image(encoded(Image.new("LAB", (1, 5000)), "TIFF")).shape == (5000, 1, 3)
        assert strips == [(1, 5000)]


class TestWhatIsNotPixels:
    @pytest.mark.parametrize(
        ("kind", "body"),
        [
            (b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * 2_000_000)),
            (b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(b"x" * 2_000_000)),
            (b"iCCP", b"monitor\0\0" + zlib.compress(b"x" * 80_000_000)),
            (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"x" * 80_000_000)),
        ],
    )
    def test_much_text_or_a_large_profile_in_a_png_is_left_aside(self, kind, body):
        data = encoded(Image.fromarray(noise()))
        np.testing.assert_array_equal(read_image(with_chunk(data, kind, body)), noise())

    def test_a_damaged_chunk_beside_the_pixels_of_a_png_is_left_aside(self):
        data = encoded(Image.fromarray(noise()))
        np.testing.assert_array_equal(read_image(data[:33] + b"\0\0\0\3tEXta\0bNONE" + data[33:]), noise())

    def test_pixels_in_very_many_chunks_are_read_as_one(self):
        data = encoded(Image.fromarray(noise()))
        at = data.index(b"IDAT") - 4
        length = int.from_bytes(data[at : at + 4], "big")
        split = b"".join(chunk(b"IDAT", data[place : place + 1]) for place in range(at + 8, at + 8 + length))
        np.testing.assert_array_equal(read_image(data[:at] + split + data[at + 12 + length :]), noise())

    def exif(self, orientation):
        return tiff((0x0112, 3, 1, orientation), order=">")

    @pytest.mark.parametrize("packed", [True, False])
    def test_a_png_is_turned_as_exif_data_in_its_texts_say(self, packed):
        profile = b"\nexif\n     200\n" + self.exif(6).hex().encode()
        body = b"Raw profile type exif\0" + (b"\0" + zlib.compress(profile) if packed else profile)
        data = with_chunk(encoded(Image.fromarray(noise(12, 16))), b"zTXt" if packed else b"tEXt", body)
        np.testing.assert_array_equal(read_image(data), np.rot90(noise(12, 16), -1))

    def test_an_image_is_turned_as_its_xmp_says_where_it_has_no_exif(self):
        xmp = b'<rdf tiff:Orientation="3"/>'
        data = with_chunk(encoded(Image.fromarray(noise())), b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
        np.testing.assert_array_equal(read_image(data), np.rot90(noise(), 2))
        jpeg = encoded(Image.fromarray(noise()), "JPEG")
        turned = read_image(encoded(Image.fromarray(noise()), "JPEG", xmp=xmp))
        np.testing.assert_array_equal(turned, np.rot90(read_image(jpeg), 2))

    @pytest.mark.parametrize(
        ("data", "orientation"),
        [
            (b"", 1),
            (b"II*\0", 1),
            (tiff((0x0112, 3, 1, 8)), 8),
            (tiff((0x0112, 3, 1, 8), order=">"), 8),
            (tiff((0x0112, 3, 1, 9)), 1),
            (tiff((0x0112, 2, 1, 8)), 1),  # a text
            (tiff((0x010F, 2, 4, 0), (0x0112, 4, 1, 5)), 5),
            (b"II*\0\xff\xff\xff\xff", 1),
        ],
    )
    def test_the_orientation_is_read_from_exif_data_and_damaged_ones_are_upright(self, data, orientation):
        assert orientation_of(b"Exif\0\0" + data) == orientation_of(data) == orientation

    def test_comments_and_profiles_of_a_jpeg_are_left_aside(self):
        data = encoded(Image.fromarray(noise()), "JPEG")
        more = b"".join(b"\xff" + bytes([kind]) + b"\0\7hello" for kind in (0xFE, 0xE2, 0xED) for _ in range(5000))
        np.testing.assert_array_equal(read_image(data[:2] + more + data[2:]), read_image(data))


def photo(height=200, width=120):
    image = Image.fromarray(noise(height // 8, width // 8)).resize((width, height))
    ImageDraw.Draw(image).ellipse((20, 20, 90, 180), "white")
    return image


def test_of_many_texts_of_a_png_only_the_first_is_unpacked(monkeypatch):
    unpacked = []
    unpack = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", lambda: unpacked.append(None) or unpack())
    text = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\n" * 1000))
    read_image(png(2, *[text] * 50, pixel=b"\0\0\0"))
    assert len(unpacked) == 1


class TestJpegWithoutItsEnd:
    @pytest.mark.parametrize(
        "options",
        [{}, {"progressive": True}, {"quality": 100}, {"restart_marker_rows": 1}, {"subsampling": 0}],
        ids=str,
    )
    def test_one_that_lacks_only_its_end_marker_is_read(self, options):
        data = encoded(photo(), "JPEG", **options)
        for cut in (data[:-2], data[:-1], data[:-2] + bytes(100)):
            np.testing.assert_array_equal(read_image(cut), read_image(data))

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 100}], ids=str)
    def test_one_that_lacks_pixels_is_refused(self, options):
        data = encoded(photo(), "JPEG", **options)
        start = data.index(b"\xff\xda") + 20
        for place in np.random.default_rng(3).integers(start, len(data) - 8, 40):
            error = refusal(data[:place])
            assert "cut short" in error.why[0] or error.what.endswith("cannot be decoded.")

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}], ids=str)
    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    def test_wherever_one_is_cut_it_is_refused_or_has_the_pixels_of_the_whole(self, mode, options):
        data = encoded(Image.fromarray(noise(24, 40)).convert(mode), "JPEG", **options)
        whole = read_image(data)
        read = {}
        for length in range(20, len(data) - 1):
            with contextlib.suppress(ImageError):
                read[length] = read_image(data[:length])
        assert len(data) - 2 in read
        # The last byte may hold nothing but filling.
        assert set(read) <= {len(data) - 3, len(data) - 2}
        assert all(np.array_equal(pixels, whole) for pixels in read.values())

    def test_one_that_ends_between_two_components_is_refused(self):
        # Pillow writes all components into one scan; a header that lists one more says that its scan is to come.
        data = bytearray(encoded(photo().convert("L"), "JPEG"))
        at = data.index(b"\xff\xc0")
        data[at + 3] += 3
        data[at + 9] = 2
        data[at + 13 : at + 13] = b"\x02\x11\x00"
        assert refusal(bytes(data[:-2])).why == ("it is cut short: its last scans are missing",)

    def test_a_progressive_one_that_ends_between_two_scans_is_refused(self):
        data = encoded(photo(), "JPEG", progressive=True)
        at = len(data) - 2
        for _ in range(4):
            at = data.rindex(b"\xff\xc4", 0, at)
            assert refusal(data[:at]).why == ("it is cut short: its last scans are missing",)

    @pytest.mark.parametrize("scale", [None, lambda *_: 0.2], ids=["whole", "draft"])
    def test_one_that_lacks_pixels_has_those_above_the_cut_where_that_is_asked_for(self, scale):
        data = encoded(photo(), "JPEG")
        whole = decode(data, scale)
        cut = decode(data[: len(data) // 2], scale, damaged=True)
        assert (whole.damaged, cut.damaged) == (False, True)
        assert cut.shape == whole.shape
        alike = (cut.pixels == whole.pixels).all(axis=(1, 2))
        rows = int(np.argmin(alike))
        assert 0.2 < rows / len(alike) < 0.8
        assert len(np.unique(cut.pixels[-4:].reshape(-1, 3), axis=0)) == 1

    def test_a_progressive_one_has_the_scans_that_are_there_where_that_is_asked_for(self):
        data = encoded(photo(), "JPEG", progressive=True)
        whole = decode(data, damaged=True)
        assert not whole.damaged
        before = 255.0
        for part in (0.3, 0.6, 0.9):
            cut = decode(data[: int(len(data) * part)], damaged=True)
            assert cut.damaged
            off = float(np.abs(cut.pixels.astype(int) - whole.pixels).mean())
            assert off < before
            before = off

    def test_one_that_lacks_only_its_end_marker_is_not_damaged(self):
        data = encoded(photo(), "JPEG")
        assert not decode(data[:-2], damaged=True).damaged

    @pytest.mark.parametrize("length", [2, 100, 300, 600])
    def test_one_without_any_pixels_is_refused_all_the_same(self, length):
        data = encoded(photo(), "JPEG")
        assert data.index(b"\xff\xda") > 600
        with pytest.raises(ImageError):
            decode(data[:length], damaged=True)

    def test_what_mends_it_is_a_setting_which_the_library_takes_as_well(self, caplog):
        data = encoded(photo(), "JPEG")[:4000]
        assert refusal(data).fix == Fix("for what can be read of it", settings={"damaged": "read"})
        assert read_image(data, damaged="read").shape == read_image(encoded(photo(), "JPEG")).shape
        assert caplog.messages == ["the file of 4000 bytes is cut short, and read as far as it goes"]
        with pytest.raises(ConfigError, match="damaged must be 'refuse' or 'read', not 'mend'"):
            read_image(data, damaged="mend")

    def test_nothing_of_pillow_is_switched_for_it(self, monkeypatch):
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
        read_image(encoded(photo(), "JPEG")[:4000], damaged="read")
        assert ImageFile.LOAD_TRUNCATED_IMAGES is False

    def test_a_draft_of_one_is_read_as_well(self):
        data = encoded(photo(), "JPEG")
        np.testing.assert_array_equal(decode(data[:-2], lambda *_: 0.2).pixels, decode(data, lambda *_: 0.2).pixels)


class TestSilentMisreadings:
    @pytest.mark.parametrize(("photometric", "expected"), [(1, [0, 1, 100, 255]), (0, [255, 254, 155, 0])])
    def test_sixteen_bit_grey_whose_zero_is_white_is_turned_round(self, photometric, expected):
        pixels = np.array([0, 257, 100 * 257, 65535], "<u2").tobytes()
        data = grey_tiff(width=4, bits=16, photometric=photometric, pixels=pixels)
        assert read_image(data)[0, :, 0].tolist() == expected

    def test_twelve_bit_grey_is_scaled_from_its_own_range(self):
        # Two pixels in three bytes: 4095, 0, 2048 and 819, of which 819 is a fifth.
        data = grey_tiff(width=4, bits=12, pixels=bytes([0xFF, 0xF0, 0x00, 0x80, 0x03, 0x33]))
        assert read_image(data)[0, :, 0].tolist() == [255, 0, 128, 51]

    @pytest.mark.parametrize("field", [(254, 4, 1, 1), (255, 3, 1, 2)])
    def test_a_tiff_that_begins_with_a_thumbnail_is_refused(self, field):
        read_image(grey_tiff())
        error = refusal(grey_tiff(field))
        assert error.why[0].startswith("it begins with a thumbnail")
        assert str(error.fix) == "develop it into a JPEG or TIFF first"

    def test_the_raw_data_of_a_camera_are_refused(self):
        assert refusal(grey_tiff((50706, 1, 4, 0x0401))).why == ("it is the raw data of a camera (DNG)",)

    def test_a_copy_of_a_larger_image_below_it_is_refused_and_copies_below_the_image_are_not(self):
        def holding(width):
            below = len(data := grey_tiff((330, 4, 1, 0)))
            return grey_tiff((330, 4, 1, below)) + data[8:].replace(
                struct.pack("<HHII", 256, 4, 1, 2), struct.pack("<HHII", 256, 4, 1, width)
            )

        assert refusal(holding(300)).why[0].startswith("it begins with a thumbnail")
        assert read_image(holding(1)).shape == (1, 2, 3)

    def test_a_page_larger_than_the_first_is_told(self, caplog):
        pages = [Image.fromarray(noise(height=12)), Image.fromarray(noise(height=24))]
        read_image(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
        assert caplog.records[0].getMessage().endswith("of which the first is read, though another is larger")

    def test_an_image_that_is_transparent_everywhere_shows_its_colours_and_a_warning(self, caplog):
        rgba = np.dstack([noise(), np.zeros((12, 16), np.uint8)])
        for source in (rgba, Image.fromarray(rgba), encoded(Image.fromarray(rgba))):
            caplog.clear()
            np.testing.assert_array_equal(read_image(source), noise())
            assert "is transparent everywhere" in caplog.text
        rgba[0, 0, 3] = 255  # one pixel is enough for the alpha to mean something
        caplog.clear()
        assert read_image(rgba)[1:].min() == 255
        assert not caplog.records

    def frames(self, count, kind, **options):
        images = [Image.fromarray(noise(seed=seed)) for seed in range(count)]
        return encoded(images[0], kind, save_all=True, append_images=images[1:], **options)

    @pytest.mark.parametrize(
        ("kind", "note"),
        [
            ("GIF", "an animation of several frames, of which the first is read"),
            ("PNG", "an animation of 3 frames, of which the first is read"),
            ("WEBP", "an animation of 3 frames, of which the first is read"),
            ("TIFF", "a file of several pages, of which the first is read"),
        ],
    )
    def test_one_image_of_several_is_read_and_the_log_says_so(self, caplog, kind, note):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = self.frames(3, kind, **options)
        image = read_image(data)
        [record] = caplog.records
        assert (record.name, record.levelno) == ("polyface.images", logging.WARNING)
        assert record.getMessage() == f"the file of {len(data)} bytes is {note}"
        if kind != "GIF":
            np.testing.assert_array_equal(image, noise())
        caplog.clear()
        read_image(self.frames(1, kind, **options))
        assert not caplog.records

    def test_of_an_mpo_the_views_count_and_previews_do_not(self, caplog):
        data = self.frames(2, "MPO")
        place = data.index(b"MPF\0") + 4
        order = ">" if data[place : place + 2] == b"MM" else "<"
        entry = data.index(struct.pack(order + "HH", 0xB002, 7), place)
        entries = place + struct.unpack_from(order + "I", data, entry + 8)[0]
        # Unknown, as of a map of light; a preview; one of a stereo pair.
        for kind, said in ((0x000000, False), (0x010001, False), (0x020002, True)):
            caplog.clear()
            changed = bytearray(data)
            changed[entries + 16 : entries + 20] = struct.pack(order + "I", kind)
            read_image(bytes(changed))
            assert bool(caplog.records) == said

    def test_smaller_copies_behind_a_tiff_are_no_further_pages(self, caplog):
        for kind, said in ((1, False), (4, False), (0, True)):  # a smaller copy, a mask, a page
            second = struct.pack("<HHHIII", 1, 254, 4, 1, kind, 0)
            data = bytearray(grey_tiff().ljust(300, b"\0") + second)
            data[10 + 9 * 12 : 14 + 9 * 12] = struct.pack("<I", 300)
            caplog.clear()
            read_image(bytes(data))
            assert bool(caplog.records) == said


class Pipe(io.RawIOBase):
    """A file that cannot be sought, as a socket or a pipe is."""

    def __init__(self, data):
        self._stream = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._stream.readinto(memoryview(buffer)[:7])


class TestOpenFiles:
    data = encoded(Image.fromarray(noise()))

    def test_an_open_file_is_read_from_its_start_and_left_where_it_was(self, tmp_path):
        path = tmp_path / "a.png"
        path.write_bytes(self.data)
        with path.open("rb") as file:
            for place in (0, 5, len(self.data)):
                file.seek(place)
                np.testing.assert_array_equal(read_image(file), noise())
                assert file.tell() == place

    def test_bytes_in_memory_that_were_just_written_are_read(self):
        stream = io.BytesIO()
        Image.fromarray(noise()).save(stream, "PNG")
        np.testing.assert_array_equal(read_image(stream), noise())

    def test_what_cannot_be_sought_is_read_to_its_end(self):
        pipe = Pipe(b"before" + self.data)
        assert pipe.read(6) == b"before"
        np.testing.assert_array_equal(read_image(pipe), noise())

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
    def test_a_named_pipe_is_read(self, tmp_path):
        path = tmp_path / "pipe"
        os.mkfifo(path)
        writer = threading.Thread(target=path.write_bytes, args=[self.data])
        writer.start()
        np.testing.assert_array_equal(read_image(path), noise())
        writer.join()

    def test_a_member_of_an_archive_is_read(self):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("a.png", self.data)
        with zipfile.ZipFile(stream) as archive, archive.open("a.png") as member:
            np.testing.assert_array_equal(read_image(member), noise())

    def test_a_text_file_is_refused_with_the_way_out(self, tmp_path):
        (tmp_path / "a.png").write_bytes(self.data)
        with (tmp_path / "a.png").open(encoding="latin-1") as file:
            assert str(refusal(file).fix) == "open it in binary mode: open(path, 'rb')"
        assert "text file" in refusal(io.StringIO("a")).what

    def test_a_closed_file_is_refused(self):
        stream = io.BytesIO(self.data)
        stream.close()
        assert refusal(stream).why == ("I/O operation on closed file.",)

    def test_a_file_without_end_is_refused(self, monkeypatch):
        monkeypatch.setattr("polyface.images.reading.LONGEST_FILE", 1000)
        assert refusal(io.BytesIO(bytes(1001))).what == "The open file is too long: at most 1,000 bytes are read."
