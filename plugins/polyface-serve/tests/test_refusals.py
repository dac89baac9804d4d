"""What a request is answered with where something was raised, and what the command refuses before it serves."""

from __future__ import annotations

import io
from pathlib import PurePath

import numpy as np
import pytest
from PIL import Image

import polyface
from polyface.errors import ConfigError, ImageError, OutOfMemoryError
from polyface.settings.config import Config

pytest.importorskip("fastapi", reason="needs FastAPI: pip install polyface-serve")

from polyface_serve.answers import MemoryPlace
from polyface_serve.command import read_token
from polyface_serve.refusals import Refusal, refuse, refuse_image


def encode(width, height):
    file = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_a_refusal_is_itself():
    refusal = Refusal(413, ImageError("too large"))
    assert refuse(refusal) is refusal


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("wrong"), 400),
        (polyface.UnknownNameError("none"), 404),
        (OutOfMemoryError("full"), 503),
        (polyface.PluginError("broken"), 500),
    ],
)
def test_an_error_of_polyface_has_the_status_of_its_kind_and_its_own_words(error, status):
    refusal = refuse(error)
    assert refusal.status == status
    assert refusal.to_dict()["what"].lower() == error.what
    assert ("Retry-After" in refusal.headers) == (status == 503)


def test_what_nobody_thought_of_is_the_servers_fault_and_names_its_type():
    refusal = refuse(ZeroDivisionError("division by zero"))
    assert refusal.status == 500
    assert refusal.to_dict()["why"] == ["ZeroDivisionError: division by zero"]


@pytest.mark.parametrize(
    ("error", "data", "status"),
    [
        (ImageError("it is damaged"), encode(8, 4), 422),
        (ImageError("it is damaged"), b"\x89PNG and no more", 422),
        (ImageError("has too many pixels"), encode(9, 4), 413),
        (OutOfMemoryError("full"), encode(8, 4), 503),
    ],
)
def test_an_image_that_was_not_examined_has_the_status_of_what_is_wrong_with_it(error, data, status):
    assert refuse_image(error, data, Config(max_pixels=32)).status == status


def test_without_a_limit_no_image_is_too_large():
    assert refuse_image(ImageError("it is damaged"), encode(9, 4), Config()).status == 422


def test_a_token_is_read_without_the_end_of_its_line(tmp_path):
    (tmp_path / "token").write_text("0123456789abcdef\n")
    assert read_token(tmp_path / "token") == "0123456789abcdef"


@pytest.mark.parametrize(
    "text", ["", "short", "0123456789 abcdef", "0123456789abcdef\n0123456789abcdef", "0123456789abcdé"]
)
def test_a_token_that_a_header_cannot_bear_is_refused(tmp_path, text):
    (tmp_path / "token").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="There is no token in"):
        read_token(tmp_path / "token")


def test_a_folder_in_memory_gives_what_was_written_and_nothing_else():
    place = MemoryPlace()
    with place.atomic_write(PurePath("a.txt")) as stream:
        stream.write(b"here")
    assert place.read(PurePath("a.txt")).read() == b"here"
    with pytest.raises(FileNotFoundError, match=r"b\.txt"):
        place.read(PurePath("b.txt"))
