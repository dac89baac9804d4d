"""Folders that are written to: locked, and without following links."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path, PurePath

import pytest

from polyface.errors import ConfigError
from polyface.storage import places
from polyface.storage.files import ABANDONED
from polyface.storage.places import LOCK, Place

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it needs Linux")


@pytest.fixture(params=["by descriptors", "by paths"], autouse=True)
def way(request, monkeypatch):
    """How files are named; Windows knows paths alone."""
    if request.param == "by paths":
        monkeypatch.setattr(places, "_BY_DESCRIPTOR", False)
    return request.param


def write(folder, name, data=b"new"):
    with folder.atomic_write(PurePath(name)) as stream:
        stream.write(data)


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_file_is_written_below_with_its_folders_and_nothing_else_stays(tmp_path):
    with Place(tmp_path / "new/out", folder=True) as folder:
        write(folder, "a")
        write(folder, "sub/deep/b")
    assert names(tmp_path / "new/out") == ["a", "sub", "sub/deep", "sub/deep/b"]
    assert (tmp_path / "new/out/sub/deep/b").read_bytes() == b"new"


def test_a_folder_that_is_a_link_itself_is_the_users_choice(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    with Place(tmp_path / "out", folder=True) as folder:
        write(folder, "sub/a")
    assert (tmp_path / "real/sub/a").read_bytes() == b"new"


class TestLock:
    def test_a_second_run_is_refused_until_the_first_has_ended(self, tmp_path):
        with Place(tmp_path, folder=True):
            with pytest.raises(ConfigError, match="Another run writes to the folder"):
                Place(tmp_path, folder=True)
            with pytest.raises(ConfigError, match="Another run writes to the folder"):
                Place(tmp_path, folder=True)
        with Place(tmp_path, folder=True) as folder:
            assert folder.locked

    def test_it_goes_with_a_process_that_is_killed(self, tmp_path):
        code = (
            "import sys; from pathlib import Path; from polyface.storage.places import Place\n"
            "with Place(Path(sys.argv[1]), folder=True): print('locked', flush=True); sys.stdin.read()"
        )
        command = [sys.executable, "-c", code, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "locked\n"
            with pytest.raises(ConfigError):
                Place(tmp_path, folder=True)
            process.kill()
            process.wait()
        assert names(tmp_path) == [LOCK]
        with Place(tmp_path, folder=True) as folder:
            assert folder.locked
        assert names(tmp_path) == []

    def test_of_a_file_that_its_holder_has_just_removed_is_no_lock(self, tmp_path, monkeypatch):
        lock, calls = places._lock, []

        def after_its_removal(descriptor):
            calls.append(descriptor)
            if len(calls) == 1:
                (tmp_path / LOCK).unlink()
            return lock(descriptor)

        monkeypatch.setattr(places, "_lock", after_its_removal)
        with Place(tmp_path, folder=True):
            assert len(calls) == 2
            with pytest.raises(ConfigError):
                Place(tmp_path, folder=True)

    @pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
    def test_that_a_file_system_does_not_have_is_said(self, tmp_path, monkeypatch, number):
        fcntl = pytest.importorskip("fcntl")

        def refused(*_):
            raise OSError(number, "No locks available")

        monkeypatch.setattr(fcntl, "flock", refused)
        with Place(tmp_path, folder=True) as folder:
            assert not folder.locked

    def test_that_is_a_link_is_refused(self, tmp_path):
        (tmp_path / "precious").write_bytes(b"precious")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / LOCK).symlink_to("../precious")
        with pytest.raises(OSError, match="it is a link"):
            Place(tmp_path / "out", folder=True)
        assert (tmp_path / "precious").read_bytes() == b"precious"


class TestLinks:
    @pytest.mark.parametrize("link", ["sub", "sub/deep"])
    def test_in_the_place_of_a_folder_are_not_followed(self, tmp_path, link):
        mine, out = tmp_path / "mine", tmp_path / "out"
        mine.mkdir()
        (out / link).parent.mkdir(parents=True)
        (out / link).symlink_to(mine)
        with Place(out, folder=True) as folder, pytest.raises(OSError, match="it is a link"):
            write(folder, "sub/deep/a")
        assert names(mine) == []

    def test_in_the_place_of_a_file_are_replaced(self, tmp_path):
        precious, out = tmp_path / "precious", tmp_path / "out"
        precious.write_bytes(b"precious")
        out.mkdir()
        (out / "a").symlink_to(precious)
        with Place(out, folder=True) as folder:
            write(folder, "a")
        assert (precious.read_bytes(), (out / "a").read_bytes()) == (b"precious", b"new")

    def test_are_not_opened(self, tmp_path):
        (tmp_path / "a").symlink_to("b")
        with Place(tmp_path, folder=True) as folder, pytest.raises(OSError, match="it is a link"):
            folder.open("a", os.O_RDWR | os.O_CREAT)
        assert names(tmp_path) == ["a"]

    @pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
    def test_nor_is_a_pipe_which_is_not_waited_for(self, tmp_path, flags):
        os.mkfifo(tmp_path / "pipe")
        with Place(tmp_path, folder=True) as folder, pytest.raises(OSError, match="it is no regular file"):
            folder.open("pipe", flags)

    @pytest.mark.parametrize("name", ["../a", "sub/../../a", "/a"])
    def test_nor_is_a_name_that_leads_out(self, tmp_path, name):
        with Place(tmp_path / "out", folder=True) as folder, pytest.raises(OSError, match="it leads out of the folder"):
            write(folder, name)
        assert names(tmp_path) == ["out"]


class TestMovedMeanwhile:
    @pytest.mark.parametrize("again", [False, True], ids=["gone", "another in its place"])
    @pytest.mark.parametrize("how", [shutil.rmtree, lambda path: path.rename(path.with_name("there"))])
    def test_is_noticed(self, tmp_path, how, again):
        with Place(tmp_path / "out", folder=True) as folder:
            folder.check()
            how(tmp_path / "out")
            if again:
                (tmp_path / "out").mkdir()
            with pytest.raises(OSError, match="was removed, moved or replaced"):
                folder.check()

    def test_nothing_is_written_into_another_folder_of_that_name(self, tmp_path, way, monkeypatch):
        if way == "by paths":
            pytest.skip("a folder with an open file cannot be moved on Windows")
        with Place(tmp_path / "out", folder=True) as folder:
            (tmp_path / "out").rename(tmp_path / "there")
            (tmp_path / "out").mkdir()
            monkeypatch.setattr(folder, "check", lambda: None)  # as if it had come a moment before
            write(folder, "sub/a")
        assert names(tmp_path / "out") == []
        assert names(tmp_path / "there") == ["sub", "sub/a"]


class TestLines:
    def added(self, folder, *lines):
        with Place(folder / "a.txt", folder=False) as place:
            file = place.lines()
            for line in lines:
                file.add(line)
            file.close()
        return (folder / "a.txt").read_bytes()

    def test_follow_those_that_are_there(self, tmp_path):
        assert self.added(tmp_path, b"one") == b"one\n"
        assert self.added(tmp_path, b"two", b"three") == b"one\ntwo\nthree\n"

    @pytest.mark.parametrize("half", [1, places.BLOCK - 3, places.BLOCK, 3 * places.BLOCK])
    def test_follow_the_last_whole_one_and_half_a_line_goes(self, tmp_path, half):
        for whole in (b"", b"one\n", b"one\n" * places.BLOCK):
            (tmp_path / "a.txt").write_bytes(whole + b"x" * half)
            assert self.added(tmp_path, b"two") == whole + b"two\n"

    def test_may_be_in_a_journal_beside_a_file_and_in_no_other(self, tmp_path):
        with Place(tmp_path / "a.txt", folder=False) as place:
            file = place.lines(place.journal)
            file.add(b"one")
            file.close()
            for name in ("b.txt", "a.txt/b", "../a.txt.journal"):
                with pytest.raises(ValueError, match="a file none but its journal's"):
                    place.lines(PurePath(name))
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.txt.journal": b"one\n"}


def test_results_of_a_run_before_are_in_the_file_or_its_journal(tmp_path):
    path, journal = tmp_path / "a.csv", tmp_path / "a.csv.journal"
    path.touch()
    journal.mkdir()
    assert places.find_results(path) is None
    journal.rmdir()
    journal.write_bytes(b"1")
    assert places.find_results(path) == journal
    path.write_bytes(b"1")
    assert places.find_results(path) == path


def test_what_killed_runs_left_is_removed_from_the_folders_that_are_written_to(tmp_path):
    mine, out = tmp_path / "mine", tmp_path / "out"
    left = [out / ".old.part", out / "sub/.old.part", mine / ".old.part", out / "untouched/.old.part"]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
        os.utime(path, (time.time() - ABANDONED - 60,) * 2)
    with Place(out, folder=True) as folder:
        write(folder, "sub/b")
    assert [path.exists() for path in left] == [False, False, True, True]


def test_what_a_run_killed_just_now_left_is_removed_and_what_is_not_its_own_stays(tmp_path):
    mine, other = tmp_path / ".0123456789abcdef.part", tmp_path / ".download.part"
    mine.write_bytes(b"half")
    other.write_bytes(b"somebody else's")
    Place(tmp_path, folder=True).close()
    assert (mine.exists(), other.exists()) == (False, True)


def test_what_a_run_killed_just_now_left_beside_a_file_is_removed_and_another_files_stays(tmp_path):
    def leave_half(name):
        """What a kill in the middle of writing leaves."""
        before = set(tmp_path.glob(".*.part"))
        with Place(tmp_path / name, folder=False) as place, place.atomic_write():
            [part] = set(tmp_path.glob(".*.part")) - before
        part.touch()
        return part

    mine, other = leave_half("faces.csv"), leave_half("faces.parquet")
    Place(tmp_path, folder=True).close()
    assert (mine.exists(), other.exists()) == (True, True)
    Place(tmp_path / "faces.csv", folder=False).close()
    assert (mine.exists(), other.exists()) == (False, True)


@linux
def test_folders_within_folders_take_one_descriptor_more(tmp_path, monkeypatch):
    deep = "d/" * 60 + "a"
    with Place(tmp_path, folder=True) as folder:
        resource = pytest.importorskip("resource")
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + 5, before[1])
        )
        try:
            write(folder, deep)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert (tmp_path / deep).read_bytes() == b"new"
