"""Reading: what is accepted as an image and how it comes out, and what is refused."""

from __future__ import annotations

import io
import math
import re
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pixels import assert_same, filled, noise
from polyface.errors import ImageError
from polyface.images import reading as imaging
from polyface.images.reading import decode, read_image


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


class TestArrays:
    def test_an_rgb_array_is_taken_as_it_is(self):
        image = noise()
        assert_same(read_image(image), image)

    @pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1)])
    def test_grey_is_repeated_in_three_channels(self, shape):
        grey = np.arange(6, dtype=np.uint8).reshape(shape)
        assert_same(read_image(grey), [[[v] * 3 for v in row] for row in ([0, 1, 2], [3, 4, 5])])

    def test_rgba_lies_on_white(self):
        rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
        # The last: 255 * (1 - 128 / 255) = 127.
        assert_same(read_image(rgba), [[[10, 20, 30], [255, 255, 255], [127, 127, 127]]])

    def test_sixteen_bits_are_scaled_to_eight_and_rounded(self):
        # 257 = 65535 / 255; 128 / 257 is below one half, 129 / 257 above.
        values = np.array([[0, 128, 129, 257, 100 * 257, 65535]], np.uint16)
        assert read_image(values)[0, :, 0].tolist() == [0, 0, 1, 1, 100, 255]
        assert read_image(values.astype(">u2"))[0, :, 0].tolist() == [0, 0, 1, 1, 100, 255]

    def test_sixteen_bit_rgba_lies_on_white_too(self):
        rgba = np.array([[[2570, 5140, 7710, 65535], [0, 0, 0, 0]]], np.uint16)
        assert_same(read_image(rgba), [[[10, 20, 30], [255, 255, 255]]])

    def test_an_array_that_is_a_view_reads_as_its_copy(self):
        view = noise()[::-2, ::3, ::-1]
        assert_same(read_image(view), view.copy())
        rgba = np.dstack([view, view[:, :, :1]])[::-1]
        assert_same(read_image(rgba), read_image(rgba.copy()))

    @pytest.mark.parametrize("dtype", ["float32", "float64", "bool", "int64", "int8", "complex64", "object", "<U1"])
    def test_another_dtype_is_refused_by_name(self, dtype):
        with pytest.raises(ImageError) as caught:
            read_image(np.zeros((4, 5, 3), dtype))
        assert caught.value.what.startswith(f"Got an array of shape (4, 5, 3) and dtype {np.dtype(dtype)}; wanted: ")
        assert caught.value.why == ("the dtype must be uint8 (or uint16)",)

    @pytest.mark.parametrize("value", [0.5, np.nan])
    def test_floats_come_with_the_line_that_converts_them(self, value):
        with pytest.raises(ImageError) as caught:
            read_image(np.full((4, 5, 3), value, np.float32))
        assert str(caught.value.fix) == "(image * 255).round().astype('uint8') for values in 0-1"

    @pytest.mark.parametrize(
        ("shape", "fix"),
        [
            ((3, 40, 50), "image.transpose(1, 2, 0)"),
            ((1, 40, 50), "image.transpose(1, 2, 0)"),
            ((2, 40, 50, 3), "pass the images of a batch as a list to detect_batch"),
            ((40, 50, 2), ""),
            ((40, 50, 5), ""),
            ((40,), ""),
            ((), ""),
        ],
    )
    def test_another_shape_is_refused_with_the_way_out(self, shape, fix):
        with pytest.raises(ImageError) as caught:
            read_image(np.zeros(shape, np.uint8))
        assert caught.value.what.startswith(f"Got an array of shape {shape} and dtype uint8; wanted: ")
        assert str(caught.value.fix) == fix

    @pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (0, 0)])
    def test_an_array_without_pixels_is_refused(self, shape):
        with pytest.raises(ImageError, match="has no pixels"):
            read_image(np.zeros(shape, np.uint8))


