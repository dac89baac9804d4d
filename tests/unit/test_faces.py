"""Faces out of images: cropped, aligned, and made unrecognisable."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixels import assert_same, noise
from polyface.errors import ConfigError, ImageError, UnsupportedError
from polyface.images.faces import FIVE, _similarities, align, anonymize, crop
from polyface.images.reading import Decoded, read_image
from polyface.measure.widerface import read_truth
from polyface.results import Detections

NONE = Detections.from_dicts([])


def faces_at(*boxes, landmarks=None):
    return Detections(boxes=boxes, scores=np.linspace(0.9, 0.5, len(boxes)), landmarks=landmarks)


EDGE = st.one_of(st.floats(-60, 120, width=32), st.sampled_from([-3e38, -0.5, 0, 0.5, 3e38]))
BOXES = st.lists(st.tuples(EDGE, EDGE, EDGE, EDGE), max_size=4)


class TestCrop:
    IMAGE = noise(50, 60)

    @pytest.mark.parametrize(
        ("box", "margin", "rows", "columns"),
        [
            ((10, 20, 30, 45), 0, (20, 45), (10, 30)),
            ((10.2, 20.9, 29.1, 44.5), 0, (20, 45), (10, 30)),
            ((20, 20, 24, 30), 0.5, (15, 35), (15, 29)),
            ((20, 20, 24, 30), 10, (0, 50), (0, 60)),
            ((-5, -7, 3, 4), 0, (0, 4), (0, 3)),
            ((55, 48, 70, 70), 0, (48, 50), (55, 60)),
            ((5, 6, 5, 6), 0, (6, 7), (5, 6)),
            ((5.5, 6.5, 5.5, 6.5), 0, (6, 7), (5, 6)),
            ((30, 45, 10, 20), 0, (20, 45), (10, 30)),
            ((100, 100, 120, 120), 0, (49, 50), (59, 60)),
            ((-9, -9, -3, 20), 0, (0, 20), (0, 1)),
        ],
    )
    def test_is_what_the_box_and_its_margin_touch_of_the_image(self, box, margin, rows, columns):
        [face] = crop(self.IMAGE, faces_at(box), margin=margin)
        assert_same(face, self.IMAGE[slice(*rows), slice(*columns)])

    def test_is_a_copy_of_each_face_in_their_order(self):
        image = self.IMAGE.copy()
        small, large = crop(image, faces_at((0, 0, 5, 6), (10, 10, 40, 50)))
        assert (small.shape, large.shape) == ((6, 5, 3), (40, 30, 3))
        small[:] = 0
        assert_same(image, self.IMAGE)
        assert crop(image, NONE) == []

    def test_of_a_draft_has_its_pixels(self):
        draft = Decoded(pixels=self.IMAGE, shape=(100, 120))
        assert_same(crop(draft, faces_at((20, 40, 60, 90)))[0], self.IMAGE[20:45, 10:30])

    @given(BOXES, st.floats(0, 10))
    def test_has_a_pixel_at_least_and_lies_in_the_image_whatever_the_box(self, boxes, margin):
        found = crop(self.IMAGE, Detections(boxes=np.reshape(boxes, (-1, 4)), scores=[0.5] * len(boxes)), margin=margin)
        assert len(found) == len(boxes)
        assert all(1 <= face.shape[0] <= 50 and 1 <= face.shape[1] <= 60 for face in found)

    @pytest.mark.parametrize("margin", [-0.1, np.nan, np.inf, "wide"])
    def test_refuses_a_margin_that_is_none(self, margin):
        with pytest.raises(ConfigError, match=r"^margin must be a number from 0 to 10, not "):
            crop(self.IMAGE, NONE, margin=margin)


# By InsightFace's face_align.py, in the middles of pixels; polyface counts from their outer edge.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
LAID = TEMPLATE + 0.5


def laid(points):
    return faces_at((0, 0, 1, 1), landmarks=[points])


def turned(points, degrees, scale=1.0, shift=(0, 0)):
    """Points turned about the middle of 112x112 pixels, scaled and shifted."""
    a = np.deg2rad(degrees)
    matrix = scale * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return (points - 56) @ matrix.T + 56 + shift


def slope(height, width):
    """An image whose red grows to the right and whose green grows downwards, a level every two pixels."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x // 2, y // 2, 0 * x], axis=2).astype(np.uint8)


