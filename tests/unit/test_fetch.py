"""Fetching weights from servers that answer well, badly, or not at all; what is on the disk afterwards decides."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
import warnings

import attrs
import pytest

import polyface
from polyface.errors import UnknownNameError, WeightsError, WeightsMismatchError, WeightsNotFoundError
from polyface.graphs import fetch as fetching
from polyface.graphs.weights import select_weights
from polyface.plugins.manager import PluginManager
from polyface.plugins.records import FileRef

CONTENT = b"twelve bytes"
OTHER = b"twelve bites"


@pytest.fixture(autouse=True)
def online(monkeypatch):
    monkeypatch.delenv("POLYFACE_OFFLINE", raising=False)


@pytest.fixture
def folder(home):
    return home / "weights" / hashlib.sha256(CONTENT).hexdigest()[:16]


@pytest.fixture
def weights(detector_spec, weights_file):
    """Make a choice of weights of ``CONTENT`` that can be had at these addresses."""

    def make(*urls, **changes):
        digest = hashlib.sha256(CONTENT).hexdigest()
        file = attrs.evolve(weights_file, sha256=digest, size=len(CONTENT), urls=urls, **changes)
        return select_weights(attrs.evolve(detector_spec, weights=[file]), None)

    return make


def files(folder):
    """The names and contents of all that lies in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def test_a_file_is_fetched_into_the_weights_folder_and_readable_by_all(server, answer, weights, folder):
    path = fetching.fetch(weights(server.url("/w", answer.whole(CONTENT))))
    assert path == folder / "wider.pth"
    assert files(folder) == {"wider.pth": CONTENT}
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_file_that_is_there_is_not_fetched_again(server, answer, weights):
    chosen = weights(server.url("/w", answer.whole(CONTENT)))
    assert fetching.fetch(chosen) == fetching.fetch(chosen)
    assert server.asked == ["/w"]


@pytest.mark.parametrize("damaged", [b"", b"twelve", OTHER])
def test_a_damaged_file_is_fetched_anew(server, answer, weights, folder, damaged):
    folder.mkdir(parents=True)
    (folder / "wider.pth").write_bytes(damaged)
    fetching.fetch(weights(server.url("/w", answer.whole(CONTENT))))
    assert files(folder) == {"wider.pth": CONTENT}


def test_a_redirect_is_followed(server, answer, weights, folder):
    target = server.url("/elsewhere", answer.whole(CONTENT))
    fetching.fetch(weights(server.url("/w", answer.redirect(target))))
    assert server.asked == ["/w", "/elsewhere"]
    assert files(folder) == {"wider.pth": CONTENT}


@pytest.mark.parametrize("length", ["not told", "odd"])
def test_the_length_need_not_be_told(server, answer, weights, folder, length):
    how = answer.unsized if length == "not told" else answer.odd_length
    fetching.fetch(weights(server.url("/w", how(CONTENT))))
    assert files(folder) == {"wider.pth": CONTENT}


def test_progress_is_told_in_bytes(server, answer, weights):
    told = []
    fetching.fetch(weights(server.url("/w", answer.whole(CONTENT))), progress=told.append)
    assert told == [12]


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def endless(start):
    """Begins so, and then sends a byte now and then for as long as somebody listens."""

    def answer(handler):
        handler.wfile.write(start)
        while not handler.server.over.wait(0.01):
            handler.wfile.write(b"x")

    return answer


OK = b"HTTP/1.0 200 OK\r\n"
SLOW = "too slow: less than 30000 bytes in 0.2 seconds"

