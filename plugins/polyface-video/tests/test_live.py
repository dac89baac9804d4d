"""A live source, served over the loopback, dropped and reconnected."""

from __future__ import annotations

import itertools
import socket
import threading

import pytest

from polyface.errors import ImageError
from polyface.plugins.protocols import Search

pytest.importorskip("av", reason="needs PyAV: pip install polyface-video")

from polyface_video import source
from polyface_video.source import Camera


@pytest.fixture
def serve():
    """Return a function that serves each of some files to one connection, and then nobody; it returns the address."""
    stack = []

    def start(*files, until=None):
        listening = socket.create_server(("127.0.0.1", 0))
        listening.settimeout(30)

        def answer():
            with listening:
                for file in files:
                    connection, _ = listening.accept()
                    with connection:
                        connection.sendall(file.read_bytes())
                        if until is not None:
                            until.wait(30)

        thread = threading.Thread(target=answer)
        thread.start()
        stack.append(thread)
        return f"tcp://127.0.0.1:{listening.getsockname()[1]}"

    yield start
    for thread in stack:
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Connect again at once."""
    monkeypatch.setattr(source, "FIRST_PAUSE", 0.0)


def test_a_stream_is_read_as_it_comes(serve, make_clip):
    address = serve(make_clip("a.ts", count=10, sound=False))
    found = list(Camera(address, Search()))
    assert [item.name.rpartition("#")[2] for item in found] == [str(number) for number in range(10)]
    assert {item.name.rpartition("@")[0] for item in found} == {address}
    assert found[9].extra["time"] - found[0].extra["time"] == pytest.approx(0.36)


def test_one_that_falls_silent_is_an_error_after_what_came(serve, make_clip, monkeypatch):
    monkeypatch.setattr(source, "SILENCE", 0.2)
    over = threading.Event()
    address = serve(make_clip("a.ts", count=100, sound=False), until=over)
    *found, last = Camera(address, Search())
    over.set()
    assert len(found) > 50
    assert last.problem == "it is damaged, or was cut off: nothing came any more"


@pytest.mark.parametrize(("live", "duration"), [(False, 1.0), (True, 0.5)])
def test_one_that_falls_silent_ends_when_its_time_is_over(serve, make_clip, live, duration):
    over = threading.Event()
    address = serve(make_clip("a.ts", count=24, sound=False), until=over)
    found = list(Camera(address, Search(), live=live, duration=duration))
    over.set()
    assert len(found) >= 1
    assert [item.problem for item in found if item.problem] == []


@pytest.mark.parametrize("live", [False, True])
def test_one_that_says_nothing_while_there_is_time_is_an_error(serve, tmp_path, live):
    (tmp_path / "nothing").touch()
    over = threading.Event()
    address = serve(tmp_path / "nothing", until=over)
    [item] = Camera(address, Search(), live=live, duration=0.2)
    over.set()
    assert item.problem == "it cannot be read as a video: nothing came any more"


def test_waits_no_longer_than_there_is_time(monkeypatch):
    asked = []

    def read(*, timeout, **_):
        asked.append(timeout)
        raise ImageError("it is not there")

    for duration in (None, 60, 2.5, 0.0):
        list(Camera("tcp://127.0.0.1:9", Search(), duration=duration, read=read))
    assert asked == [5.0, 5.0, 2.5, 0.1]


def test_one_that_lists_other_files_is_not_followed(serve, tmp_path):
    (tmp_path / "list").write_text("ffconcat version 1.0\nfile other.ts\n")
    [item] = Camera(serve(tmp_path / "list"), Search())
    assert "what lists other files is not" in item.problem


def test_one_that_is_dropped_is_connected_again_and_goes_on_counting(serve, make_clip):
    clip = make_clip("a.ts", count=10, sound=False)
    address = serve(clip, clip, clip)
    camera = Camera(address, Search(), live=True)
    stopped = threading.Event()
    frames = camera._stay(stopped)
    found = [next(frames) for _ in range(25)]
    frames.close()
    assert [frame.number for frame in found] == list(range(25))
    assert all(one.time <= other.time for one, other in itertools.pairwise(found))


def test_what_is_lost_for_good_is_asked_again_until_the_time_is_over(serve, make_clip):
    clock = iter(range(10_000))
    address = serve(make_clip("a.ts", count=3, sound=False))
    found = list(Camera(address, Search(), live=True, duration=20, now=lambda: next(clock)))
    assert 1 <= len(found) <= 3
    assert [item.problem for item in found if item.problem] == []
