"""`polyface serve` on this machine: what it adds to a call, what many clients get, and whether it stands hostile ones.

    python benchmarks/serve.py speed
    python benchmarks/serve.py soak --requests 20000 --connections 32

``speed`` times one client against the plain call, in turn, and then 16 clients, in a process of their own on the same
cores, against one. ``soak`` mixes requests of all kinds with damaged files, oversize bodies, slow clients and
such as vanish, and holds every good answer against the plain call. Memory is resident memory by ``/proc``; so it takes
Linux. Exit status is 1 where the soak finds anything wrong.

Needs polyface-serve, and a detector and a backend.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import io
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from attrs import field, frozen, mutable
from PIL import Image

import polyface
from polyface.measure.rounds import machine

EXAMPLES = Path(__file__).parents[1] / "examples"
IMAGES = [EXAMPLES / f"{name}.jpg" for name in ("astronaut", "grace_hopper", "collage")]
NEAR = 0.02
"""Pixels: what rounding alone makes of a box, in a batch and outside one, at three decimals."""

BOUNDARY = "polyface-boundary"
MAX_BYTES = 2_000_000
"""Of a request in a soak."""

PATIENCE = 60.0


@contextlib.contextmanager
def running(*options: str) -> Iterator[tuple[int, int]]:
    """Run the service as users do, and return its port and its process."""
    command = [sys.executable, "-m", "polyface", "serve", "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - it is polyface
        lines = iter(process.stderr or ())
        for line in lines:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                break
            sys.stderr.write(line)
        else:
            sys.exit(1)
        threading.Thread(target=sys.stderr.writelines, args=(lines,), daemon=True).start()
        try:
            yield int(found[1]), process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(120)
            print(f"exit status after SIGTERM: {status}")


def memory_of(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) * 1024


def cpu_of(pid: int) -> float:
    """Return the seconds that the processor has worked for a process."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def post(connection: http.client.HTTPConnection, path: str, body: Any, kind: str) -> tuple[int, bytes]:
    """Send a request, and return the status and the body of its answer."""
    connection.request("POST", path, body, {"Content-Type": kind})
    answer = connection.getresponse()
    return answer.status, answer.read()


# Speed