class TestAlign:
    def test_landmarks_on_the_template_leave_the_image_as_it_is(self):
        image = noise(130, 140)
        np.testing.assert_allclose(align(image, laid(LAID))[0], image[:112, :112].astype(int), atol=1)

    @pytest.mark.parametrize("quarters", [1, 2, 3])
    def test_a_face_on_its_side_is_turned_upright(self, quarters):
        image = noise(112, 112)
        [found] = align(image, laid(turned(LAID, 90 * quarters)))
        np.testing.assert_allclose(found, np.rot90(image, quarters).astype(int), atol=1)

    def test_a_mirrored_face_is_not_mirrored_back(self):
        mirrored = LAID * [-1, 1] + [112, 0]
        a, _ = _similarities(mirrored[None], 112)[0]
        assert abs(a.imag) < 0.01  # upright, and shrunk towards the axis that it would have to be mirrored at
        assert 0 < a.real < 1

    @given(
        st.floats(-180, 180),
        st.floats(-3, 3).map(np.exp),
        st.tuples(st.floats(-900, 900), st.floats(-900, 900)),
        st.integers(0, 2**32 - 1),
    )
    def test_the_transform_is_the_least_squares_similarity(self, degrees, scale, shift, seed):
        jitter = np.random.default_rng(seed).normal(0, 5 * scale, (5, 2))
        points = turned(LAID, degrees, scale, shift) + jitter
        a, b = _similarities(points[None], 112)[0]
        # By its ten equations at once: x' = p x - q y + s, y' = q x + p y + t.
        x, y = points.T
        one, zero = np.ones(5), np.zeros(5)
        rows = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
        p, q, s, t = np.linalg.lstsq(rows, LAID.T.ravel(), rcond=None)[0]
        np.testing.assert_allclose([a.real, a.imag, b.real, b.imag], [p, q, s, t], rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("size", [112, 224, 97])
    @pytest.mark.parametrize("degrees", [0, 33, -120])
    def test_the_transform_is_that_of_scikit_image(self, require, degrees, size):
        require("skimage")
        from skimage.transform import SimilarityTransform

        points = turned(LAID, degrees, 2.5, (300, -40)) + noise(5, 2, seed=7)[:, :, 0] / 20
        wanted = SimilarityTransform.from_estimate(points, LAID * size / 112).params
        a, b = _similarities(points[None], size)[0]
        np.testing.assert_allclose([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]], wanted[:2], atol=1e-9)

    @pytest.mark.parametrize("size", [112, 64, 200])
    @pytest.mark.parametrize(
        ("degrees", "scale"), [(0, 1), (0, 0.4), (20, 0.7), (-75, 1.3), (140, 1.9), (10, 2), (5, 3.3)]
    )
    def test_each_pixel_is_what_lies_there_in_the_image(self, degrees, scale, size):
        shift = np.array([190, 200])
        [found] = align(slope(500, 500), laid(turned(LAID, degrees, scale, shift)), size=size)
        middles = (np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1) + 0.5) * 112 / size
        wanted = turned(middles.reshape(-1, 2), degrees, scale, shift).reshape(size, size, 2)
        # A level is two pixels wide, so that they lie 0.5 below the half of a place; Pillow cuts off what is no level.
        np.testing.assert_allclose(found[:, :, :2], wanted / 2 - 0.75, atol=1)

    @pytest.mark.parametrize("scale", [3, 7.5, 12])
    @pytest.mark.parametrize("degrees", [0, 31])
    def test_shrinking_averages_and_does_not_pick_pixels(self, degrees, scale):
        side = 2 * int(112 * scale)
        board = np.indices((side, side)).sum(axis=0) % 2 * 255
        image = np.repeat(board[:, :, None], 3, axis=2).astype(np.uint8)
        [found] = align(image, laid(turned(LAID, degrees, scale, side / 2 - 56)))
        assert np.abs(found.astype(int) - 127).max() <= 15  # 1 of 9, which is a mean over 3x3

    def test_what_lies_outside_the_image_is_black(self):
        [found] = align(np.full((112, 112, 3), 200, np.uint8), laid(LAID + np.array([56, 0])))
        assert (found[:, :55] == 200).all()
        assert (found[:, 57:] == 0).all()
        assert not align(noise(), laid(LAID + 5000)).any()

    def test_a_face_of_any_size_can_be_aligned(self):
        for scale in (1e-6, 1e-3, 1e3, 1e6):
            assert align(noise(40, 30), laid(turned(LAID, 10, scale)), size=8).shape == (1, 8, 8, 3)

    def test_of_a_draft_landmarks_lie_in_its_pixels(self):
        image = noise(130, 140)
        [found] = align(Decoded(pixels=image, shape=(260, 280)), laid(LAID * 2))
        np.testing.assert_allclose(found, image[:112, :112].astype(int), atol=1)

    def test_no_faces_are_an_array_of_none(self):
        assert align(noise(), NONE, size=64).shape == (0, 64, 64, 3)

    @pytest.mark.parametrize(
        ("landmarks", "has"), [(None, "none"), ([[[1, 2], [3, 4]]], "2 a face"), (np.zeros((1, 6, 2)), "6 a face")]
    )
    def test_other_landmarks_are_refused_with_those_that_are_wanted(self, landmarks, has):
        with pytest.raises(UnsupportedError, match=r"^These faces cannot be aligned\.") as caught:
            align(noise(), faces_at((0, 0, 1, 1), landmarks=landmarks))
        [why] = caught.value.why
        assert all(name in why for name in FIVE)
        assert why.endswith(f"the detector gives {has}")

    def test_landmarks_in_one_point_are_an_error_that_says_which_face(self):
        faces = faces_at((0, 0, 1, 1), (0, 0, 1, 1), landmarks=[LAID, np.full((5, 2), 7)])
        with pytest.raises(ImageError, match=r"^Face 1 cannot be aligned\."):
            align(noise(), faces)

    @pytest.mark.parametrize("size", [0, 4097, 1.5, None])
    def test_refuses_a_size_that_is_none(self, size):
        with pytest.raises(ConfigError, match=r"^size must be a whole number from 1 to 4096, not "):
            align(noise(), NONE, size=size)


