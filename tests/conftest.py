"""A server of weights on this machine, and every way in which one can fail; WIDER FACE's ground truth, made up; and the
scripts of ``benchmarks/``."""

from __future__ import annotations

import importlib.util
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest


class Server(ThreadingHTTPServer):
    """Answers each path as told, by ``self.answers[path] = function of the handler``; keeps the paths asked for."""

    daemon_threads = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = {}
        self.asked = []
        self.over = threading.Event()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"

    def url(self, path, answer):
        """Have ``path`` answered so, and return its address."""
        self.answers[path] = answer
        return self.address + path

    def handle_error(self, request, client_address):
        """A client that hangs up is part of some tests."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.server.answers[self.path](self)

    def head(self, code=200, **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    """A running :class:`Server`; no proxy of the machine's own stands before it."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


class Answer:
    """The answers of a server of weights, good and bad."""

    @staticmethod
    def whole(content):
        def answer(handler):
            handler.head(Content_Length=len(content))
            handler.wfile.write(content)

        return answer

    @staticmethod
    def status(code):
        return lambda handler: handler.send_error(code)

    @staticmethod
    def redirect(url):
        return lambda handler: handler.head(302, Location=url)

    @staticmethod
    def cut(content):
        """Promises all, sends half, hangs up."""

        def answer(handler):
            handler.head(Content_Length=len(content))
            handler.wfile.write(content[: len(content) // 2])

        return answer

    @staticmethod
    def unsized(content):
        """Says nothing of the length."""

        def answer(handler):
            handler.head()
            handler.wfile.write(content)

        return answer

    @staticmethod
    def odd_length(content):
        def answer(handler):
            handler.head(Content_Length="many")
            handler.wfile.write(content)

        return answer

    @staticmethod
    def silence(handler):
        """Takes the request and says nothing until the test is over."""
        handler.server.over.wait()

    @staticmethod
    def stall(content):
        """Sends half, and nothing more until the test is over."""

        def answer(handler):
            handler.head(Content_Length=len(content))
            handler.wfile.write(content[: len(content) // 2])
            handler.wfile.flush()
            handler.server.over.wait()

        return answer


@pytest.fixture
def answer():
    return Answer


def cells(values):
    """A MATLAB cell array of one column."""
    table = np.empty((len(values), 1), object)
    for index, value in enumerate(values):
        table[index, 0] = value
    return table


@pytest.fixture
def write_mats(require):
    """Write the four official .mat files; ``images`` has ``{event/name: (boxes, {subset: numbers from 1 on})}``."""
    require("scipy", "matplotlib")
    from scipy import io

    def write(folder, images):
        folder.mkdir(parents=True, exist_ok=True)
        events = list(dict.fromkeys(name.partition("/")[0] for name in images))
        of = {event: [name for name in images if name.startswith(f"{event}/")] for event in events}
        boxes = {name: np.array(images[name][0], np.int32).reshape(-1, 4) for name in images}
        tables = {
            "event_list": cells(events),
            "file_list": cells([cells([name.partition("/")[2] for name in of[event]]) for event in events]),
            "face_bbx_list": cells([cells([boxes[name] for name in of[event]]) for event in events]),
        }
        io.savemat(folder / "wider_face_val.mat", tables, do_compression=True)
        for subset in ("easy", "medium", "hard"):
            numbers = {name: np.array(images[name][1].get(subset, []), np.uint16) for name in images}
            listed = cells([cells([numbers[name].reshape(-1, 1) for name in of[event]]) for event in events])
            io.savemat(folder / f"wider_{subset}_val.mat", {**tables, "gt_list": listed}, do_compression=True)
        return folder

    return write


@pytest.fixture(scope="session")
def benchmark_script(pytestconfig):
    """Return a function that imports a script of ``benchmarks/``, which is no package, by its name."""
    folder = pytestconfig.rootpath / "benchmarks"

    def load(name):
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        with pytest.MonkeyPatch.context() as path:
            path.syspath_prepend(folder)  # a script finds its neighbours
            spec.loader.exec_module(module)
        return module

    return load
