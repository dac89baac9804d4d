"""A service on the loopback device, in this process, with the toy detector; and images of red squares for it."""

from __future__ import annotations

import contextlib
import io
import socket
import threading

import numpy as np
import pytest
import requests
from attrs import frozen
from PIL import Image

from polyface.building import create_detector


def make_square(kind="PNG", *, at=((16, 8),), size=(64, 48), **options):
    """Return the file of a black image with bright red squares of 8 pixels, their left and top given."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    for left, top in at:
        pixels[top : top + 8, left : left + 8] = 255, 0, 0
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


@frozen
class Running:
    """A service that answers."""

    port: int
    models: list

    def post(self, path, data=None, kind="image/png", headers=None, **more):
        given = {"Content-Type": kind} if data is not None else {}
        return requests.post(self.url(path), data=data, headers=given | (headers or {}), timeout=60, **more)

    def get(self, path, **more):
        return requests.get(self.url(path), timeout=60, **more)

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), 60)


@contextlib.contextmanager
def run_service(detectors, *, token=None, **limits):
    """Run the service of these detectors, by name, in a thread."""
    from polyface_serve.app import make_app
    from polyface_serve.batching import Model
    from polyface_serve.limits import Limits
    from polyface_serve.metrics import Metrics
    from polyface_serve.server import make_server, open_socket

    bounds, metrics = Limits(**limits), Metrics()
    models = [Model(name, detector, bounds, metrics) for name, detector in detectors.items()]
    server = make_server(lambda during: make_app(models, bounds, metrics, token=token, during=during), bounds)
    listener = open_socket("127.0.0.1", 0)
    port = listener.getsockname()[1]
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield Running(port, models)
    finally:
        server.should_exit = True
        thread.join()


def make_toy(**settings):
    return create_detector("example-redbox", backend="numpy", timing=True, **{"max_pixels": 1_000_000, **settings})


@pytest.fixture(scope="session")
def square():
    return make_square


@pytest.fixture(scope="session")
def running():
    return run_service


@pytest.fixture(scope="session")
def toy():
    return make_toy


@pytest.fixture(scope="module")
def service():
    """The toy detector behind HTTP, as a user has it but for a smaller bound on pixels."""
    with run_service({"toy": make_toy()}) as service:
        yield service