class TestFormats:
    @pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview], ids=lambda wrap: wrap.__name__)
    def test_encoded_bytes_are_decoded(self, wrap):
        assert_same(read_image(wrap(encoded(Image.fromarray(noise())))), noise())

    @pytest.mark.parametrize("wrap", [lambda p: p, str], ids=["path", "text"])
    def test_a_path_is_read(self, tmp_path, wrap):
        path = tmp_path / "image.png"
        path.write_bytes(encoded(Image.fromarray(noise())))
        assert_same(read_image(wrap(path)), noise())

    def test_a_pil_image_is_taken_and_left_open(self):
        image = Image.fromarray(noise())
        assert_same(read_image(image), noise())
        assert image.getpixel((0, 0)) == tuple(noise()[0, 0].tolist())

    def test_a_sixteen_bit_png_is_scaled_to_eight(self):
        grey = np.array([[0, 257, 100 * 257, 65535]], np.uint16)
        assert read_image(encoded(Image.fromarray(grey)))[0].tolist() == [[v] * 3 for v in (0, 1, 100, 255)]

    def test_grey_with_alpha_lies_on_white(self):
        image = Image.fromarray(np.array([[[40, 255], [40, 0], [0, 128]]], np.uint8), "LA")
        assert_same(read_image(encoded(image)), [[[40] * 3, [255] * 3, [127] * 3]])

    def test_one_bit_becomes_black_and_white(self):
        image = Image.fromarray(np.array([[True, False]]))
        assert image.mode == "1"
        assert_same(read_image(encoded(image)), [[[255] * 3, [0] * 3]])

    def palette(self):
        image = Image.new("P", (2, 1))
        image.putpalette([200, 10, 20, 0, 250, 30])
        image.putdata([0, 1])
        return image

    def test_a_palette_becomes_its_colours(self):
        assert_same(read_image(encoded(self.palette())), [[[200, 10, 20], [0, 250, 30]]])

    def test_the_transparent_colour_of_a_palette_is_white(self):
        assert_same(read_image(encoded(self.palette(), transparency=1)), [[[200, 10, 20], [255, 255, 255]]])

    def test_of_an_animation_the_first_frame_is_taken(self):
        frames = [Image.fromarray(filled(*colour)) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
        data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
        assert Image.open(io.BytesIO(data)).n_frames == 3
        assert_same(read_image(data), filled(255, 0, 0))

    def test_a_cmyk_jpeg_has_the_right_colours(self):
        # No cyan, full magenta and yellow: red. JPEG is lossy, by a level or two on a plain colour.
        image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
        pixels = read_image(encoded(image, "JPEG", quality=100))
        assert np.abs(pixels.astype(int) - (255, 0, 0)).max() <= 2

    @pytest.mark.parametrize("mode", ["L", "YCbCr", "HSV"])
    def test_other_modes_of_pil_become_rgb(self, mode):
        assert np.ptp(read_image(Image.new("RGB", (4, 3), (90, 90, 90)).convert(mode)), axis=(0, 1)).tolist() == [0] * 3

    @pytest.mark.parametrize(
        ("orientation", "expected"),
        [
            (1, [[10, 20, 30], [40, 50, 60]]),
            (2, [[30, 20, 10], [60, 50, 40]]),  # mirrored left to right
            (3, [[60, 50, 40], [30, 20, 10]]),  # turned by 180
            (4, [[40, 50, 60], [10, 20, 30]]),  # mirrored top to bottom
            (5, [[10, 40], [20, 50], [30, 60]]),  # transposed
            (6, [[40, 10], [50, 20], [60, 30]]),  # turned clockwise
            (7, [[60, 30], [50, 20], [40, 10]]),  # transposed along the other diagonal
            (8, [[30, 60], [20, 50], [10, 40]]),  # turned counter-clockwise
        ],
    )
    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_an_image_is_turned_as_its_exif_orientation_says(self, orientation, expected, kind):
        image = Image.fromarray(np.array([[10, 20, 30], [40, 50, 60]], np.uint8))
        exif = image.getexif()
        exif[0x0112] = orientation
        data = encoded(image, kind, exif=exif)
        assert_same(read_image(data), [[[v] * 3 for v in row] for row in expected])
        assert_same(read_image(Image.open(io.BytesIO(data))), [[[v] * 3 for v in row] for row in expected])

    def test_an_image_is_turned_even_if_another_exif_tag_is_of_the_wrong_type(self):
        image = Image.fromarray(noise(12, 16))
        exif = image.getexif()
        exif[0x0112] = 6
        exif[0x010E] = "a text"
        data = encoded(image, "JPEG", exif=exif)
        wrong = data.replace(b"\x01\x0e\x00\x02", b"\x01\x02\x00\x02")  # BitsPerSample, as text
        assert wrong != data
        assert read_image(wrong).shape == (16, 12, 3)

    @pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1)])
    def test_the_thinnest_images_are_images(self, size):
        assert read_image(encoded(Image.new("RGB", size))).shape == (size[1], size[0], 3)

    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM", "TGA"])
    def test_pillows_bound_which_is_the_whole_processs_has_no_part_in_it(self, monkeypatch, kind):
        data = encoded(Image.fromarray(noise(2000, 1000)), kind)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2**20)
        assert_same(read_image(data), noise(2000, 1000))