# How a server fails, and what must be said of it.
FAILURES = {
    "cut": (lambda answer: answer.cut(CONTENT), "IncompleteRead(6 bytes read, 6 more expected)"),
    "cut without a length": (lambda answer: answer.unsized(CONTENT[:5]), "sent another file: 5 bytes of 12, sha256 "),
    "wrong bytes": (
        lambda answer: answer.whole(OTHER),
        f"sent another file: 12 bytes of 12, sha256 {hashlib.sha256(OTHER).hexdigest()}, "
        f"not {hashlib.sha256(CONTENT).hexdigest()}",
    ),
    "too many bytes": (lambda answer: answer.unsized(CONTENT * 9), "sent another file: more than 12 bytes"),
    "tells of more": (
        lambda answer: answer.whole(CONTENT * 9),
        "sent another file: 108 bytes, not 12; it is of no type",
    ),
    "tells of less": (lambda answer: answer.whole(CONTENT[:5]), "sent another file: 5 bytes, not 12; it is of no type"),
    "tells of a number without end": (
        lambda _: lambda handler: handler.head(Content_Length="9" * 5000),
        f"sent another file: {'9' * 200} bytes, not 12; it is of no type",
    ),
    "a page": (
        lambda _: lambda handler: handler.head(Content_Length=999, Content_Type="text/html"),
        "sent another file: 999 bytes, not 12; it is of text/html",
    ),
    "403": (lambda answer: answer.status(403), "answers 403 Forbidden"),
    "404": (lambda answer: answer.status(404), "answers 404 Not Found"),
    "500": (lambda answer: answer.status(500), "answers 500 Internal Server Error"),
    "no content": (lambda _: lambda handler: handler.head(204), "answers 204 No Content"),
    "no http": (lambda _: lambda handler: handler.wfile.write(b"SSH-2.0\r\n"), "BadStatusLine"),
    "nothing": (lambda _: lambda _: None, "RemoteDisconnected"),
    "redirects in a loop": (lambda answer: answer.redirect("/bad"), "redirects more than 10 times"),
    "redirects nowhere": (lambda answer: answer.redirect("gopher://x/"), "InvalidSchema: No connection adapters"),
    "redirects to no address": (lambda answer: answer.redirect("http://[/"), "ValueError: "),
    "silent": (lambda answer: answer.silence, "ReadTimeout: "),
    "stalls": (lambda answer: answer.stall(CONTENT), "Read timed out"),
    "begins without end": (lambda _: endless(b"HTTP/1.0 200 "), SLOW),
    "headers without end": (lambda _: endless(OK + b"Server: "), SLOW),
    "many headers": (lambda _: lambda handler: handler.wfile.write(OK + b"A: b\r\n" * 1000), "100 headers"),
    "chunks without end": (lambda _: endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0"), SLOW),
}


@pytest.fixture(params=FAILURES)
def failure(request, server, answer, monkeypatch):
    """An address that fails, and what must be said of it."""
    make, reason = FAILURES[request.param]
    monkeypatch.setattr(fetching, "TIMEOUT", 0.2 if request.param in ("silent", "stalls") else 30)
    monkeypatch.setattr(fetching, "WINDOW", 0.2 if reason == SLOW else 30)
    return server.url("/bad", make(answer)), reason


def test_the_next_mirror_is_tried(server, answer, weights, folder, failure):
    fetching.fetch(weights(failure[0], server.url("/good", answer.whole(CONTENT))))
    assert server.asked[0] == "/bad"
    assert server.asked[-1] == "/good"
    assert files(folder) == {"wider.pth": CONTENT}


def test_when_all_fail_each_is_named_with_its_reason_and_nothing_is_left(server, answer, weights, folder, failure):
    url, reason = failure
    second = server.url("/gone", answer.status(404))
    with pytest.raises(WeightsNotFoundError) as caught:
        fetching.fetch(weights(url, second))
    assert caught.value.what == "The weights 'wider' of 'toy' could not be fetched."
    first_why, second_why = caught.value.why
    assert first_why.startswith(f"{url}: ")
    assert reason in first_why
    assert second_why == f"{second}: answers 404 Not Found"
    assert str(caught.value.fix) == (
        f"mend the connection and repeat: polyface fetch toy; or: put the file at {folder / 'wider.pth'} by other means"
    )
    assert files(folder) == {}


def test_a_server_that_is_not_there_is_named(weights, folder):
    url = f"http://127.0.0.1:{closed_port()}/w"
    with pytest.raises(WeightsNotFoundError) as caught:
        fetching.fetch(weights(url))
    assert caught.value.why[0].startswith(f"{url}: ConnectionError: ")
    assert "Connection refused" in caught.value.why[0]
    assert files(folder) == {}


def test_a_damaged_file_stays_as_it_is_where_it_cannot_be_replaced(server, answer, weights, folder):
    folder.mkdir(parents=True)
    (folder / "wider.pth").write_bytes(OTHER)
    with pytest.raises(WeightsNotFoundError):
        fetching.fetch(weights(server.url("/w", answer.status(404))))
    assert files(folder) == {"wider.pth": OTHER}


def test_an_interrupted_transfer_leaves_nothing_and_the_next_starts_anew(server, answer, weights, folder):
    def interrupt(received):
        raise KeyboardInterrupt

    chosen = weights(server.url("/w", answer.whole(CONTENT)))
    with pytest.raises(KeyboardInterrupt):
        fetching.fetch(chosen, progress=interrupt)
    assert files(folder) == {}
    fetching.fetch(chosen)
    assert files(folder) == {"wider.pth": CONTENT}


def sized(chosen, size):
    return attrs.evolve(chosen, file=attrs.evolve(chosen.file, size=size))


def test_a_file_that_comes_byte_by_byte_is_given_up(server, answer, weights, folder, monkeypatch):
    monkeypatch.setattr(fetching, "WINDOW", 0.2)
    url = server.url("/w", endless(OK + b"Content-Length: 1000000\r\n\r\n"))
    with pytest.raises(WeightsNotFoundError) as caught:
        fetching.fetch(sized(weights(url), 1_000_000))
    assert caught.value.why == (f"{url}: {SLOW}",)
    assert files(folder) == {}


def test_a_file_that_comes_slowly_but_fast_enough_is_fetched(server, weights, folder, monkeypatch):
    monkeypatch.setattr(fetching, "LEAST", 1)
    monkeypatch.setattr(fetching, "CHUNK", 1)
    monkeypatch.setattr(fetching, "WINDOW", 0.5)

    def slowly(handler):
        handler.head(Content_Length=len(CONTENT))
        for byte in CONTENT:
            handler.wfile.write(bytes([byte]))
            handler.server.over.wait(0.1)  # 12 of them are two windows

    fetching.fetch(weights(server.url("/w", slowly)))
    assert files(folder) == {"wider.pth": CONTENT}


def test_what_comes_with_a_redirect_is_not_read(server, answer, weights, folder):
    target = server.url("/elsewhere", answer.whole(CONTENT))
    sent = endless(f"HTTP/1.0 302 Found\r\nLocation: {target}\r\n\r\n".encode())
    fetching.fetch(weights(server.url("/w", sent)))
    assert files(folder) == {"wider.pth": CONTENT}


def test_no_thread_is_left_behind(server, answer, weights):
    before = threading.active_count()
    fetching.fetch(weights(server.url("/w", answer.status(404)), server.url("/x", answer.whole(CONTENT))))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("polyface")]
    assert threading.active_count() <= before + 2  # the server's own