def shape_of(image, box, grow, shape):
    """The pixels that a face's shape holds, and its middle, worked out from the words of the documentation."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = box
    more = grow * max(x2 - x1, y2 - y1)
    left, top, right, bottom = np.floor(x1 - more), np.floor(y1 - more), np.ceil(x2 + more), np.ceil(y2 + more)
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    y, x = np.mgrid[:height, :width] + 0.5
    radius = np.hypot((2 * x - left - right) / (right - left), (2 * y - top - bottom) / (bottom - top))
    within = (left < x) & (x < right) & (top < y) & (y < bottom)
    return within & ((shape == "box") | (radius < 1)), radius < 0.5


WAYS = st.sampled_from(["blur", "pixelate", "fill", "image"])
SHAPES = st.sampled_from(["ellipse", "box"])
NEAR = st.floats(-20, 80).map(lambda value: round(value, 1))


@st.composite
def a_box(draw):
    (x1, x2), (y1, y2) = (sorted(draw(st.tuples(NEAR, NEAR))) for _ in range(2))
    return x1, y1, x2, y2


class TestAnonymize:
    IMAGE = noise(50, 60)

    @given(st.lists(a_box(), max_size=3), WAYS, SHAPES, st.sampled_from([0, 0.2, 0.35]))
    def test_no_pixel_outside_the_shapes_changes(self, boxes, how, shape, grow):
        cover = np.full((3, 4, 3), 255, np.uint8) if how == "image" else None
        faces = Detections(boxes=np.reshape(boxes, (-1, 4)), scores=[0.5] * len(boxes))
        done = anonymize(self.IMAGE, faces, how=how, shape=shape, grow=grow, replacement=cover)
        within = np.zeros((50, 60), bool)
        for box in faces.boxes.astype(float).tolist():
            within |= shape_of(self.IMAGE, box, grow, shape)[0]
        assert_same(done[~within], self.IMAGE[~within])
        if how == "fill":
            assert not done[within].any()
        if how == "image":
            assert (done[within] == 255).all()

    @given(a_box(), st.sampled_from(["blur", "pixelate"]), SHAPES, st.integers(0, 2**32 - 1))
    def test_of_a_face_two_mean_colours_are_left_and_nothing_else(self, box, how, shape, seed):
        """However the pixels of the middle are shuffled, and those of the rim: what comes out is the same."""
        within, middle = shape_of(self.IMAGE, np.float32(box).tolist(), 0.2, shape)
        shuffled, order = self.IMAGE.copy(), np.random.default_rng(seed)
        for cell in (within & middle, within & ~middle):
            shuffled[cell] = order.permutation(shuffled[cell])
        one, other = (anonymize(image, faces_at(box), how=how, shape=shape) for image in (self.IMAGE, shuffled))
        assert_same(one[within], other[within])

    def test_a_blur_goes_from_the_colour_of_the_middle_to_that_of_the_rim(self):
        image = np.full((100, 100, 3), 50, np.uint8)
        y, x = np.mgrid[:100, :100] + 0.5
        image[np.hypot(x - 50, y - 50) < 25] = (200, 100, 50)
        done = anonymize(image, faces_at((0, 0, 100, 100)), grow=0).astype(int)
        assert np.abs(done[49:51, 49:51] - (200, 100, 50)).max() <= 1
        assert np.abs(done[50, [0, 99]] - 50).max() <= 1
        assert np.abs(done[50, 25] - (125, 75, 50)).max() <= 3  # half way
        assert (np.diff(done[50, :50, 0]) >= 0).all()

    def test_a_mosaic_has_six_cells_across_and_down_whatever_the_size(self):
        for side in (24, 60, 300):
            image = np.full((side, side, 3), 50, np.uint8)
            image[side // 3 : -(side // 3), side // 3 : -(side // 3)] = 200
            done = anonymize(image, faces_at((0, 0, side, side)), how="pixelate", shape="box", grow=0)
            cells = done[:: side // 6, :: side // 6]
            assert_same(np.kron(cells, np.ones((side // 6, side // 6, 1), np.uint8)), done)
            assert cells.shape == (6, 6, 3)
            assert cells[2, 2, 0] > cells[1, 1, 0] > cells[0, 0, 0]

    def test_an_ellipse_of_the_usual_growth_holds_the_corners_of_a_usual_box(self):
        image = np.full((300, 300, 3), 255, np.uint8)
        done = anonymize(image, faces_at((100, 80, 190, 200)), how="fill")
        assert not done[80:200, 100:190].any()

    def test_a_replacement_is_stretched_over_the_face_and_cut_where_the_image_ends(self):
        cover = np.zeros((10, 10, 3), np.uint8)
        cover[:, 5:] = 255
        wide = anonymize(self.IMAGE, faces_at((10, 10, 50, 30)), how="image", shape="box", grow=0, replacement=cover)
        assert not wide[10:30, 10:26].any()
        assert (wide[10:30, 34:50] == 255).all()
        cut = anonymize(self.IMAGE, faces_at((-40, 10, 40, 30)), how="image", shape="box", grow=0, replacement=cover)
        assert (cut[10:30, 8:40] == 255).all()

    def test_a_transparent_replacement_shows_nothing_of_the_face(self):
        cover = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
        cover.putpixel((0, 0), (255, 0, 0, 255))
        done = anonymize(self.IMAGE, faces_at((20, 20, 40, 40)), how="image", shape="box", replacement=cover)
        assert (done[22:38, 22:38].reshape(-1, 3).max(axis=1) == 255).all()
        assert (done[30:38, 30:38] == 255).all()

    def test_of_faces_that_overlap_none_shows_through_and_the_best_lies_on_top(self):
        image = np.full((40, 40, 3), 90, np.uint8)
        image[:20] = 30
        boxes = (0, 0, 40, 20), (0, 10, 40, 40)  # the better one first
        done = anonymize(image, faces_at(*boxes), shape="box", grow=0)
        assert (done[:20] == 30).all()  # by the image as it was, whatever was painted before
        assert (done[20:] > 60).all()

    @given(BOXES, WAYS, SHAPES)
    def test_any_box_can_be_treated(self, boxes, how, shape):
        cover = noise(5, 4) if how == "image" else None
        faces = Detections(boxes=np.reshape(boxes, (-1, 4)), scores=[0.5] * len(boxes))
        done = anonymize(self.IMAGE, faces, how=how, shape=shape, replacement=cover)
        assert (done.shape, done.dtype) == ((50, 60, 3), np.uint8)

    def test_is_a_copy_and_grey_becomes_rgb(self):
        image = self.IMAGE[:, :, 0].copy()
        done = anonymize(image, faces_at((10, 10, 40, 40)))
        assert_same(image, self.IMAGE[:, :, 0])
        assert (done.shape, (done[:, :, 0] == done[:, :, 1]).all()) == ((50, 60, 3), True)
        same = anonymize(self.IMAGE, NONE)
        assert_same(same, self.IMAGE)
        assert not np.shares_memory(same, self.IMAGE)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"how": "smear"}, "how must be 'blur' or 'pixelate' or 'fill' or 'image', not 'smear'."),
            ({"shape": "star"}, "shape must be 'ellipse' or 'box', not 'star'."),
            ({"grow": -1}, "grow must be a number from 0 to 10, not -1."),
            ({"how": "image"}, "There is no image to lie over each face."),
            ({"replacement": noise()}, "A replacement is given, and how is 'blur'."),
        ],
    )
    def test_refuses_what_it_does_not_know(self, arguments, message):
        with pytest.raises(ConfigError) as caught:
            anonymize(self.IMAGE, NONE, **arguments)
        assert caught.value.what == message


# What retinaface-mobilenet025 finds in the examples.
EXAMPLES = {
    "astronaut": [[178, 57, 273, 177]],
    "grace_hopper": [[174, 111, 355, 332]],
    "collage": [
        [877, 644, 936, 717], [569, 122, 715, 303], [429, 436, 525, 554], [81, 651, 133, 715], [991, 113, 1148, 301],
        [1084, 434, 1194, 554], [762, 445, 852, 556], [136, 111, 290, 303], [1147, 652, 1199, 716], [98, 443, 194, 559],
        [733, 785, 770, 828], [614, 653, 667, 717], [289, 784, 326, 827], [67, 781, 108, 828], [948, 781, 992, 833],
        [506, 783, 552, 836], [971, 878, 994, 903],
    ],
}  # fmt: skip
SIDE = 112


def cut(image, box):
    """A face of 112x112 pixels."""
    x1, y1, x2, y2 = np.clip(box, 0, image.shape[1::-1] * 2).tolist()
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR, (x1, y1, x2, y2)))


def matched(treated, originals, within):
    """How many treated faces are most alike to their own original among all, by their correlation in grey."""

    def rows(faces):
        grey = (np.array(faces, np.float64) @ [0.299, 0.587, 0.114])[:, within]
        grey -= grey.mean(axis=1, keepdims=True)
        return grey / np.maximum(np.linalg.norm(grey, axis=1, keepdims=True), 1e-9)

    return int((np.argmax(rows(treated) @ rows(originals).T, axis=1) == np.arange(len(treated))).sum())


def deconvolved(face, sigma, noise_level=1e-3):
    """A face as Wiener's filter sharpens it, if it was blurred by a Gaussian of that standard deviation in pixels."""
    across = np.exp(-2 * (np.pi * sigma * np.fft.fftfreq(SIDE)) ** 2)
    blur = (across[:, None] * across)[:, :, None]
    spectrum = np.fft.fft2(face.astype(np.float64), axes=(0, 1))
    return np.fft.ifft2(spectrum * blur / (blur**2 + noise_level), axes=(0, 1)).real