class TestRefusals:
    @pytest.mark.parametrize("thing", [None, 3, [[0, 1]], object(), {"image": 1}])
    def test_what_is_no_image_at_all_is_named_by_its_type(self, thing):
        with pytest.raises(ImageError, match=f"^A {type(thing).__name__} is not an image; wanted: an RGB uint8 array"):
            read_image(thing)

    def test_a_missing_path_does_not_exist(self, tmp_path):
        with pytest.raises(ImageError) as caught:
            read_image(tmp_path / "gone.jpg")
        assert str(caught.value) == f"'{tmp_path / 'gone.jpg'}' does not exist."
        with pytest.raises(ImageError) as caught:
            read_image("https://example.com/a.jpg")
        assert str(caught.value) == (
            "'https://example.com/a.jpg' does not exist.\n"
            "To fix it: give the bytes that it leads to: no address is fetched"
        )

    def test_a_name_that_cannot_be_one_is_said_to_be_it_and_not_repeated_at_any_length(self):
        with pytest.raises(ImageError, match=r"'a\\x00b' cannot be opened") as caught:
            read_image("a\0b")
        assert caught.value.why == ("embedded null byte",)
        with pytest.raises(ImageError) as caught:
            read_image("x" * 200_000)
        assert len(str(caught.value)) < 300

    def test_a_file_open_for_writing_says_how_to_open_it(self, tmp_path):
        with (tmp_path / "a.png").open("wb") as file, pytest.raises(ImageError, match="not open for reading") as caught:
            read_image(file)
        assert str(caught.value.fix) == "open it in binary mode: open(path, 'rb')"

    def test_a_directory_is_not_an_image(self, tmp_path):
        with pytest.raises(ImageError, match=re.escape(f"'{tmp_path}' cannot be opened.")) as caught:
            read_image(tmp_path)
        assert "directory" in caught.value.why[0]

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (b"", "it is empty (0 bytes)"),
            (b"x", "its 1 bytes do not begin as an image does"),
            (b"this is no image\n", "its 17 bytes do not begin as an image does"),
        ],
    )
    def test_a_file_that_is_no_image_says_so_whatever_its_name(self, tmp_path, content, why):
        path = tmp_path / "image.jpg"
        path.write_bytes(content)
        for source, label in ((path, f"'{path}'"), (content, f"the file of {len(content)} bytes")):
            with pytest.raises(ImageError) as caught:
                read_image(source)
            assert caught.value.what == f"{label} is not an image in a format that is read."
            assert caught.value.why == (why,)

    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    def test_a_truncated_file_cannot_be_decoded(self, tmp_path, kind):
        path = tmp_path / "cut.jpg"
        data = encoded(Image.fromarray(noise(64, 64)), kind)
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(ImageError, match="cannot be decoded") as caught:
            read_image(path)
        assert caught.value.why[0]

    def test_a_pil_image_of_a_truncated_file_cannot_be_decoded_either(self):
        data = encoded(Image.fromarray(noise(64, 64)), "JPEG")
        with pytest.raises(ImageError, match=r"^the PIL image cannot be decoded"):
            read_image(Image.open(io.BytesIO(data[: len(data) // 2])))

    def test_a_closed_pil_image_is_refused(self):
        image = Image.open(io.BytesIO(encoded(Image.fromarray(noise()))))
        image.close()
        with pytest.raises(ImageError, match=r"^the PIL image cannot be decoded"):
            read_image(image)

    @pytest.mark.parametrize("mode", ["I", "F"])
    def test_thirty_two_bit_pixels_are_refused_since_their_range_is_unknown(self, mode):
        with pytest.raises(ImageError, match=f"32-bit pixels \\(mode '{mode}'\\)"):
            read_image(Image.new(mode, (4, 4)))

    def test_a_mode_without_a_way_to_rgb_is_refused(self):
        with pytest.raises(ImageError, match=r"^the PIL image cannot be decoded"):
            read_image(Image.new("La", (4, 4)))

    def test_a_pil_image_without_pixels_is_refused(self):
        with pytest.raises(ImageError, match="has no pixels: it is 0x5"):
            read_image(Image.new("RGB", (0, 5)))

    def bomb(self, width, height):
        """A PNG of a few bytes that declares ``width`` by ``height`` pixels."""

        def chunk(kind, data):
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + body

    def test_a_decompression_bomb_is_refused_before_it_is_unpacked(self):
        with pytest.raises(ImageError, match="has too many pixels") as caught:
            read_image(self.bomb(30_000, 30_000))
        assert str(caught.value.fix) == "if you trust it: max_pixels=900000000"


def ramp(height, width):
    """A smooth image: red grows downwards, green to the right, from 0 to 255."""
    red, green = (np.linspace(0, 255, side) for side in (height, width))
    return np.stack(np.broadcast_arrays(red[:, None], green, 90.0), axis=2).round().astype(np.uint8)


class TestDrafts:
    @pytest.mark.parametrize(
        ("scale", "shape"),
        [
            (1.0, (640, 800)),
            (0.251, (640, 800)),
            (0.25, (320, 400)),
            (0.126, (320, 400)),
            (0.125, (160, 200)),
            (0.0625, (80, 100)),
            (0.001, (80, 100)),
        ],
    )
    def test_a_draft_has_twice_what_is_wanted_and_knows_the_size_of_the_whole(self, tmp_path, scale, shape):
        path = tmp_path / "image.jpg"
        path.write_bytes(encoded(Image.fromarray(ramp(640, 800)), "JPEG"))
        for source in (path, path.read_bytes()):
            draft = decode(source, lambda *_: scale)
            assert (draft.pixels.shape, draft.shape, draft.whole) == ((*shape, 3), (640, 800), shape == (640, 800))

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
    def test_a_draft_shows_the_means_of_the_pixels_it_stands_for(self, options):
        data = encoded(Image.fromarray(ramp(640, 800)), "JPEG", quality=95, **options)
        draft = decode(data, lambda *_: 0.1).pixels
        means = ramp(640, 800).reshape(160, 4, 200, 4, 3).mean(axis=(1, 3))
        assert np.abs(draft - means).max() < 4

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_the_scale_is_asked_for_the_image_as_it_is_shown(self, orientation):
        image = Image.fromarray(ramp(320, 480))
        exif = image.getexif()
        exif[0x0112] = orientation
        data = encoded(image, "JPEG", exif=exif)
        asked = []
        draft = decode(data, lambda *shape: asked.append(shape) or 0.25)
        whole = read_image(data)
        height, width = whole.shape[:2]
        assert (asked, draft.shape) == ([(height, width)], (height, width))
        means = whole.reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))
        assert np.abs(draft.pixels - means).max() < 4

    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
    def test_another_format_stays_whole(self, kind):
        data = encoded(Image.fromarray(noise(64, 64)), kind)
        assert_same(decode(data, lambda *_: 0.01).pixels, read_image(data))

    def test_what_is_no_file_stays_whole(self):
        for source in (noise(64, 64), Image.open(io.BytesIO(encoded(Image.fromarray(noise(64, 64)), "JPEG")))):
            whole = decode(source, lambda *_: 0.01)
            assert (whole.shape, whole.whole) == ((64, 64), True)
            assert_same(whole.pixels, read_image(source))

    def test_a_truncated_file_is_refused_as_a_draft_too(self):
        data = encoded(Image.fromarray(noise(64, 64)), "JPEG")
        with pytest.raises(ImageError, match="cannot be decoded"):
            decode(data[: len(data) // 2], lambda *_: 0.1)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.floats(0.001, 2))
def test_a_draft_is_of_one_of_four_sizes_and_never_too_small(height, width, scale):
    draft = decode(encoded(Image.new("L", (width, height)), "JPEG"), lambda *_: scale)
    assert draft.shape == (height, width)
    part = draft.pixels.shape[:2]
    assert part in [(math.ceil(height / n), math.ceil(width / n)) for n in (1, 2, 4, 8)]
    assert part[0] >= min(height, 2 * scale * height)
    assert part[1] >= min(width, 2 * scale * width)


FUZZED = [
    encoded(Image.fromarray(noise()), "JPEG"),
    encoded(Image.fromarray(noise()), "JPEG", progressive=True),
    encoded(Image.fromarray(noise()), "PNG"),
    encoded(Image.fromarray(noise()).quantize(8), "PNG", transparency=1),
    encoded(Image.fromarray(noise()[:, :, 0].astype(np.uint16) * 257), "PNG"),
]


@st.composite
def damaged_files(draw, files=FUZZED):
    """A JPEG or PNG with a few bytes changed, put in or cut off, more often near its start."""
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, 80) | st.integers(0, len(FUZZED[0])))
        action = draw(st.sampled_from(["set", "set", "set", "insert", "delete", "cut"]))
        if action == "set" and place < len(data):
            data[place] = draw(st.integers(0, 255))
        elif action == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=4))
        elif action == "delete":
            del data[place : place + draw(st.integers(1, 4))]
        elif action == "cut":
            del data[max(place, 1) :]
    return bytes(data)