@pytest.mark.parametrize("where", ["status", "redirect", "type"])
def test_an_answer_is_shown_short_and_without_escape_sequences(server, answer, weights, where):
    wild = "\x1b[2J\x9b" + "x" * 5000
    answers = {
        "status": lambda handler: handler.send_response(404, wild) or handler.end_headers(),
        "redirect": answer.redirect(f"wild://{wild}"),
        "type": lambda handler: handler.head(Content_Length=999, Content_Type=wild),
    }
    with pytest.raises(WeightsNotFoundError) as caught:
        fetching.fetch(weights(server.url("/w", answers[where])))
    [why] = caught.value.why
    assert why.isprintable()
    assert len(why) < 400


def test_a_password_in_an_address_is_used_and_not_shown(server, answer, weights):
    seen = []

    def refuse(handler):
        seen.append(handler.headers["Authorization"])
        handler.head(302, Location=server.address.replace("//", "//me:other@") + "/x")

    def fail(handler):
        handler.head(302, Location="gopher://me:third@x/")

    url = server.url("/w", refuse)
    server.answers["/x"] = fail
    with pytest.raises(WeightsNotFoundError) as caught:
        fetching.fetch(weights(url.replace("//", "//me:secret@")))
    assert seen == ["Basic bWU6c2VjcmV0"]
    [why] = caught.value.why
    assert why.startswith(f"{url}: InvalidSchema: ")
    assert not any(word in why for word in ("secret", "other", "third"))


@pytest.mark.parametrize("there", [True, False])
def test_what_a_killed_process_left_is_removed_once_it_is_a_day_old(server, answer, weights, folder, there):
    folder.mkdir(parents=True)
    if there:
        (folder / "wider.pth").write_bytes(CONTENT)
    for name, age in ((".old.part", 90_000), (".now.part", 80_000), ("own.part", 90_000)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age,) * 2)
    fetching.fetch(weights(server.url("/w", answer.whole(CONTENT))))
    assert set(files(folder)) == {"wider.pth", ".now.part", "own.part"}


FETCHER = """
import sys
from polyface.graphs.fetch import fetch
from polyface.plugins.records import WeightsFile
from polyface.graphs.weights import Weights

url, sha256, size = sys.argv[1:]
file = WeightsFile(name="wider", filename="wider.pth", sha256=sha256, size=int(size), license="MIT", urls=[url])
print(fetch(Weights(detector="toy", file=file, sha256=sha256)))
"""


