"""Folders of faces, and of images without them."""

from __future__ import annotations

import io
from pathlib import Path, PurePath

import attrs
import numpy as np
import pytest
from PIL import ExifTags, Image, JpegImagePlugin, PngImagePlugin
from PIL.TiffTags import TAGS_V2 as TIFF_TAGS

from pixels import filled, noise
from polyface.errors import ConfigError, ImageError, UnsupportedError
from polyface.images.faces import align, anonymize
from polyface.images.reading import Decoded, decode, read_image
from polyface.results import Detections, Item, Result
from polyface.storage.places import Place
from polyface.writers.anonymized import Anonymized
from polyface.writers.crops import Crops
from polyface.writers.images import Drawings

FACES = Detections(boxes=[[2, 3, 22, 33], [30, 10, 50, 20]], scores=[0.9, 0.8])
NONE = Detections.from_dicts([])


def result_of(name, faces=FACES, *, image=None, pixels=None, **fields):
    """The result of an image below a folder of one letter or more."""
    pixels = noise(40, 60) if pixels is None else pixels
    decoded = Decoded(pixels=pixels)
    item = Item(name=name, image=pixels if image is None else image, relative=PurePath(*PurePath(name).parts[1:]))
    height, width = decoded.shape
    return Result(name=name, width=width, height=height, faces=faces, image=decoded, item=item, **fields)


def smooth(height=40, width=60):
    """An image that a JPEG keeps."""
    y, x = np.mgrid[:height, :width]
    return np.stack([2 * x, 3 * y, x + y], axis=2).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """The folder written to, as a place."""
    with Place(tmp_path / "out", folder=True) as place:
        yield place


def files(place):
    return sorted(path.relative_to(place.path).as_posix() for path in place.path.rglob("*.*") if path.suffix != ".lock")


class TestCrops:
    def test_are_numbered_from_the_best_face_on_below_the_images_own_folder(self, folder):
        made = Crops(folder).write(result_of("in/sub/a.png", pixels=smooth()))
        assert made == {"crops": ["sub/a-1.jpg", "sub/a-2.jpg"]}
        for name, (left, top, right, bottom) in zip(made["crops"], FACES.boxes.astype(int).tolist(), strict=True):
            with Image.open(folder.path / name) as face:
                wanted = smooth()[top:bottom, left:right].astype(int)
                np.testing.assert_allclose(np.asarray(face), wanted, atol=12)

    def test_may_have_a_margin_or_be_aligned(self, folder):
        Crops(folder, margin=0.1).write(result_of("in/a.png"))
        with Image.open(folder.path / "a-1.jpg") as face:
            assert face.size == (2 + 20 + 3, 3 + 30 + 3)
        marks = [[[8, 10], [16, 10], [12, 15], [9, 20], [15, 20]]] * 2
        five = Detections(boxes=FACES.boxes, scores=FACES.scores, landmarks=marks)
        Crops(folder, align=96).write(result_of("in/b.png", five, pixels=smooth()))
        with Image.open(folder.path / "b-1.jpg") as face:
            np.testing.assert_allclose(np.asarray(face), align(smooth(), five, size=96)[0].astype(int), atol=30)

    def test_of_another_image_of_that_name_take_the_next_numbers_and_keep_them(self, folder):
        for _ in range(2):  # the run, and the next
            writer = Crops(folder)
            assert writer.write(result_of("one/a.png"))["crops"] == ["a-1.jpg", "a-2.jpg"]
            assert writer.write(result_of("two/a.jpg"))["crops"] == ["a-3.jpg", "a-4.jpg"]
            assert files(folder) == ["a-1.jpg", "a-2.jpg", "a-3.jpg", "a-4.jpg"]

    def test_do_not_take_the_place_of_a_file_of_somebody_else(self, folder):
        (folder.path / "a-1.jpg").write_bytes(b"precious")
        assert Crops(folder).write(result_of("in/a.png"))["crops"] == ["a-2.jpg", "a-3.jpg"]
        assert (folder.path / "a-1.jpg").read_bytes() == b"precious"

    def test_without_faces_are_none_and_of_an_error_nothing(self, folder):
        writer = Crops(folder)
        assert writer.write(result_of("in/a.png", NONE)) == {"crops": []}
        assert writer.write(result_of("in/a.png", error=ImageError("it is damaged"))) == {"crops": None}
        assert files(folder) == []

    def test_that_cannot_be_made_as_asked_are_refused(self, folder):
        with pytest.raises(UnsupportedError, match="cannot be aligned"):
            Crops(folder, align=112).write(result_of("in/a.png"))
        with pytest.raises(ConfigError, match="margin must be"):
            Crops(folder, margin=-1)
        with pytest.raises(ConfigError, match="aligned have no margin"):
            Crops(folder, margin=0.1, align=112)


