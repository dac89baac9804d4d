"""A network made of NumPy that reads its answer off the image, its head and its session.

An image of one colour ``(red, score, 0)`` has one face: a box of side 10 at (red, red), with the score ``score / 255``,
and two landmarks on the box's upper corners.
"""

from __future__ import annotations

import numpy as np

from polyface.errors import ClosedError
from polyface.plugins.protocols import Candidates, Execution

SMALLEST = b"\x3a\x0a\x5a\x03\x0a\x01i\x62\x03\x0a\x01o"
"""An ONNX file whose graph has an input and an output, and nothing else."""


def make_image(red, score=255, *, height=20, width=20):
    return np.broadcast_to(np.array([red, score, 0], np.uint8), (height, width, 3)).copy()


def one_face(batch):
    """``heads (N, 1, 5)``: box and score, as the colour of the first pixel says."""
    red, score = batch[:, 0, 0, 0], batch[:, 1, 0, 0] / 255
    return {"heads": np.stack([red, red, red + 10, red + 10, score], axis=1)[:, None]}


def faces(*rows):
    """A network that finds these faces ``(x1, y1, x2, y2, score)`` in every image."""

    def network(batch):
        return {"heads": np.array([rows] * len(batch), np.float32).reshape(len(batch), -1, 5)}

    network.anchors = len(rows)
    return network


class Head:
    def __init__(self, anchors=1):
        self.anchors = anchors
        self.asked = []

    def priors(self, height, width):
        self.asked.append((height, width))
        return np.zeros((self.anchors, 4), np.float32)

    def scores(self, outputs):
        return outputs["heads"][:, :, 4]

    def decode(self, outputs, priors, index, keep):  # noqa: ARG002
        boxes = outputs["heads"][index, keep, :4]
        return Candidates(boxes, np.stack([boxes[:, [0, 1]], boxes[:, [2, 1]]], axis=1))


class BareHead(Head):
    """A head without landmarks."""

    def decode(self, outputs, priors, index, keep):  # noqa: ARG002
        return Candidates(outputs["heads"][index, keep, :4], None)


class Session:
    def __init__(self, network=one_face, device="cpu", precision="fp32", threads=None):
        self.network = network
        self.execution = Execution(device=device, precision=precision, threads=threads)
        self.shapes = []
        self.closed = 0

    def run(self, inputs):
        if self.closed:
            raise ClosedError("The session is closed.")
        [batch] = inputs.values()
        self.shapes.append(batch.shape)
        return self.network(batch)

    def close(self):
        self.closed += 1


class PixelSession(Session):
    """Sees red and green as :class:`Session` does."""

    def run_pixels(self, pixels):
        self.seen = pixels.copy()
        return self.run({"image": pixels.transpose(0, 3, 1, 2).astype(np.float32)})


def shapes(detector):
    session = detector._network.session
    return getattr(session, "_session", session).shapes