def _keep_busy(port: int, data: bytes, clients: int, seconds: float, out: Any) -> None:
    """Send one request after the other from so many clients; put the seconds of each, and of all."""
    took: list[float] = []
    end = time.perf_counter() + seconds

    def run() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        while time.perf_counter() < end:
            started = time.perf_counter()
            status, _ = post(connection, "/v1/detect", data, "image/jpeg")
            if status == 200:
                took.append(time.perf_counter() - started)

    threads = [threading.Thread(target=run) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    out.put((took, time.perf_counter() - began))


def load(port: int, data: bytes, clients: int, seconds: float) -> tuple[list[float], float]:
    """Return the seconds of each request, and of all, of so many clients, which run in a process of their own."""
    context = get_context("spawn")
    out = context.Queue()
    process = context.Process(target=_keep_busy, args=(port, data, clients, seconds, out))
    process.start()
    took, span = out.get()
    process.join()
    return took, span


def measure_speed(detector: str, rounds: int, seconds: float, options: Sequence[str]) -> None:
    """Print the plain call and one client, call by call in turn, and 16 clients beside one, a row an image."""
    plain = polyface.create_detector(detector, timing=True)
    print(json.dumps(machine(), default=str))
    print("| image | plain call, p50 | one client, p50 | ratio | one client | 16 clients | ratio | CPU of a request |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with running("--model", detector, *options) as (port, pid):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        for path in IMAGES:
            data = path.read_bytes()
            marks = []
            took, spans, work = (dict.fromkeys((1, 16), 0.0) for _ in range(3))
            connection.close()  # it was idle for long
            for _ in range(rounds):
                end = time.perf_counter() + 2 * seconds
                while (began := time.perf_counter()) < end:
                    plain.detect(data)
                    between = time.perf_counter()
                    post(connection, "/v1/detect", data, "image/jpeg")
                    marks.append((between - began, time.perf_counter() - between))
            for _ in range(rounds):
                for clients in (1, 16):
                    before = cpu_of(pid)
                    each, span = load(port, data, clients, seconds)
                    work[clients] += cpu_of(pid) - before
                    took[clients] += len(each)
                    spans[clients] += span
            call, lone = (1000 * statistics.median(times) for times in zip(*marks, strict=True))
            one, many = (took[clients] / spans[clients] for clients in (1, 16))
            print(
                f"| {path.name} | {call:.1f} ms | {lone:.1f} ms | {lone / call:.2f} | {one:.1f} /s | {many:.1f} /s "
                f"| {many / one:.2f} | {1000 * work[1] / took[1]:.1f} and {1000 * work[16] / took[16]:.1f} ms |",
                flush=True,
            )


# Soak


@frozen(kw_only=True, eq=False)
class Good:
    """A good image, and what the plain call finds in it."""

    name: str
    data: bytes
    kind: str
    faces: list[dict[str, Any]]


@mutable(eq=False)
class Tally:
    """What was sent and what came back.

    Args:
        sent: requests by their kind.
        wrong: what should not have been.
    """

    sent: Counter[str] = field(factory=Counter)
    wrong: list[str] = field(factory=list)
    lock: threading.Lock = field(factory=threading.Lock)


def make_images(detector: polyface.FaceDetector) -> list[Good]:
    """Return the examples at several sizes and in several formats, with the faces of the plain call."""
    found = []
    for path in IMAGES:
        whole = Image.open(path).convert("RGB")
        for side, (ending, kind) in zip(
            (160, 200, 256, 320, 384, 448),
            (("JPEG", "jpeg"), ("PNG", "png"), ("WEBP", "webp"), ("JPEG", "jpeg"), ("JPEG", "jpeg"), ("PNG", "png")),
            strict=True,
        ):
            image = whole.copy()
            image.thumbnail((side, side))
            stream = io.BytesIO()
            image.save(stream, ending)
            data = stream.getvalue()
            faces = detector.detect(data).to_dicts()
            found.append(Good(name=f"{path.stem}-{side}", data=data, kind=f"image/{kind}", faces=faces))
    return found


def make_form(parts: Sequence[bytes]) -> tuple[bytes, str]:
    """Return the body of a form of files, and what it is."""
    lines = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="{number}.jpg"\r\n\r\n'.encode()
        + part
        + b"\r\n"
        for number, part in enumerate(parts)
    ]
    return b"".join([*lines, f"--{BOUNDARY}--\r\n".encode()]), f"multipart/form-data; boundary={BOUNDARY}"


def is_same(found: Sequence[dict[str, Any]], wanted: Sequence[dict[str, Any]]) -> bool:
    """Return whether two lists of faces are equal but for rounding."""
    if len(found) != len(wanted):
        return False
    return all(
        np.allclose(one["box"], other["box"], atol=NEAR)
        and abs(one["score"] - other["score"]) < 1e-4
        and np.allclose(one.get("landmarks", ()), other.get("landmarks", ()), atol=NEAR)
        for one, other in zip(found, wanted, strict=True)
    )


class Client(threading.Thread):
    """One connection's worth of clients, good and bad, from a seed."""

    def __init__(self, port: int, images: Sequence[Good], count: int, seed: int, tally: Tally) -> None:
        super().__init__()
        self._port, self._images, self._count, self._tally = port, images, count, tally
        self._random = random.Random(seed)  # noqa: S311 - it repeats
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self._bomb = _bomb()

    def run(self) -> None:
        kinds, weights = zip(*KINDS, strict=True)
        for kind in self._random.choices(kinds, weights, k=self._count):
            try:
                problem = getattr(self, f"send_{kind}")(self._random.choice(self._images))
            except Exception as error:  # noqa: BLE001 - it is what the soak looks for
                problem = f"{type(error).__name__}: {error}"
                self._connection.close()
            with self._tally.lock:
                self._tally.sent[kind] += 1
                if problem:
                    self._tally.wrong.append(f"{kind}: {problem}")

    def send_raw(self, image: Good) -> str | None:
        return self._compare(image.data, image.kind, [image])

    def send_form(self, image: Good) -> str | None:
        return self._compare(*make_form([image.data]), [image])

    def send_json(self, image: Good) -> str | None:
        body = json.dumps({"images": [{"data": base64.b64encode(image.data).decode()}]})
        return self._compare(body, "application/json", [image])

    def send_several(self, image: Good) -> str | None:
        """Good images with a bad one among them, which fails alone."""
        others = [image, *self._random.sample(list(self._images), 3)]
        body, kind = make_form([others[0].data, b"no image", *(other.data for other in others[1:])])
        return self._compare(body, kind, [others[0], None, *others[1:]])

    def send_anonymize(self, image: Good) -> str | None:
        status, body = post(self._connection, "/v1/anonymize", image.data, image.kind)
        if status != 200 or Image.open(io.BytesIO(body)).size != Image.open(io.BytesIO(image.data)).size:
            return f"{status} {body[:200]!r}"
        return None

    def send_crop(self, image: Good) -> str | None:
        status, body = post(self._connection, "/v1/crop", image.data, image.kind)
        if status != 200 or len(zipfile.ZipFile(io.BytesIO(body)).namelist()) != 1 + len(image.faces):
            return f"{status} {body[:200]!r}"
        return None

    def send_damaged(self, image: Good) -> str | None:
        """A file that is cut short: most are refused, but what is cut may be of no weight."""
        return self._expect({200, 415, 422}, image.data[: self._random.randrange(4, len(image.data))], image.kind)

    def send_text(self, _: Good) -> str | None:
        return self._expect({415}, b"This is no image.", "image/jpeg")

    def send_bomb(self, _: Good) -> str | None:
        return self._expect({413}, self._bomb, "image/png")

    def send_oversize(self, _: Good) -> str | None:
        """More bytes than are taken, said before or not."""
        body: Any = bytes(3_000_000)
        if self._random.random() < 0.5:
            body = (bytes(100_000) for _ in range(30))
        return self._expect({413}, body, "image/jpeg")

    def send_setting(self, image: Good) -> str | None:
        return self._expect({400}, image.data, image.kind, "?max_pixels=1")

    def send_vanishing(self, image: Good) -> str | None:
        """Send all or half of a request, and go."""
        head = f"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: {image.kind}\r\n"
        head += f"Content-Length: {len(image.data)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self._port), PATIENCE) as connection:
            connection.sendall(head.encode() + image.data[:: self._random.choice((1, 2))])
        return None

    def send_slow(self, _: Good) -> str | None:
        """Begin a request, and never end it: cut off."""
        self._connection.close()  # it would be idle meanwhile, and be cut as well
        starts = (b"", b"POST /v1/det", b"POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nabc")
        with socket.create_connection(("127.0.0.1", self._port), PATIENCE) as connection:
            connection.sendall(self._random.choice(starts))
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(4096):
                    pass
        return None

    def _compare(self, body: Any, kind: str, wanted: Sequence[Good | None]) -> str | None:
        status, text = post(self._connection, "/v1/detect", body, kind)
        if status != 200:
            return f"{status} {text[:200]!r}"
        for line, image in zip(json.loads(text)["results"], wanted, strict=True):
            if image is None:
                if line["error"]["status"] != 415:
                    return f"a text is {line}"
            elif line["error"] is not None or not is_same(line["faces"], image.faces):
                return f"{image.name} is {line}, not {image.faces}"
        return None

    def _expect(self, wanted: set[int], body: Any, kind: str, query: str = "") -> str | None:
        status, text = post(self._connection, f"/v1/detect{query}", body, kind)
        if status not in wanted:
            return f"{status} {text[:200]!r}"
        if status != 200 and not json.loads(text)["error"]["what"]:
            return f"{text[:200]!r} says nothing"
        return None


KINDS = (
    ("raw", 30),
    ("form", 20),
    ("json", 10),
    ("several", 4),
    ("anonymize", 5),
    ("crop", 5),
    ("damaged", 8),
    ("text", 4),
    ("bomb", 3),
    ("oversize", 2),
    ("setting", 4),
    ("vanishing", 4),
    ("slow", 1),
)
"""The requests of a soak, and how often each comes."""


def _bomb() -> bytes:
    """A small file of many pixels."""
    stream = io.BytesIO()
    Image.new("1", (7000, 7000)).save(stream, "PNG")
    return stream.getvalue()


def warm_up(port: int, images: Sequence[Good]) -> None:
    """Have the service meet the largest runs of each image, so that what it takes later is not owed to those."""

    def run() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        for image in images:
            count = min(16, MAX_BYTES // (len(image.data) + 200))
            post(connection, "/v1/detect", *make_form([image.data] * count))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def soak(detector: str, requests: int, connections: int, options: Sequence[str]) -> int:
    """Send requests of all kinds, print what came of them, and return the exit status."""
    images = make_images(polyface.create_detector(detector))
    print(json.dumps(machine(), default=str))
    print(f"{len(images)} images, {sum(len(image.faces) for image in images)} faces")
    bounds = ["--max-bytes", str(MAX_BYTES), "--upload-seconds", "2", "--idle-seconds", "2", "--queue", "256"]
    tally, marks = Tally(), []
    with running("--model", detector, *bounds, *options) as (port, pid):
        warm_up(port, images)
        started = time.monotonic()
        share = -(-requests // connections)
        clients = [Client(port, images, share, seed, tally) for seed in range(connections)]
        for client in clients:
            client.start()
        while any(client.is_alive() for client in clients):
            time.sleep(0.5)
            marks.append((sum(tally.sent.values()), memory_of(pid)))
        seconds = time.monotonic() - started
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        connection.request("GET", "/metrics")
        metrics = connection.getresponse().read().decode()
    sent = sum(tally.sent.values())
    first = statistics.median(size for done, size in marks if done / sent <= 0.1)
    last = statistics.median(size for done, size in marks if done / sent >= 0.9)
    print(f"{sent} requests from {connections} connections in {seconds:.0f} s: {dict(tally.sent.most_common())}")
    tenths = [max((size for done, size in marks if done * 10 // sent == part), default=0) for part in range(10)]
    print("resident memory by tenths, MB:", *(f"{size / 1e6:.0f}" for size in tenths))
    print(
        f"resident memory: {first / 1e6:.0f} MB in the first tenth, {last / 1e6:.0f} MB in the last, {last / first:.3f}"
    )
    statuses = re.findall(r'polyface_requests_total\{path="([^"]+)",status="(\d+)"\} (\S+)', metrics)
    print("answers:", ", ".join(f"{path} {status}: {float(count):.0f}" for path, status, count in statuses))
    left = re.findall(r"polyface_queue_images\{[^}]+\} (\S+)", metrics)
    print("left in the queue:", *left)
    batches = dict(re.findall(r"polyface_batch_images_(count|sum)\{[^}]+\} (\S+)", metrics))
    print(f"images in a run of the network: {float(batches['sum']) / float(batches['count']):.2f}")
    problems = [*tally.wrong, *(f"{count} times status {status}" for _, status, count in statuses if status == "500")]
    if last > 1.1 * first:
        problems.append(f"memory grew by {last / first - 1:.0%}")
    if any(float(length) for length in left):
        problems.append("the queue is not empty")
    print(f"wrong: {len(problems)}", *problems[:20], sep="\n")
    return 1 if problems else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "soak"])
    parser.add_argument("--detector", default="retinaface-mobilenet025")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn")
    parser.add_argument("options", nargs="*", help="further options of polyface serve, behind --")
    given = parser.parse_args()
    if given.what == "soak":
        return soak(given.detector, given.requests, given.connections, given.options)
    measure_speed(given.detector, given.rounds, given.seconds, given.options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
