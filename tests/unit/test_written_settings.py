"""Settings written into a file of the user's: all else in it stays."""

from __future__ import annotations

import sys
import tomllib

import pytest

from polyface.errors import ConfigError
from polyface.settings.writing import write_settings

CHOICE = {"backend": "openvino", "threads": 2}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, '# why\nbackend = "openvino"\nthreads = 2\n'),
        ("", '# why\nbackend = "openvino"\nthreads = 2\n'),
        ("clip = true\n", '# why\nbackend = "openvino"\nthreads = 2\n\nclip = true\n'),
        # In its place, and with its comment.
        ('# mine\nbackend = "torch" # ours\nthreads=1\n', '# mine\nbackend = "openvino" # ours\nthreads=2\n'),
        ("backend = 'torch'\n", '# why\nthreads = 2\n\nbackend = "openvino"\n'),
        # What is right already is left as it was written.
        ("backend = '''openvino'''\nthreads = 0x2", "backend = '''openvino'''\nthreads = 0x2"),
        # A table comes last, and its keys are others.
        (
            "threads = 4\n[backend_options]\nbackend = 3\n",
            '# why\nbackend = "openvino"\n\nthreads = 2\n[backend_options]\nbackend = 3\n',
        ),
        ("clip = true\r\n", '# why\r\nbackend = "openvino"\r\nthreads = 2\r\n\r\nclip = true\r\n'),
        ("\ufeffthreads = 2\n", '\ufeff# why\nbackend = "openvino"\n\nthreads = 2\n'),
    ],
)
def test_settings_get_their_values_and_all_else_stays(tmp_path, before, after):
    path = tmp_path / "polyface.toml"
    if before is not None:
        path.write_bytes(before.encode())
    write_settings(path, CHOICE, comment="why")
    assert path.read_bytes().decode() == after
    assert [file.name for file in tmp_path.iterdir()] == ["polyface.toml"]


@pytest.mark.parametrize(
    "before",
    [
        '"backend" = "torch"\n',
        'backend = """torch"""\n',
        'backend = "to\\u0072ch"\n',
        # The line that looks like the setting is another's text.
        "weights = '''\nbackend = \"torch\"\n'''\n\"backend\" = 'torch'\n",
    ],
)
def test_a_file_that_would_lose_something_is_left_as_it_is(tmp_path, before):
    path = tmp_path / "polyface.toml"
    path.write_text(before)
    with pytest.raises(ConfigError, match="is left as it is: it sets backend, threads in a way") as caught:
        write_settings(path, CHOICE, comment="why")
    assert str(caught.value.fix) == "put the lines shown there by hand"
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("pyproject.toml", "[tool.polyface]\n", "is a project's: nothing is written to it"),
        ("polyface.toml", "backend =\n", "is not valid TOML"),
    ],
)
def test_what_is_no_file_of_settings_is_refused(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        write_settings(path, CHOICE, comment="why")
    assert path.read_text() == text


def test_a_link_is_followed(tmp_path):
    real, path = tmp_path / "real.toml", tmp_path / "polyface.toml"
    real.write_text("threads = 2\n")
    path.symlink_to(real)
    write_settings(path, {"threads": 3}, comment="why")
    assert path.is_symlink()
    assert real.read_text() == "threads = 3\n"


@pytest.mark.parametrize("text", ["x = nan\nthreads = 2\n", "threads = 2\nx = [1.0, nan]\n"])
def test_a_number_that_is_none_is_as_before(tmp_path, text):
    path = tmp_path / "polyface.toml"
    path.write_text(text)
    write_settings(path, {"threads": 3}, comment="why")
    assert path.read_text() == text.replace("threads = 2", "threads = 3")


def test_a_name_that_needs_escapes_is_read_back_as_it_is(tmp_path):
    path = tmp_path / "polyface.toml"
    write_settings(path, {"detector": 'C:\\a "b"\n.onnx'}, comment="why")
    assert tomllib.loads(path.read_text()) == {"detector": 'C:\\a "b"\n.onnx'}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes and names")
@pytest.mark.parametrize(
    ("keep", "why"),
    [
        (lambda path: path.chmod(0o444), "it may only be read"),
        (lambda path: path.with_name("second").hardlink_to(path), "it has a second name"),
    ],
)
def test_a_file_that_is_kept_from_being_replaced_is_left_as_it_is(tmp_path, keep, why):
    path = tmp_path / "polyface.toml"
    path.write_text("threads = 2\n")
    keep(path)
    with pytest.raises(ConfigError, match=f"is left as it is.\n  - {why}"):
        write_settings(path, {"threads": 3}, comment="why")
    assert path.read_text() == "threads = 2\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_who_may_read_the_file_stays(tmp_path):
    path = tmp_path / "polyface.toml"
    path.write_text("threads = 2\n")
    path.chmod(0o600)
    write_settings(path, {"threads": 3}, comment="why")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_not_there_is_an_error_of_ours(tmp_path):
    with pytest.raises(ConfigError, match="cannot be written"):
        write_settings(tmp_path / "none" / "polyface.toml", CHOICE, comment="why")