def profile_of(space):
    """An ICC profile, as far as anybody looks: its length, its space of colours, and what it is signed with."""
    head = bytearray(128)
    head[:4] = (132).to_bytes(4, "big")
    head[16:20], head[36:40] = space, b"acsp"
    return bytes(head) + b"\0\0\0\0"


def telling(orientation=1):
    """EXIF data that tell much: where, by what, and with a thumbnail."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Acme, No. 4711"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[2] = (48.0, 8.0, 14.0)
    exif.get_ifd(ExifTags.IFD.Exif)[0x927C] = b"notes of the camera"
    exif.get_ifd(ExifTags.IFD.IFD1)[0x0103] = 6
    return exif.tobytes()


def everything_in(path):
    """All that Pillow finds in a file beside its pixels."""
    with Image.open(path) as image:
        image.load()
        return image.format, image.size, dict(image.getexif()), image.info


@pytest.fixture
def saved(tmp_path):
    """Save an image below ``in/``, and return its result, as a stream gives it."""

    def save(name, image, faces=FACES, **given):
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        image.save(path, **given)
        pixels = read_image(path)
        return result_of(f"in/{name}", faces, image=path, pixels=pixels)

    return save


@pytest.mark.parametrize(("writer", "name"), [(Crops, "a-1.jpg"), (Drawings, "a_out.jpg")])
@pytest.mark.parametrize(("space", "kept"), [(b"RGB ", True), (b"CMYK", False)])
def test_crops_and_drawings_keep_the_colour_profile_and_are_known_again_behind_it(folder, writer, name, space, kept):
    profile = profile_of(space) + bytes(100_000)
    result = result_of("in/a.png", FACES[:1])
    result = attrs.evolve(result, image=attrs.evolve(result.image, profile=profile))
    for _ in range(2):  # the run, and the next
        writer(folder).write(result)
        assert files(folder) == [name]
    assert everything_in(folder.path / name)[3].get("icc_profile") == (profile if kept else None)


class TestAnonymized:
    RGB = Image.fromarray(noise(40, 60))
    XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><who/></x:xmpmeta>'

    @pytest.mark.parametrize("ending", ["png", "tif", "bmp", "ppm", "tga", "jp2"])
    def test_keep_format_and_name_and_each_pixel_outside_the_faces(self, folder, saved, ending):
        result = saved(f"sub/a.{ending}", self.RGB)
        assert Anonymized(folder, how="fill", shape="box", grow=0).write(result) == {"anonymized": f"sub/a.{ending}"}
        found = read_image(folder.path / f"sub/a.{ending}")
        np.testing.assert_array_equal(found, anonymize(self.RGB, FACES, how="fill", shape="box", grow=0))
        assert everything_in(folder.path / f"sub/a.{ending}")[0] == everything_in(result.item.image)[0]

    @pytest.mark.parametrize(("ending", "most"), [("jpg", 6), ("webp", 12), ("avif", 12), ("gif", 60)])
    def test_of_a_format_with_loss_are_nearly_as_they_were(self, folder, saved, ending, most):
        result = saved(f"a.{ending}", Image.fromarray(smooth()), NONE)
        Anonymized(folder).write(result)
        found = read_image(folder.path / f"a.{ending}").astype(int)
        np.testing.assert_allclose(found, read_image(result.item.image), atol=most)
        assert everything_in(folder.path / f"a.{ending}")[0] == everything_in(result.item.image)[0]

    def test_of_a_jpeg_have_its_own_tables_and_sampling(self, folder, saved):
        for name, given in {"a.jpg": {"quality": 60}, "b.jpg": {"quality": 97, "subsampling": 0}}.items():
            result = saved(name, self.RGB, **given)
            Anonymized(folder).write(result)
            with Image.open(result.item.image) as before, Image.open(folder.path / name) as after:
                assert after.quantization == before.quantization
                assert JpegImagePlugin.get_sampling(after) == JpegImagePlugin.get_sampling(before)

    @pytest.mark.parametrize("ending", ["jpg", "png", "webp", "avif", "tif"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_are_turned_as_the_file_was_and_lie_in_it_as_before(self, folder, saved, ending, orientation):
        image = Image.fromarray(smooth())
        result = saved(f"a.{ending}", image, exif=telling(orientation))
        Anonymized(folder, how="fill", grow=0).write(result)
        found, before = read_image(folder.path / f"a.{ending}"), read_image(result.item.image)
        wanted = anonymize(before, FACES, how="fill", grow=0)
        assert found.shape == before.shape == ((60, 40, 3) if orientation > 4 else (40, 60, 3))
        assert np.abs(found.astype(int) - wanted).mean() < 6
        if ending != "tif":  # which Pillow turns when it reads it
            _, size, exif, _ = everything_in(folder.path / f"a.{ending}")
            assert (size, exif) == ((60, 40), {} if orientation == 1 else {0x0112: orientation})

    @pytest.mark.parametrize("ending", ["jpg", "png", "webp", "avif", "tif"])
    def test_keep_the_colour_profile_and_nothing_else_that_tells(self, folder, saved, ending):
        profile = profile_of(b"RGB ")
        given = {"exif": telling(6), "icc_profile": profile, "xmp": self.XMP, "comment": b"by somebody"}
        result = saved(f"a.{ending}", self.RGB, **given)
        if ending == "png":
            text = PngImagePlugin.PngInfo()
            text.add_text("Author", "by somebody")
            text.add_itxt("XML:com.adobe.xmp", self.XMP.decode())
            result = saved("a.png", self.RGB, pnginfo=text, **given)
        Anonymized(folder).write(result)
        before, data = (path.read_bytes() for path in (result.item.image, folder.path / f"a.{ending}"))
        assert b"Acme" in before
        for secret in (b"Acme", b"4711", b"notes of the camera", b"who/", b"somebody", b"polyface"):
            assert secret not in data
        _, _, exif, info = everything_in(folder.path / f"a.{ending}")
        assert info["icc_profile"] == profile
        assert set(exif) <= {0x0112} | (set(TIFF_TAGS) if ending == "tif" else set())
        with Image.open(folder.path / f"a.{ending}") as image:
            assert not image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
            assert not image.getexif().get_ifd(ExifTags.IFD.IFD1)

    def test_a_profile_of_another_space_of_colours_is_left_out(self, folder, saved):
        for name, image, space in (
            ("cmyk.jpg", self.RGB.convert("CMYK"), b"CMYK"),
            ("odd.png", self.RGB, b"GRAY"),
            ("no profile.png", self.RGB, None),
        ):
            Anonymized(folder).write(saved(name, image, icc_profile=profile_of(space) if space else b"x" * 200))
            assert "icc_profile" not in everything_in(folder.path / name)[3]

    @pytest.mark.parametrize("ending", ["jpg", "png", "tif", "pgm"])
    def test_grey_stays_grey_with_its_profile(self, folder, saved, ending):
        result = saved(f"a.{ending}", self.RGB.convert("L"), icc_profile=profile_of(b"GRAY"))
        Anonymized(folder).write(result)
        with Image.open(folder.path / f"a.{ending}") as image:
            assert image.mode == "L"
            assert ("icc_profile" in image.info) == (ending != "pgm")

    def test_a_coloured_replacement_makes_a_grey_image_one_of_colours(self, folder, saved):
        result = saved("a.png", self.RGB.convert("L"))
        Anonymized(folder, how="image", replacement=filled(255, 0, 0)).write(result)
        with Image.open(folder.path / "a.png") as image:
            assert image.getpixel((12, 18)) == (255, 0, 0)

    def test_16_bits_and_transparency_become_what_is_read(self, folder, saved):
        deep = Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60) * 20)
        clear = Image.fromarray(np.dstack([noise(40, 60), np.tile(np.arange(60, dtype=np.uint8) * 4, (40, 1))]))
        for name, image in {"deep.png": deep, "clear.png": clear}.items():
            Anonymized(folder).write(saved(name, image, NONE))
            path = folder.path.parent / "in" / name
            np.testing.assert_array_equal(read_image(folder.path / name), read_image(path))

    def test_of_what_is_no_file_are_pngs(self, folder):
        writer = Anonymized(folder)
        assert writer.write(result_of("in/frame 7")) == {"anonymized": "frame 7.png"}
        assert writer.write(result_of("in/b.PNG")) == {"anonymized": "b.PNG"}
        assert writer.write(result_of("in/c.jpg")) == {"anonymized": "c.jpg.png"}
        data = io.BytesIO()
        self.RGB.save(data, format="JPEG", quality=95)
        given = result_of("in/d.jpg", image=data.getvalue(), pixels=read_image(data))
        assert writer.write(given) == {"anonymized": "d.jpg"}
        assert everything_in(folder.path / "d.jpg")[0] == "JPEG"

    def test_of_another_image_of_that_name_get_the_next_number_and_keep_it(self, folder, saved):
        results = saved("one/a.png", self.RGB), saved("two/a.png", self.RGB.transpose(Image.Transpose.ROTATE_180))
        results = [attrs.evolve(one, item=attrs.evolve(one.item, relative="a.png")) for one in results]
        (folder.path / "A-2.png").write_bytes(b"precious")
        for _ in range(2):
            writer = Anonymized(folder)
            assert [writer.write(one)["anonymized"] for one in results] == ["a.png", "a-3.png"]
        assert (folder.path / "A-2.png").read_bytes() == b"precious"
        assert files(folder) == ["A-2.png", "a-3.png", "a.png"]


class TestWhatWasNotExamined:
    RGB = TestAnonymized.RGB

    def refused(self, folder, result):
        with pytest.raises(ImageError) as caught:
            Anonymized(folder).write(result)
        assert files(folder) == []
        return caught.value.summary

    def test_an_image_with_an_error_is_not_written(self, folder, saved):
        result = attrs.evolve(saved("a.png", self.RGB), error=ImageError("the network failed"))
        assert Anonymized(folder).write(result) == {"anonymized": None}
        assert Anonymized(folder).write(attrs.evolve(result, image=None)) == {"anonymized": None}
        assert files(folder) == []

    def test_more_faces_than_were_given_back_are_refused(self, folder, saved):
        said = self.refused(folder, saved("a.png", self.RGB, attrs.evolve(FACES, truncated=True)))
        assert said.startswith("it is not written, since some of its faces would be seen: a limit cut the faces at 2;")

    @pytest.mark.parametrize("ending", ["gif", "png", "webp", "tif", "avif"])
    def test_frames_and_pages_are_refused(self, folder, saved, ending):
        frames = {"save_all": True, "append_images": [Image.fromarray(smooth())]}
        said = self.refused(folder, saved(f"a.{ending}", self.RGB, **frames))
        assert said.startswith("it was not examined wholly: it is a")
        assert "of which the first is read" in said

    def test_previews_beside_an_image_are_left_out(self, folder, saved):
        result = saved("a.mpo", self.RGB, save_all=True, append_images=[Image.fromarray(smooth())])
        Anonymized(folder).write(result)
        assert result.item.image.read_bytes().count(b"\xff\xd8\xff") == 2
        assert (folder.path / "a.mpo").read_bytes().count(b"\xff\xd8\xff") == 1

    def test_views_of_one_scene_are_refused(self, folder, saved):
        result = saved("a.mpo", self.RGB, save_all=True, append_images=[Image.fromarray(smooth())])
        path, data = result.item.image, result.item.image.read_bytes()
        entry = data.index(b"\0\0\3\0", data.index(b"MPF\0") + 50) + 16  # the second image's, in Intel's order
        path.write_bytes(data[:entry] + b"\2\0\2\0" + data[entry + 4 :])  # a view with another parallax
        assert "a file of 2 views of one scene" in self.refused(folder, result)

    def test_a_draft_is_refused(self, folder, saved):
        result = saved("a.jpg", self.RGB)
        draft = attrs.evolve(result, image=Decoded(pixels=noise(20, 30), shape=(40, 60)))
        assert self.refused(folder, draft) == "it was not examined wholly: only a draft of it was examined"

    def test_a_file_that_has_changed_since_gives_its_format_and_no_pixels(self, folder, saved):
        result = saved("a.png", self.RGB, NONE)
        Image.new("RGB", (60, 40), "red").save(result.item.image)
        Anonymized(folder).write(result)
        np.testing.assert_array_equal(read_image(folder.path / "a.png"), np.asarray(self.RGB))

    def test_a_file_of_another_size_or_none_any_more_is_refused(self, folder, saved):
        result = saved("a.png", self.RGB)
        Image.new("RGB", (61, 40)).save(result.item.image)
        assert self.refused(folder, result).endswith("has changed: it had 60x40 pixels, and has 61x40")
        result.item.image.unlink()
        assert self.refused(folder, result).endswith("does not exist")

    def test_a_format_that_is_not_written_is_refused(self, folder, saved):
        result = saved("a.png", self.RGB)
        self.RGB.save(result.item.image, format="SGI")
        assert "not an image in a format that is read" in self.refused(folder, result)

    def test_all_is_copied_where_that_is_asked_for(self, folder, saved):
        writer = Anonymized(folder, how="fill", copy_unreadable=True)
        result = attrs.evolve(saved("a.png", self.RGB), error=ImageError("it is damaged"), image=None)
        assert writer.write(result) == {"anonymized": None, "copied": "a.png"}
        assert (folder.path / "a.png").read_bytes() == result.item.image.read_bytes()
        cut = saved("b.png", self.RGB, attrs.evolve(FACES, truncated=True))
        assert writer.write(cut) == {"anonymized": "b.png"}
        assert not read_image(folder.path / "b.png")[18, 12].any()

    def test_a_file_of_several_frames_is_copied_where_that_is_asked_for(self, folder, saved):
        writer = Anonymized(folder, copy_unreadable=True)
        result = saved("a.gif", self.RGB, save_all=True, append_images=[Image.fromarray(smooth())])
        with pytest.raises(ImageError) as caught:
            writer.write(result)
        failed = attrs.evolve(result, error=caught.value)
        assert writer.write(failed) == {"anonymized": None, "copied": "a.gif"}
        assert (folder.path / "a.gif").read_bytes() == result.item.image.read_bytes()

    def test_an_image_that_was_examined_is_never_copied_whatever_failed_with_it_later(self, folder, saved):
        writer = Anonymized(folder, copy_unreadable=True)
        result = saved("a.png", self.RGB)
        failed = attrs.evolve(result, error=ImageError("its faces cannot be cropped"))
        assert writer.write(failed) == {"anonymized": None}
        result.item.image.unlink()  # it cannot be written like its file any more
        with pytest.raises(ImageError) as caught:
            writer.write(result)
        assert writer.write(attrs.evolve(result, error=caught.value)) == {"anonymized": None}
        assert files(folder) == []

    def test_a_format_that_is_read_only_where_it_is_named_is_known_again(self, folder, saved):
        result = saved("a.png", self.RGB)
        self.RGB.save(result.item.image, format="SGI")
        result = attrs.evolve(result, image=decode(result.item.image, formats=("SGI",)))
        assert "images are not written as SGI" in self.refused(folder, result)

    @pytest.mark.parametrize("image", [None, Path("missing.png"), Path(), noise()])
    def test_nothing_is_copied_where_there_is_no_file(self, folder, image):
        item = Item(name="a.png", image=image)
        result = Result(name="a.png", error=ImageError("there is no such file"), item=item)
        assert Anonymized(folder, copy_unreadable=True).write(result) == {"anonymized": None}
        assert files(folder) == []

    def test_nothing_is_copied_under_a_name_that_no_file_can_have(self, folder):
        item = Item(name="a" * 300 + ".jpg", image=b"broken")
        result = Result(name=item.name, error=ImageError("it is no image"), item=item)
        assert Anonymized(folder, copy_unreadable=True).write(result) == {"anonymized": None}

    def test_a_wrong_setting_is_said_before_anything_is_written(self, folder):
        with pytest.raises(ConfigError, match="how must be"):
            Anonymized(folder, how="smear")
        with pytest.raises(ImageError, match="does not exist"):
            Anonymized(folder, how="image", replacement="missing.png")
