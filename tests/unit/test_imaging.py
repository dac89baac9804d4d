"""Images: what is accepted and how it comes out, what is refused, and the way into the network and back."""

from __future__ import annotations

import io
import math
import re
import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from polyface.errors import ImageError
from polyface.images import reading as imaging
from polyface.images.geometry import Placement, place_image, restore
from polyface.images.preparing import prepare
from polyface.images.reading import decode, read_image
from polyface.plugins.records import Preprocess

PLAIN = Preprocess(channels="rgb", mean=(0, 0, 0))


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def filled(*values, height=2, width=3):
    """An image of one colour."""
    return np.broadcast_to(np.array(values, np.uint8), (height, width, len(values))).copy()


def noise(height=12, width=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def assert_same(image, expected):
    np.testing.assert_array_equal(image, np.array(expected, np.uint8), strict=True)


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
        assert caught.value.fix == "(image * 255).round().astype('uint8') for values in 0-1"

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
        assert caught.value.fix == fix

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
        assert caught.value.fix == "open it in binary mode: open(path, 'rb')"

    def test_a_directory_is_not_an_image(self, tmp_path):
        with pytest.raises(ImageError, match=re.escape(f"'{tmp_path}' cannot be opened.")) as caught:
            read_image(tmp_path)
        assert "directory" in caught.value.why[0]

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (b"", "it is empty (0 bytes)"),
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
        assert caught.value.fix == "if you trust it, --max-pixels 900000000 (in Python max_pixels=900000000)"


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


class TestPrepare:
    def frame(self, height, width, net_height, net_width):
        return Placement(
            image_height=height,
            image_width=width,
            height=height,
            width=width,
            net_height=net_height,
            net_width=net_width,
        )

    def test_pixels_lose_the_mean_are_divided_by_the_std_and_padded_right_and_below(self):
        image = np.array([[[10, 20, 30], [40, 50, 60]]], np.uint8)
        record = Preprocess(channels="rgb", mean=(1, 2, 3), std=(1, 2, 9), pad_value=-7)
        expected = [[[[9, 39, -7], [-7] * 3], [[9, 24, -7], [-7] * 3], [[3, 57 / 9, -7], [-7] * 3]]]
        batch = prepare([image], [self.frame(1, 2, 2, 3)], record)
        np.testing.assert_array_equal(batch, np.array(expected, np.float32), strict=True)

    def test_mean_and_std_are_in_the_order_of_the_channels(self):
        image = np.array([[[10, 20, 30]]], np.uint8)
        record = Preprocess(channels="bgr", mean=(104, 117, 123), std=(2, 1, 1))
        batch = prepare([image], [self.frame(1, 1, 1, 1)], record)
        assert batch[0, :, 0, 0].tolist() == [(30 - 104) / 2, 20 - 117, 10 - 123]

    def test_the_batch_is_contiguous_float32_and_leaves_the_images_alone(self):
        images = [noise(6, 4, seed) for seed in range(3)]
        frames = [self.frame(6, 4, 8, 8)] * 3
        batch = prepare(images, frames, PLAIN)
        assert (batch.shape, batch.dtype, batch.flags.c_contiguous) == ((3, 3, 8, 8), np.float32, True)
        for seed, planes in enumerate(batch):
            np.testing.assert_array_equal(planes[:, :6, :4], noise(6, 4, seed).transpose(2, 0, 1))
            assert_same(images[seed], noise(6, 4, seed))

    def test_images_of_different_sizes_may_share_a_padded_shape(self):
        small, large = prepare(
            [filled(5, 5, 5, height=1, width=1), filled(7, 7, 7, height=2, width=2)],
            [self.frame(1, 1, 2, 2), self.frame(2, 2, 2, 2)],
            PLAIN,
        )[:, 0]
        assert (small.tolist(), large.tolist()) == ([[5, 0], [0, 0]], [[7, 7], [7, 7]])

    def test_halving_averages_neighbours_and_so_does_not_alias(self):
        # One-pixel stripes: without the filter, every second column would come out all black or all white.
        stripes = np.zeros((32, 32, 3), np.uint8)
        stripes[:, ::2] = 255
        frame = place_image(32, 32, PLAIN, min_side=1, pad_to=1, scale=0.5)
        inside = prepare([stripes], [frame], PLAIN)[0, 0, :, 2:-2]
        assert np.abs(inside - 127.5).max() < 1

    def test_a_view_of_an_array_can_be_shrunk(self):
        view = noise(20, 30)[:, ::-1, ::-1]
        frame = place_image(20, 30, PLAIN, min_side=1, pad_to=1, scale=0.5)
        np.testing.assert_array_equal(prepare([view], [frame], PLAIN), prepare([view.copy()], [frame], PLAIN))


@st.composite
def used_again(draw):
    """Heights and widths of images, batch by batch, that all go into one padded shape."""
    net = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    size = st.tuples(st.integers(1, net[0]), st.integers(1, net[1]))
    return net, draw(st.lists(st.lists(size, min_size=1, max_size=3), min_size=1, max_size=4))


@given(used_again(), st.sampled_from(["rgb", "bgr"]), st.floats(-9, 9, width=32), st.integers(0, 99))
def test_a_buffer_that_is_used_again_holds_what_a_loop_over_the_pixels_puts_there(batches, channels, pad_value, seed):
    net, sizes = batches
    record = Preprocess(channels=channels, mean=(104, 117, 123), std=(1, 2, 0.25), pad_value=pad_value)
    memory = np.full(3 * 3 * net[0] * net[1], np.nan, np.float32)
    for group in sizes:
        images = [noise(*size, seed=seed + place) for place, size in enumerate(group)]
        frames = [TestPrepare().frame(*size, *net) for size in group]
        shape = (len(group), 3, *net)
        out = memory[: math.prod(shape)].reshape(shape)
        assert prepare(images, frames, record, out=out) is out
        for n, channel, y, x in np.ndindex(shape):
            expected = pad_value
            if y < group[n][0] and x < group[n][1]:
                value = int(images[n][y, x, channel if channels == "rgb" else 2 - channel])
                expected = (value - (104, 117, 123)[channel]) / (1, 2, 0.25)[channel]
            assert out[n, channel, y, x] == expected


sides = st.integers(1, 5000)
scales = st.just(1.0) | st.floats(0.001, 4)


@given(sides, sides, st.integers(1, 64), st.integers(1, 64), scales, st.integers(1, 64))
@example(1, 2959, 58, 1, 1.0, 51)  # 2959 pixels would become 5916x2958
@example(4033, 4033, 64, 1, 1.0, 63)  # 4033x4033 pixels would become 8064x8064
def test_a_frame_keeps_every_promise(height, width, stride, min_side, scale, pad_to):
    record = Preprocess(channels="rgb", mean=(0, 0, 0), stride=stride)
    scaled = [max(1, round(side * scale)) for side in (height, width)]
    padded = [math.lcm(stride, pad_to) * -(-max(side, min_side) // math.lcm(stride, pad_to)) for side in scaled]
    if math.prod(padded) > 2 * math.prod(scaled) + 2**24:
        with pytest.raises(ImageError, match=f"would be padded to {padded[1]}x{padded[0]}"):
            place_image(height, width, record, min_side=min_side, pad_to=pad_to, scale=scale)
        return
    frame = place_image(height, width, record, min_side=min_side, pad_to=pad_to, scale=scale)
    assert (frame.image_height, frame.image_width) == (height, width)
    multiple = math.lcm(stride, pad_to)
    for net, side, image in ((frame.net_height, frame.height, height), (frame.net_width, frame.width, width)):
        assert side >= 1
        assert abs(side - max(1, image * scale)) <= 0.5 + 1e-9
        assert net % stride == 0
        assert net % pad_to == 0
        assert max(side, min_side) <= net < max(side, min_side) + multiple
    assert frame.shape == (frame.net_height, frame.net_width)


def test_a_frame_by_hand():
    record = Preprocess(channels="rgb", mean=(0, 0, 0), stride=8)
    frame = place_image(900, 1200, record, min_side=32, pad_to=12, scale=8 / 15)
    # 1200 -> 640 and 900 -> 480; then to multiples of lcm(8, 12) = 24.
    assert (frame.height, frame.width, frame.net_height, frame.net_width) == (480, 640, 480, 648)


class TestFixedSize:
    def frame(self, height, width, infer_size, fit):
        return place_image(height, width, PLAIN, min_side=1, pad_to=32, infer_size=infer_size, fit=fit)

    @pytest.mark.parametrize(
        ("height", "width", "infer_size", "scaled"),
        [
            (1080, 1920, (480, 640), (360, 640)),  # by 1/3: the width decides
            (1920, 1080, (480, 640), (480, 270)),  # by 1/4: the height decides
            (120, 160, (480, 640), (480, 640)),  # enlarged by 4
            (50, 100, (33, 47), (24, 47)),  # by 0.47: 23.5, and halves go to the even number
            (2000, 1, (100, 100), (100, 1)),  # never thinner than a pixel
        ],
    )
    def test_a_letterbox_keeps_the_proportions_and_pads_the_rest(self, height, width, infer_size, scaled):
        frame = self.frame(height, width, infer_size, "letterbox")
        assert (frame.height, frame.width) == scaled
        assert frame.shape == infer_size
        assert (frame.image_height, frame.image_width) == (height, width)

    @pytest.mark.parametrize(("height", "width"), [(1080, 1920), (1920, 1080), (3, 5)])
    def test_stretching_fills_the_size(self, height, width):
        frame = self.frame(height, width, (480, 640), "stretch")
        assert (frame.height, frame.width) == frame.shape == (480, 640)

    @pytest.mark.parametrize(
        ("fit", "expected"),
        [
            ("letterbox", [300, 150, 600, 450]),  # 1920x1080 to 640x360: 3 pixels to one
            ("stretch", [300, 112.5, 600, 337.5]),  # to 640x480: 3 across, 2.25 down
        ],
    )
    def test_boxes_come_back_into_the_image(self, fit, expected):
        frame = self.frame(1080, 1920, (480, 640), fit)
        boxes = restore(np.array([[100, 50, 200, 150]], np.float32), frame)
        assert boxes.tolist() == [expected]


@st.composite
def framings(draw):
    """Keywords of ``frame_of``: by a scale, or to a fixed size."""
    if draw(st.booleans()):
        return {"scale": draw(st.floats(0.2, 3))}
    size = draw(st.tuples(st.integers(30, 400), st.integers(30, 400)))
    return {"infer_size": size, "fit": draw(st.sampled_from(["letterbox", "stretch"]))}


@settings(max_examples=80, deadline=None)
@given(st.data(), st.integers(60, 300), st.integers(60, 300), framings())
def test_what_is_found_in_the_network_lies_within_half_a_pixel_in_the_image(data, height, width, framing):
    """A bright rectangle goes through prepare; its centroid, measured there, comes back through restore."""
    x1, y1 = data.draw(st.integers(10, width - 30)), data.draw(st.integers(10, height - 30))
    x2, y2 = data.draw(st.integers(x1 + 10, width - 10)), data.draw(st.integers(y1 + 10, height - 10))
    image = np.zeros((height, width, 3), np.uint8)
    image[y1:y2, x1:x2] = 255
    frame = place_image(height, width, PLAIN, min_side=1, pad_to=32, **framing)
    plane = prepare([image], [frame], PLAIN)[0, 0].astype(np.float64)
    # Pixel i covers i to i + 1, so its centre is i + 0.5.
    centre_y, centre_x = (((np.indices(plane.shape) + 0.5) * plane).sum(axis=(1, 2)) / plane.sum()).tolist()
    found = restore(np.array([[centre_x, centre_y]], np.float32), frame)[0]
    assert np.abs(found - [(x1 + x2) / 2, (y1 + y2) / 2]).max() < 0.5


class TestRestore:
    # An image of 200x100 shrunk to 100x25: x by 2, y by 4.
    frame = Placement(image_width=200, image_height=100, width=100, height=25, net_width=128, net_height=32)

    def test_each_axis_has_its_own_scale(self):
        boxes = restore(np.array([[1, 2, 3, 4]], np.float32), self.frame)
        marks = restore(np.array([[[1, 2], [3, 4]]], np.float32), self.frame)
        assert (boxes.tolist(), boxes.dtype) == ([[2, 8, 6, 16]], np.float32)
        assert (marks.tolist(), marks.dtype) == ([[[2, 8], [6, 16]]], np.float32)

    def test_what_lies_outside_stays_there_and_the_input_is_left_alone(self):
        boxes = np.array([[-1, -2, 120, 30]], np.float32)
        assert restore(boxes, self.frame).tolist() == [[-2, -8, 240, 120]]
        assert boxes.tolist() == [[-1, -2, 120, 30]]

    @pytest.mark.parametrize("shape", [(0, 4), (0, 5, 2)])
    def test_nothing_comes_back_as_nothing(self, shape):
        assert restore(np.empty(shape, np.float32), self.frame).shape == shape


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
