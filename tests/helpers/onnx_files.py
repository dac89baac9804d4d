"""ONNX files as others publish them, small and with numbers that are known: one prior of a cell sees bright red.

The first prior of a cell of the first stride has the logit ``8 * m``, where ``m`` is the mean of the input's first
channel over the cell's pixels; all others have -20. Offsets are zero: a box is its prior.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import helper, numpy_helper

ULTRAFACE = {8: (10, 16, 24), 16: (32, 48), 32: (64, 96), 64: (128, 192, 256)}
RETINAFACE = {8: (16, 32), 16: (64, 128), 32: (256, 512)}


def write_ssd(
    path, *, levels=ULTRAFACE, size=(240, 320), decoded=True, landmarks=False, logits=False, tail="", batch=1
):
    """Write a network of priors; ``size`` of ``None`` is free.

    ``decoded`` boxes are corners, and points places, in 0 to 1. The operation that gives the scores last may be another
    ``tail`` than a softmax, which gives the same.
    """
    nodes, weights = [], {}
    heads = {"scores": 2, "boxes": 4, **({"points": 10} if landmarks else {})}
    batch, *sides = (batch, *size) if size else ("n", "h", "w")
    for name, width in heads.items():
        for stride, sizes in levels.items():
            kernel = np.zeros((len(sizes) * width, 3, stride, stride), np.float32)
            bias = np.zeros(len(kernel), np.float32)
            if name == "scores":
                bias[1::2] = -20
                if stride == min(levels):
                    kernel[1, 0], bias[1] = 8 / stride**2, 0
            part = f"{name}_{stride}"
            weights |= {f"{part}_w": kernel, f"{part}_b": bias, f"{part}_s": np.array([0, -1, width])}
            ends = [-side % stride for side in size or (0, 0)]
            nodes += [
                helper.make_node(
                    "Conv",
                    ["input", f"{part}_w", f"{part}_b"],
                    [f"{part}_m"],
                    strides=[stride, stride],
                    pads=[0, 0, *ends],
                ),
                helper.make_node("Transpose", [f"{part}_m"], [f"{part}_t"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{part}_t", f"{part}_s"], [part]),
            ]
        raw = name if (name, logits) == ("scores", True) or (name == "boxes" and not decoded) else f"{name}_raw"
        raw = name if name == "points" and not decoded else raw
        nodes.append(helper.make_node("Concat", [f"{name}_{stride}" for stride in levels], [raw], axis=1))
    if not logits and tail == "Div":
        weights["axis"] = np.array([2])
        nodes += [
            helper.make_node("Exp", ["scores_raw"], ["powers"]),
            helper.make_node("ReduceSum", ["powers", "axis"], ["sum"], keepdims=1),
            helper.make_node("Div", ["powers", "sum"], ["scores"]),
        ]
    elif not logits:
        weights |= {"zero": np.float32(0), "one": np.float32(1)} if tail else {}
        nodes.append(helper.make_node("Softmax", ["scores_raw"], ["likely" if tail else "scores"], axis=2))
        nodes += [helper.make_node(tail, ["likely", "zero", "one"], ["scores"])] if tail else []
    if decoded:
        corners = priors(levels, *size)
        weights |= {"centres": corners[None, :, :2], "halves": corners[None, :, 2:] / 2, "two": np.array([2, 2])}
        nodes += [
            helper.make_node("Split", ["boxes_raw", "two"], ["shift", "growth"], axis=2),
            helper.make_node("Add", ["shift", "centres"], ["middle"]),
            helper.make_node("Add", ["growth", "halves"], ["half"]),
            helper.make_node("Sub", ["middle", "half"], ["least"]),
            helper.make_node("Add", ["middle", "half"], ["most"]),
            helper.make_node("Concat", ["least", "most"], ["boxes"], axis=2),
        ]
    if decoded and landmarks:
        weights |= {"places": np.tile(corners[None, :, :2], 5)}
        nodes.append(helper.make_node("Add", ["points_raw", "places"], ["points"]))
    floats = onnx.TensorProto.FLOAT
    count = len(priors(levels, *size)) if size else "p"
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("input", floats, [batch, 3, *sides])],
        [helper.make_tensor_value_info(name, floats, [batch, count, width]) for name, width in heads.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def priors(levels, height, width):
    """Centre and size of each prior ``(P, 4)`` float32, in parts of the input's sides."""
    rows = [
        ((column + 0.5) * stride / width, (row + 0.5) * stride / height, size / width, size / height)
        for stride, sizes in levels.items()
        for row in range(math.ceil(height / stride))
        for column in range(math.ceil(width / stride))
        for size in sizes
    ]
    return np.array(rows, np.float32)


def make_image(height=240, width=320, *, row=10, column=5):
    """A black image in which one cell of 8 by 8 pixels is red."""
    image = np.zeros((height, width, 3), np.uint8)
    image[8 * row : 8 * row + 8, 8 * column : 8 * column + 8, 0] = 255
    return image
