"""Images that are answered: without their faces, and each face alone."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

import polyface

pytest.importorskip("fastapi", reason="needs FastAPI: pip install polyface-serve")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install polyface-serve")
pytest.importorskip("polyface_example", reason="its toy detector finds red squares")


@pytest.fixture(scope="module")
def ramp():
    """A PNG that grows lighter to the right with one red square, and its one face."""
    pixels = np.tile(np.arange(64, dtype=np.uint8)[None, :, None], (48, 1, 3))
    pixels[8:16, 16:24] = 255, 0, 0
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue(), pixels, polyface.Detections(boxes=[[16, 8, 24, 16]], scores=[1])


def pixels_of(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_faces_are_covered_as_polyface_covers_them(service, ramp):
    data, pixels, faces = ramp
    answer = service.post("/v1/anonymize?how=fill&shape=box&grow=0", data)
    covered = pixels.copy()
    covered[8:16, 16:24] = 0
    np.testing.assert_array_equal(pixels_of(answer.content), covered)
    assert (answer.headers["Content-Type"], answer.headers["Polyface-Faces"]) == ("image/png", "1")
    usual = service.post("/v1/anonymize", data).content
    np.testing.assert_array_equal(pixels_of(usual), polyface.anonymize(pixels, faces))


def test_an_image_keeps_its_format_and_loses_what_it_says_of_its_maker(service, square):
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    answer = service.post("/v1/anonymize", square("JPEG", exif=exif))
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="anonymized.jpg"'
    assert not Image.open(io.BytesIO(answer.content)).getexif()


def test_what_was_not_examined_wholly_is_not_sent(service, square):
    first, second = (Image.open(io.BytesIO(square(at=[(left, 0)]))) for left in (0, 32))
    stream = io.BytesIO()
    first.save(stream, "GIF", save_all=True, append_images=[second])
    answer = service.post("/v1/anonymize", stream.getvalue())
    assert answer.status_code == 422
    assert answer.json()["error"]["what"] == "It was not examined wholly"


def test_a_replacement_of_the_servers_cannot_be_named(service, square):
    for query in ("how=image", "replacement=/etc/passwd", "copy_unreadable=true"):
        assert service.post(f"/v1/anonymize?{query}", square()).status_code == 400


def test_each_face_is_an_image_in_a_zip_file(service, ramp):
    data, pixels, faces = ramp
    answer = service.post("/v1/crop?margin=0.5", data)
    assert answer.headers["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["faces.jsonl", "image-1.jpg"]
        line = json.loads(archive.read("faces.jsonl"))
        face = pixels_of(archive.read("image-1.jpg"))
    (wanted,) = polyface.crop(pixels, faces, margin=0.5)
    assert face.shape == wanted.shape == (16, 16, 3)
    assert np.abs(face.astype(int) - wanted).mean() < 12  # of a JPEG
    assert line["crops"] == ["image-1.jpg"]
    assert [face["box"] for face in line["faces"]] == [[16, 8, 24, 16]]


def test_an_image_without_faces_gives_none(service, square):
    answer = service.post("/v1/crop", square(at=()))
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["faces.jsonl"]


def test_faces_without_landmarks_cannot_be_aligned(service, square):
    answer = service.post("/v1/crop?align=112", square())
    assert answer.status_code == 400
    assert answer.json()["error"]["what"] == "These faces cannot be aligned."


@pytest.mark.parametrize("path", ["/v1/anonymize", "/v1/crop"])
def test_takes_one_image_at_a_time(service, square, path):
    answer = service.post(path, files=[("image", square()), ("image", square())])
    assert answer.status_code == 413
    assert answer.json()["error"]["what"] == "The request has 2 images; at most 1 are taken."


@pytest.mark.parametrize("path", ["/v1/anonymize", "/v1/crop"])
def test_a_text_is_refused_as_everywhere(service, path):
    assert service.post(path, b"text").status_code == 415


def test_the_name_of_a_file_leads_nowhere(service, square):
    answer = service.post("/v1/crop", files={"image": ("../../../etc/passwd.png", square())})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["faces.jsonl", "image-1.jpg"]
