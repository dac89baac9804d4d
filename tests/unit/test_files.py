from __future__ import annotations

import os
import time

import pytest

from polyface.files import ABANDONED, atomic_write, remove_abandoned


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


def test_only_what_was_left_more_than_a_day_ago_is_removed(tmp_path):
    for name, age in ((".old.part", ABANDONED + 60), (".new.part", ABANDONED - 60), ("kept", ABANDONED + 60)):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    remove_abandoned(tmp_path)
    assert names(tmp_path) == [".new.part", "kept"]