@pytest.fixture(scope="module")
def examples(pytestconfig):
    folder = pytestconfig.rootpath / "examples"
    return [(read_image(folder / f"{name}.jpg"), boxes) for name, boxes in EXAMPLES.items()]


@pytest.fixture(scope="module")
def wider(shared):
    """The faces of 90 pixels and more of the images that are there."""
    folder = shared / "widerface/WIDER_val/images"
    return [
        cut(read_image(path), [*box[:2], *(box[:2] + box[2:])])
        for name, truth in read_truth(shared / "widerface/ground_truth").items()
        if (path := folder / f"{name}.jpg").is_file()
        for box in truth.boxes
        if min(box[2:]) >= 90
    ]


class TestNobodyIsFoundAgain:
    """Of N faces chance finds one, with a standard deviation of one: more than four would be above it."""

    MOST = 4
    EVERYWHERE = np.ones((SIDE, SIDE), bool)
    Y, X = np.mgrid[:SIDE, :SIDE] + 0.5
    INSIDE = np.hypot(X - SIDE / 2, Y - SIDE / 2) < SIDE / 2

    def check(self, originals, how):
        whole = faces_at((0, 0, SIDE, SIDE))
        treated = [anonymize(face, whole, how=how, shape="box", grow=0) for face in originals]
        assert matched(treated, originals, self.EVERYWHERE) <= self.MOST
        for sigma in (1, 3, 8, 20):
            sharpened = [deconvolved(face, sigma) for face in treated]
            assert matched(sharpened, originals, self.EVERYWHERE) <= self.MOST

    def test_the_matcher_finds_faces_in_a_mosaic_of_4x4_cells(self, examples):
        originals = [cut(image, box) for image, boxes in examples for box in boxes]
        small = [np.asarray(Image.fromarray(face).resize((4, 4), Image.Resampling.BOX)) for face in originals]
        mosaic = [np.kron(face, np.ones((SIDE // 4, SIDE // 4, 1), np.uint8)) for face in small]
        assert matched(mosaic, originals, self.EVERYWHERE) > len(originals) / 2

    @pytest.mark.parametrize("how", ["blur", "pixelate", "fill"])
    def test_among_the_examples(self, examples, how):
        self.check([cut(image, box) for image, boxes in examples for box in boxes], how)

    @pytest.mark.parametrize("how", ["blur", "pixelate"])
    def test_among_the_examples_as_whole_images_are_treated(self, examples, how):
        originals = [cut(image, box) for image, boxes in examples for box in boxes]
        treated = [
            cut(anonymize(image, Detections(boxes=boxes, scores=[0.9] * len(boxes)), how=how), box)
            for image, boxes in examples
            for box in boxes
        ]
        assert matched(treated, originals, self.INSIDE) <= self.MOST

    @pytest.mark.shared
    @pytest.mark.parametrize("how", ["blur", "pixelate"])
    def test_among_faces_of_wider_face(self, wider, how):
        assert len(wider) > 200
        self.check(wider, how)