def test_two_processes_at_once_both_get_the_whole_file(server, home):
    content = bytes(range(256)) * 4096
    both = threading.Barrier(2)

    def half_then_half(handler):
        handler.head(Content_Length=len(content))
        handler.wfile.write(content[: len(content) // 2])
        both.wait(timeout=60)  # until the other is half through, too
        handler.wfile.write(content[len(content) // 2 :])

    url, digest = server.url("/w", half_then_half), hashlib.sha256(content).hexdigest()
    arguments = [sys.executable, "-c", FETCHER, url, digest, str(len(content))]
    runs = [subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [run.communicate(timeout=60) for run in runs]
    folder = home / "weights" / digest[:16]
    assert outputs == [(f"{folder / 'wider.pth'}\n", "")] * 2
    assert server.asked == ["/w", "/w"]
    assert files(folder) == {"wider.pth": content}


def test_a_proxy_is_honoured(server, weights, folder, answer, monkeypatch):
    url = "http://weights.invalid/w"  # no such host can exist: RFC 2606
    server.answers[url] = answer.whole(CONTENT)
    monkeypatch.setenv("http_proxy", server.address)
    fetching.fetch(weights(url))
    assert server.asked == [url]
    assert files(folder) == {"wider.pth": CONTENT}


class TestOffline:
    @pytest.fixture(params=["keyword", "environment"])
    def offline(self, request, monkeypatch):
        """The keywords of an offline call."""
        if request.param == "keyword":
            return {"offline": True}
        monkeypatch.setenv("POLYFACE_OFFLINE", "1")
        return {}

    def test_what_is_missing_is_not_fetched(self, server, answer, weights, folder, offline):
        with pytest.raises(WeightsNotFoundError) as caught:
            fetching.fetch(weights(server.url("/w", answer.whole(CONTENT))), **offline)
        assert caught.value.why == (f"looked for {folder / 'wider.pth'}", "licence: MIT", "offline: nothing is fetched")
        assert str(caught.value.fix) == "go online, and without POLYFACE_OFFLINE: polyface fetch toy"
        assert server.asked == []

    def test_what_is_damaged_is_not_replaced(self, server, answer, weights, folder, offline):
        folder.mkdir(parents=True)
        (folder / "wider.pth").write_bytes(OTHER)
        with pytest.raises(WeightsMismatchError, match="offline: nothing is fetched"):
            fetching.fetch(weights(server.url("/w", answer.whole(CONTENT))), **offline)
        assert server.asked == []
        assert files(folder) == {"wider.pth": OTHER}

    def test_what_is_there_is_found(self, weights, folder, offline):
        folder.mkdir(parents=True)
        (folder / "wider.pth").write_bytes(CONTENT)
        assert fetching.fetch(weights("http://weights.invalid/w"), **offline) == folder / "wider.pth"

    @pytest.mark.parametrize("value", ["", "0", "false", "No", "off"])
    def test_nothing_and_no_do_not_mean_offline(self, server, answer, weights, folder, monkeypatch, value):
        monkeypatch.setenv("POLYFACE_OFFLINE", value)
        fetching.fetch(weights(server.url("/w", answer.whole(CONTENT))))
        assert files(folder) == {"wider.pth": CONTENT}


class TestDisk:
    def test_a_home_that_cannot_be_made_is_named(self, weights, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("POLYFACE_HOME", str(tmp_path / "file"))
        with pytest.raises(WeightsError) as caught:
            fetching.fetch(weights("http://weights.invalid/w"))
        assert caught.value.what.startswith(f"Cannot write to {tmp_path / 'file' / 'weights'}/")
        assert str(caught.value.fix) == "name a folder that can be written to: POLYFACE_HOME=DIR polyface fetch toy"

    def test_a_full_disk_is_not_blamed_on_the_server(self, server, answer, weights, folder):
        def full(received):
            raise OSError(errno.ENOSPC, "No space left on device")

        url = server.url("/w", answer.whole(CONTENT))
        with pytest.raises(WeightsError, match="No space left on device") as caught:
            fetching.fetch(weights(url, url), progress=full)
        assert caught.value.what == f"Cannot write to {folder}."
        assert server.asked == ["/w"]
        assert files(folder) == {}

    def test_a_folder_in_the_place_of_the_file_is_left_alone(self, server, answer, weights, folder):
        (folder / "wider.pth").mkdir(parents=True)
        with pytest.raises(WeightsError, match="Cannot write to"):
            fetching.fetch(weights(server.url("/w", answer.whole(CONTENT))))
        assert [path.name for path in folder.iterdir()] == ["wider.pth"]


class TestFetchWeights:
    @pytest.fixture
    def plugins(self):
        return PluginManager()

    @pytest.fixture
    def fetch_weights(self, plugins):
        return functools.partial(polyface.fetch_weights, plugins=plugins)

    @pytest.fixture
    def install(self, plugins):
        def install(detector):
            class Plugin:
                @staticmethod
                @polyface.hookimpl
                def polyface_detectors():
                    yield detector

            plugins.register(Plugin, name=detector.name)

        return install

    @pytest.fixture
    def toy(self, install, detector_spec, weights_file):
        """Install a detector whose default weights are at this address, for research only."""

        def make(url):
            digest = hashlib.sha256(CONTENT).hexdigest()
            default = attrs.evolve(weights_file, sha256=digest, urls=[url, url], license="See T", research_only=True)
            second = attrs.evolve(weights_file, name="crowd", filename="crowd.pth", sha256=digest, urls=[url])
            install(attrs.evolve(detector_spec, weights=[default, second]))

        return make

    def test_the_default_is_fetched_by_the_detectors_name_and_its_licence_told_once(
        self, fetch_weights, server, answer, toy, folder
    ):
        toy(server.url("/w", answer.whole(CONTENT)))
        with pytest.warns(UserWarning, match="research only") as told:
            assert fetch_weights("toy") == folder / "wider.pth"
        assert [str(warning.message) for warning in told] == [
            "The weights 'wider' of 'toy' are for research only. Licence: See T"
        ]
        assert told[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert fetch_weights("local/toy", "wider") == folder / "wider.pth"

    def test_the_licence_is_told_once_although_every_mirror_fails(self, fetch_weights, server, answer, toy):
        toy(server.url("/w", answer.status(404)))
        with pytest.warns(UserWarning, match="research only") as told, pytest.raises(WeightsNotFoundError):
            fetch_weights("toy")
        assert (len(told), server.asked) == (1, ["/w", "/w"])

    def test_other_weights_are_fetched_by_their_name(self, fetch_weights, server, answer, toy, folder):
        toy(server.url("/w", answer.whole(CONTENT)))
        assert fetch_weights("toy", weights="crowd") == folder / "crowd.pth"
        assert files(folder) == {"crowd.pth": CONTENT}

    def test_an_unknown_name_is_refused_before_any_transfer(self, fetch_weights, server, answer, toy):
        toy(server.url("/w", answer.whole(CONTENT)))
        with pytest.raises(UnknownNameError, match="no weights named 'croud'; did you mean 'crowd'"):
            fetch_weights("toy", "croud")
        with pytest.raises(UnknownNameError, match="no detector named 'tyo'"):
            fetch_weights("tyo")
        assert server.asked == []

    def test_the_command_in_an_error_names_weights_that_are_not_the_default(self, fetch_weights, server, answer, toy):
        toy(server.url("/w", answer.status(404)))
        with pytest.raises(WeightsNotFoundError, match="repeat: polyface fetch toy --weights crowd;"):
            fetch_weights("toy", "crowd")

    def test_a_detector_without_weights_has_nothing_to_fetch(self, fetch_weights, install, detector_spec):
        install(detector_spec)
        assert fetch_weights("toy") is None

    def test_the_users_own_file_is_returned(self, fetch_weights, install, detector_spec, tmp_path):
        install(detector_spec)
        (tmp_path / "mine.pth").write_bytes(CONTENT)
        assert fetch_weights("toy", str(tmp_path / "mine.pth")) == tmp_path / "mine.pth"

    def test_packaged_weights_are_found_and_never_fetched(
        self, fetch_weights, server, answer, install, detector_spec, weights_file
    ):
        # Any file of an installed package will do; click's marker for type checkers is empty.
        packed = attrs.evolve(
            weights_file,
            ref=FileRef("click:py.typed"),
            sha256=hashlib.sha256(b"").hexdigest(),
            urls=[server.url("/w", answer.whole(b""))],
        )
        install(attrs.evolve(detector_spec, weights=[packed]))
        assert fetch_weights("toy") == packed.ref.path()
        damaged = attrs.evolve(packed, sha256="ab" * 32)
        install(attrs.evolve(detector_spec, name="damaged", weights=[damaged]))
        with pytest.raises(WeightsMismatchError):
            fetch_weights("damaged")
        assert server.asked == []
