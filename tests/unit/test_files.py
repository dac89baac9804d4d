from __future__ import annotations

import os
import time

import pytest

from polyface.storage.files import (
    ABANDONED,
    MOST_JSON,
    atomic_write,
    read_json,
    read_sealed,
    remove_abandoned,
    write_sealed,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_place_when_the_block_ends(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_write(path) as stream:
        stream.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.txt"]


def test_an_error_leaves_what_was_there_and_nothing_aside(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    def write_half():
        with atomic_write(path) as stream:
            stream.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_a_link_in_the_place_is_replaced_and_what_it_leads_to_stays(tmp_path):
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    path = tmp_path / "a.txt"
    path.symlink_to(precious)
    with atomic_write(path) as stream:
        stream.write(b"new")
    assert precious.read_bytes() == b"precious"
    assert not path.is_symlink()
    assert path.read_bytes() == b"new"


def test_the_file_has_the_permissions_that_the_umask_leaves(tmp_path):
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    with atomic_write(tmp_path / "a") as stream:
        stream.write(b"")
    assert (tmp_path / "a").stat().st_mode == plain.stat().st_mode


def test_a_name_as_long_as_names_can_be_is_written(tmp_path):
    path = tmp_path / ("a" * 255)
    with atomic_write(path) as stream:
        stream.write(b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("name", ["a" * 256, "gone/a.txt", "file/a.txt"])
def test_an_error_names_the_file_and_not_what_is_written_aside(tmp_path, name):
    (tmp_path / "file").touch()
    with (
        pytest.raises(OSError, match=r"name too long|No such file|Not a directory") as caught,
        atomic_write(tmp_path / name),
    ):
        pass
    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / name), None)


def test_only_what_was_left_more_than_a_day_ago_is_removed(tmp_path):
    for name, age in ((".old.part", ABANDONED + 60), (".new.part", ABANDONED - 60), ("kept", ABANDONED + 60)):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    remove_abandoned(tmp_path)
    assert names(tmp_path) == [".new.part", "kept"]


def test_a_table_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, null, "\u00e9"]}', encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5, None, "\u00e9"]}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is no JSON: "),
        (b"\xff", "is no JSON: "),
        (b"[1]", "is not a table"),
        (b"[" * 100_000, "is nested too deep"),
        (b'{"a":' * 100_000, "is nested too deep"),
        (b'{"a": ' + b"1" * 5000 + b"}", "is no JSON: "),
        (b'{"a": NaN}', "NaN is not finite"),
        (b'{"a": -Infinity}', "-Infinity is not finite"),
        (b'{"a": 1e999}', "1e999 is not finite"),
        (b" " * (MOST_JSON - 1) + b"{}", "is over 1 MiB"),
    ],
)
def test_what_is_no_table_of_ours_is_refused_in_a_short_line(tmp_path, content, why):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=why) as caught:
        read_json(tmp_path / "a.json")
    assert len(str(caught.value)) < len(str(tmp_path)) + 200


def test_a_table_in_a_folders_place_or_nowhere_is_an_error_of_the_system(tmp_path):
    for path in (tmp_path, tmp_path / "gone"):
        with pytest.raises(FileNotFoundError, match="there is no file"):
            read_json(path)


class TestSealed:
    @pytest.fixture
    def path(self, tmp_path):
        write_sealed(tmp_path / "a", b"engine")
        return tmp_path / "a"

    def test_what_was_written_is_read(self, path):
        assert read_sealed(path) == b"engine"

    def test_any_byte_changed_or_cut_off_or_added_and_there_is_nothing(self, path):
        whole = path.read_bytes()
        damaged = [whole[:end] for end in range(len(whole))] + [whole + b"x"]
        damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
        for content in damaged:
            path.write_bytes(content)
            assert read_sealed(path) is None

    def test_where_there_is_no_file_there_is_nothing(self, tmp_path):
        assert read_sealed(tmp_path / "gone") is None
        assert read_sealed(tmp_path) is None
