"""Clients that are slow or vanish, and the process: how it starts, and how it ends."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import requests
from click.testing import CliRunner

from polyface.cli import group

pytest.importorskip("fastapi", reason="needs FastAPI: pip install polyface-serve")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install polyface-serve")
pytest.importorskip("polyface_example", reason="its toy detector finds red squares")

PATIENCE = 60
HEAD = b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
TOY = {"POLYFACE_DETECTOR": "example-redbox", "POLYFACE_BACKEND": "numpy"}


def read_all(connection):
    """What comes until the connection ends, or is cut."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


# Clients


def test_a_request_that_does_not_end_is_cut_with_the_reason(running, toy):
    with running({"toy": toy()}, upload_seconds=0.2) as service, service.connect() as connection:
        connection.sendall(HEAD % 100 + b"only this")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"did not come within 0.2 seconds" in answer
    assert b"9 bytes came" in answer


@pytest.mark.parametrize("start", [b"", b"POST /v1/detect HTT", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
def test_a_connection_without_a_request_is_cut(running, toy, start):
    with running({"toy": toy()}, idle_seconds=0.2) as service, service.connect() as connection:
        connection.sendall(start)
        assert read_all(connection) == b""


def test_a_client_that_sends_on_after_its_answer_is_cut(running, toy):
    """Its request was refused for its length before it came; it need not be read to its end."""
    with running({"toy": toy()}, max_bytes=10, idle_seconds=0.2) as service, service.connect() as connection:
        connection.sendall(HEAD % 10_000_000)
        assert read_all(connection).startswith(b"HTTP/1.1 413 ")


def test_answers_that_are_not_taken_are_cut(running, toy, square):
    """One request after the other, until neither side has room for more."""
    with running({"toy": toy()}, idle_seconds=0.3) as service:
        with service.connect() as connection:
            asked = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 1000
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                connection.sendall(asked * 1000)
        assert service.post("/v1/detect", square()).status_code == 200


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_client_that_listens_only_once_all_is_sent_hears_the_reason(running, toy, version):
    """As urllib does, and proxies that speak HTTP/1.0; 30 MB are more than the system holds of what is not read."""
    head = f"POST /v1/detect HTTP/{version}\r\nHost: x\r\nConnection: close\r\nContent-Length: 30000000\r\n\r\n"
    with running({"toy": toy()}, max_bytes=10) as service, service.connect() as connection:
        connection.sendall(head.encode() + bytes(30_000_000))
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"The request is too long: 30,000,000 bytes." in answer


def test_a_client_that_sends_nothing_more_is_not_listened_to_for_long(running, toy):
    head = b"POST /v1/detect HTTP/1.0\r\nContent-Length: 30000000\r\n\r\n"
    with running({"toy": toy()}, max_bytes=10, idle_seconds=0.2) as service, service.connect() as connection:
        connection.sendall(head)
        assert read_all(connection).startswith(b"HTTP/1.1 413 ")


def test_the_log_says_when_slow_clients_are_cut_no_more(running, toy, monkeypatch, caplog):
    async def fail(*_):
        raise AttributeError("of this test, as where uvicorn calls something otherwise")

    monkeypatch.setattr("polyface_serve.server.cut_slow", fail)
    with running({"toy": toy()}) as service:
        assert service.get("/healthz").ok
        (record,) = caplog.records
    assert record.message == "What runs beside the requests has failed; slow clients may be cut no more."


class Reader:
    """A connection of uvicorn's whose client takes of an answer, at each look, what leaves so many bytes."""

    def __init__(self, left):
        self.cycle, self.flow, self.transport = object(), SimpleNamespace(write_paused=True), self
        self._left, self.looks, self.cut = left, 0, asyncio.Event()

    def get_write_buffer_size(self):
        self.looks += 1
        return next(self._left)

    def abort(self):
        self.cut.set()


def cut(reader, monkeypatch, **limits):
    """At which look a reader is cut."""
    from polyface_serve.limits import Limits
    from polyface_serve.server import cut_slow

    monkeypatch.setattr("polyface_serve.server.EVERY", 0.001)

    async def watch():
        watching = asyncio.ensure_future(cut_slow([reader], Limits(**limits)))
        await asyncio.wait_for(reader.cut.wait(), PATIENCE)
        watching.cancel()

    asyncio.run(watch())
    return reader.looks


def test_an_answer_that_is_taken_slowly_is_cut_only_once_no_more_of_it_is_taken(monkeypatch):
    falling = range(10_000_000, 10_000_000 - 200, -1)
    reader = Reader(itertools.chain(falling, itertools.repeat(1_000_000)))
    assert cut(reader, monkeypatch, idle_seconds=0.02) > 200


def test_an_answer_must_be_taken_within_the_time_of_a_request(monkeypatch):
    assert cut(Reader(itertools.count(10**9, -1)), monkeypatch, upload_seconds=0.05) > 1


def test_a_client_that_vanishes_leaves_nothing_behind(running, toy, square, caplog):
    with running({"toy": toy()}) as service:
        for _ in range(5):
            with service.connect() as connection:
                connection.sendall(HEAD % len(square()) + square())
        while 'polyface_queue_images{model="toy"} 0.0' not in (text := service.get("/metrics").text):
            pass
        assert service.post("/v1/detect", square()).status_code == 200
    assert 'status="500"' not in text
    assert caplog.records == []


def test_an_answer_that_takes_too_long_is_given_up(running, square, caplog):
    detector = Stuck()
    with running({"stuck": detector}, answer_seconds=0.1) as service:
        answer = service.post("/v1/detect", square())
        assert answer.status_code == 504
        assert answer.json()["error"]["what"] == "There was no answer within 0.1 seconds."
        detector.may_go.set()
    assert caplog.records == []


class Stuck:
    """A detector that examines nothing until it may."""

    def __init__(self):
        from polyface.building import create_detector

        self._detector = create_detector("example-redbox", backend="numpy", timing=True)
        self.may_go, self.begun = threading.Event(), threading.Event()

    def __getattr__(self, name):
        return getattr(self._detector, name)

    def stream(self, items, **given):
        for item in items:
            self.begun.set()
            assert self.may_go.wait(PATIENCE)
            yield from self._detector.stream([item], **given)


def test_many_clients_get_each_its_own_faces(running, toy, square):
    found = {}

    def ask(number):
        at = 8 * (number % 7), 8 * (number % 5)
        answer = service.post("/v1/detect", square(at=[at])).json()
        found[number] = [face["box"] for face in answer["results"][0]["faces"]], [[*at, at[0] + 8, at[1] + 8]]

    with running({"toy": toy()}) as service:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(35)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 35
    assert all(boxes == wanted for boxes, wanted in found.values())


# The process


@pytest.fixture
def start(tmp_path):
    """Run ``polyface serve`` in a process of its own, and return it with its address once it listens."""
    started = []

    def run(*options, **environ):
        command = [sys.executable, "-m", "polyface", "serve", "--port", "0", *options]
        home = {"POLYFACE_HOME": str(tmp_path / "home")}
        kept = {name: text for name, text in os.environ.items() if not name.startswith("POLYFACE_")}
        process = subprocess.Popen(
            command, env={**kept, **TOY, **home, **environ}, cwd=tmp_path, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "http://" in line:
                return process, line.split()[-1], lines
        pytest.fail("".join(lines))

    yield run
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_service_is_for_this_machine_alone_and_stops_when_it_is_told(start, square):
    process, address, lines = start()
    assert address.startswith("http://127.0.0.1:")
    assert lines == [f"example-redbox: {address}\n"]
    assert requests.post(f"{address}v1/detect", square(), headers={"Content-Type": "image/png"}, timeout=PATIENCE).ok
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert process.stderr.read() == ""


def test_what_is_in_flight_is_answered_before_the_end(start, square):
    process, address, _ = start()
    port = int(address.split(":")[-1].strip("/"))
    data = square()
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(HEAD.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n") % len(data))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")  # its body is waited for
        process.send_signal(signal.SIGTERM)
        connection.sendall(data)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"box": [16.0, 8.0, 24.0, 16.0]' in answer
    assert process.wait(PATIENCE) == 0


def test_a_signal_that_comes_while_the_service_starts_is_not_lost(monkeypatch):
    import uvicorn

    from polyface_serve.server import run

    server = uvicorn.Server(uvicorn.Config("none:none"))
    monkeypatch.setattr(server, "run", lambda **_: signal.raise_signal(signal.SIGTERM))
    run(server, None)
    assert server.should_exit


def test_variables_of_kubernetes_do_no_harm(start):
    """Those of a service that is called polyface: https://kubernetes.io/docs/concepts/services-networking/service."""
    variables = {
        "POLYFACE_PORT": "tcp://10.0.0.11:8000",
        "POLYFACE_PORT_8000_TCP": "tcp://10.0.0.11:8000",
        "POLYFACE_PORT_8000_TCP_ADDR": "10.0.0.11",
        "POLYFACE_PORT_8000_TCP_PORT": "8000",
        "POLYFACE_PORT_8000_TCP_PROTO": "tcp",
        "POLYFACE_SERVICE_HOST": "10.0.0.11",
        "POLYFACE_SERVICE_PORT": "8000",
        "POLYFACE_SERVICE_PORT_HTTP": "8000",
    }
    _, address, lines = start(**variables)
    assert lines == [f"example-redbox: {address}\n"]
    assert requests.get(f"{address}readyz", timeout=PATIENCE).json() == {"ready": True, "stopped": []}


def test_a_token_comes_from_a_file(start, tmp_path):
    (tmp_path / "token").write_text("a-token-of-letters\n")
    _, address, _ = start("--token-file", "token")
    assert requests.get(f"{address}v1/models", timeout=PATIENCE).status_code == 401
    headers = {"Authorization": "Bearer a-token-of-letters"}
    assert requests.get(f"{address}v1/models", headers=headers, timeout=PATIENCE).ok


def test_other_machines_are_served_with_a_warning(start):
    _, address, lines = start("--host", "0.0.0.0")  # noqa: S104 - it is what is warned of
    assert "whoever reaches this port may use the service" in lines[0]
    assert address.startswith("http://0.0.0.0:")


def refused(*options, **environ):
    result = CliRunner().invoke(group, ["serve", *options], env={**TOY, **environ})
    assert result.exit_code == 2, result.output
    return result.stderr


def test_a_port_that_is_taken_is_said():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = refused("--port", str(taken.getsockname()[1]))
    assert "cannot listen on 127.0.0.1 port" in said
    assert "Address already in use" in said
    assert "choose another --port or --host" in said


def test_a_host_that_is_none_is_said():
    assert "cannot listen on no..host port 0" in refused("--host", "no..host", "--port", "0")


@pytest.mark.parametrize("seconds", ["inf", "nan"])
@pytest.mark.parametrize("option", ["--upload-seconds", "--answer-seconds", "--idle-seconds"])
def test_a_time_that_does_not_end_is_said(option, seconds):
    assert f"Invalid value for '{option}': {seconds} seconds do not end." in refused(option, seconds, "--host", "no..")


@pytest.mark.parametrize("text", ["", "short\n", "two words of a token\n", "umlaut-öffnet-nichts"])
def test_a_file_without_a_token_is_said(tmp_path, text):
    (tmp_path / "token").write_text(text, encoding="utf-8")
    assert "There is no token in" in refused("--token-file", str(tmp_path / "token"))


def test_two_models_of_one_name_are_said():
    assert "Two models have one name" in refused("--model", "example-redbox", "--model", "example-redbox")


def test_a_model_that_is_none_is_said():
    assert "example-redbox" in refused("--model", "example-redbx")


def test_free_memory_goes_back_to_the_system_again_and_again(running, toy, monkeypatch):
    from polyface_serve import server

    given = threading.Semaphore(0)
    monkeypatch.setattr(server.memory, "give_back", given.release)
    monkeypatch.setattr(server, "GIVE_BACK_EVERY", 0.01)
    with running({"toy": toy()}):
        assert all(given.acquire(timeout=PATIENCE) for _ in range(3))