def with_and_without_simplejpeg(data):
    """What comes of the file: the image, or what the error says."""
    found = []
    for module in (imaging._simplejpeg(), None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(imaging, "_simplejpeg", lambda module=module: module)
            try:
                found.append(read_image(data))
            except ImageError as error:
                found.append(str(error))
    return found


class TestFastJpeg:
    @pytest.fixture
    def taken(self, require, monkeypatch):
        """The shapes that simplejpeg gives."""
        require("simplejpeg")
        import simplejpeg

        decode_jpeg, shapes = simplejpeg.decode_jpeg, []

        def spy(*args, **options):
            pixels = decode_jpeg(*args, **options)
            shapes.append(pixels.shape)
            return pixels

        monkeypatch.setattr(simplejpeg, "decode_jpeg", spy)
        return shapes

    @pytest.mark.parametrize(
        "options",
        [
            {"subsampling": 0},
            {"subsampling": 1},
            {"subsampling": 2},
            {"quality": 100},
            {"quality": 5},
            {"progressive": True},
            {"keep_rgb": True},
            {"restart_marker_rows": 1},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("side", [37, 64])
    def test_the_pixels_are_pillows(self, tmp_path, taken, options, side):
        path = tmp_path / "image.jpg"
        path.write_bytes(encoded(Image.fromarray(noise(side, side + 3)), "JPEG", **options))
        for source in (path, path.read_bytes()):
            mine, pillows = with_and_without_simplejpeg(source)
            assert_same(mine, pillows)
        assert taken == [(side, side + 3, 3)] * 2

    @pytest.mark.parametrize("mode", ["L", "CMYK"])
    def test_other_modes_are_left_to_pillow(self, taken, mode):
        mine, pillows = with_and_without_simplejpeg(encoded(Image.fromarray(noise()).convert(mode), "JPEG"))
        assert_same(mine, pillows)
        assert taken == []

    def test_an_image_that_lies_on_its_side_is_left_to_pillow(self, taken):
        image = Image.fromarray(noise(12, 16))
        exif = image.getexif()
        exif[0x0112] = 6
        assert read_image(encoded(image, "JPEG", exif=exif)).shape == (16, 12, 3)
        assert taken == []

    def test_a_draft_is_left_to_pillow(self, taken):
        data = encoded(Image.fromarray(noise(64, 64)), "JPEG")
        assert decode(data, lambda *_: 0.25).pixels.shape == (32, 32, 3)
        assert taken == []
        assert decode(data, lambda *_: 0.26).whole
        assert taken == [(64, 64, 3)]


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_gives_the_same_image_or_error_with_simplejpeg(require, monkeypatch):
    require("simplejpeg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)

    @settings(max_examples=400, deadline=None)
    @given(damaged_files(FUZZED[:2]))  # the JPEGs
    def check(data):
        mine, pillows = with_and_without_simplejpeg(data)
        assert type(mine) is type(pillows)
        np.testing.assert_array_equal(mine, pillows)

    check()


@pytest.mark.filterwarnings("ignore")  # Pillow warns of much that is odd in a damaged file
@settings(max_examples=400, deadline=None)
@given(damaged_files())
def test_a_damaged_file_is_decoded_or_refused_and_nothing_else(data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)  # a changed header may ask for gigabytes
        try:
            image = read_image(data)
        except ImageError:
            return
    assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)


@pytest.mark.parametrize("damage", [b"garbage!", b"Exif\0\0II*\0", b"hello"])
@pytest.mark.parametrize("suffix", ["PNG", "WEBP"])
def test_damaged_exif_data_leave_the_pixels_as_they_are(suffix, damage):
    stream = io.BytesIO()
    options = {"lossless": True} if suffix == "WEBP" else {}
    Image.fromarray(noise()).save(stream, suffix, exif=damage, **options)
    assert_same(read_image(stream.getvalue()), noise())


def test_a_sixteen_bit_pgm_is_scaled_to_eight():
    pixels = np.array([0, 257, 100 * 257, 65535], ">u2").tobytes()
    assert read_image(b"P5 4 1 65535 " + pixels)[0, :, 0].tolist() == [0, 1, 100, 255]


def test_a_strided_memoryview_holds_the_bytes_it_shows():
    stream = io.BytesIO()
    Image.fromarray(noise()).save(stream, "PNG")
    spread = bytearray(2 * len(stream.getvalue()))
    spread[::2] = stream.getvalue()
    assert_same(read_image(memoryview(spread)[::2]), noise())
