"""Where two backends part: every tensor inside one ONNX graph, from the same input, layer by layer.

Each float tensor that depends on the image becomes an output of the graph, both backends run it, and the first layers
in the graph's order that lie apart are printed as a table in Markdown::

    python benchmarks/layers.py --detector dsfd-resnet152 --kind onnx-int8 --seeded --size 240x135 --pad-to 1
    python benchmarks/layers.py --kind onnx-int8 --image photo.jpg --backends onnxruntime,openvino --json layers.json

A difference is relative to the tensor's largest magnitude. ``border`` is what lies within ``--border`` cells of a
feature map's edge, where a convolution sees padding, and ``inside`` the rest. Outputs in the middle keep a runtime from
fusing some layers; ``--alone`` compiles a graph for each tensor, which is slow and leaves all the others fused.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import numpy as np
import onnx
from attrs import frozen
from onnx import numpy_helper
from PIL import Image
from weights import write_seeded

import polyface
from polyface.graphs.artifacts import open_store
from polyface.graphs.resolve import export, load_graph, open_planner, quantize
from polyface.images.geometry import place_image
from polyface.images.preparing import prepare
from polyface.images.reading import read_image
from polyface.machine.cores import default_threads
from polyface.pipeline.calibration import Calibration
from polyface.plugins.manager import installed_plugins
from polyface.plugins.options import check_options
from polyface.plugins.protocols import CompileRequest, Graph
from polyface.plugins.records import BackendSpec, DetectorSpec, TensorSpec
from polyface.settings.config import Config

if TYPE_CHECKING:
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[np.float32]
    Run: TypeAlias = Callable[[onnx.ModelProto, Sequence[str], Array], dict[str, Array]]
    """The numbers of the named outputs of a graph, for an input."""

SHAPES_ALONE = ("Shape", "Size")
"""What looks at how large a tensor is, and not at its numbers."""


@frozen(kw_only=True)
class Layer:
    """How far one tensor lies apart.

    Args:
        name: the tensor's.
        made_by: the node it comes out of, with the padding and zero point that a convolution has.
        shape: of the tensor.
        max: the largest difference, relative to the largest magnitude of the reference.
        mean: the mean difference, likewise.
        border: the largest within a few cells of the edge; ``None`` for what is no feature map.
        inside: the largest elsewhere; ``None`` likewise, or where all is border.
        at: the place of the largest difference, an index for each axis.
    """

    name: str
    made_by: str
    shape: tuple[int, ...]
    max: float
    mean: float
    border: float | None
    inside: float | None
    at: tuple[int, ...]


def tensors(model: onnx.ModelProto) -> list[str]:
    """Return the float tensors that depend on the graph's input, in the graph's order.

    One that is quantized is seen behind that: OpenVINO 2026.4 gives zeros where both are outputs.
    """
    graph = onnx.shape_inference.infer_shapes(model).graph
    floats = {
        value.name
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    moving = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    quantized = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    found = []
    for node in graph.node:
        if moving.intersection(node.input) and node.op_type not in SHAPES_ALONE:
            moving.update(node.output)
            found += [name for name in node.output if name in floats - quantized]
    return found


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """Return the graph with further outputs, float32 of any shape."""
    wider = onnx.ModelProto()
    wider.CopyFrom(model)
    there = {value.name for value in wider.graph.output}
    added = [name for name in names if name not in there]
    wider.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in added)
    return wider


def layers(
    model: onnx.ModelProto, image: Array, reference: Run, other: Run, *, border: int = 2, alone: bool = False
) -> Iterator[Layer]:
    """Yield how far each tensor of the graph lies apart, in the graph's order, from the same input."""
    names = tensors(model)
    made_by = makers(model)
    for group in [[name] for name in names] if alone else [names]:
        wider = with_outputs(model, group)
        wanted, got = reference(wider, group, image), other(wider, group, image)
        for name in group:
            yield compare(name, made_by[name], wanted[name], got[name], border)


def compare(name: str, made_by: str, wanted: Array, got: Array, border: int) -> Layer:
    """Return how far a tensor lies apart, and where."""
    off = np.abs(np.subtract(got, wanted, dtype=np.float64)) / max(float(np.abs(wanted).max()), 1e-12)
    edge = inside = None
    if off.ndim == 4:
        middle = np.zeros(off.shape[2:], bool)
        middle[border : off.shape[2] - border, border : off.shape[3] - border] = True
        edge = float(off[:, :, ~middle].max(initial=0))
        inside = float(off[:, :, middle].max()) if middle.any() else None
    return Layer(
        name=name,
        made_by=made_by,
        shape=off.shape,
        max=float(off.max()),
        mean=float(off.mean()),
        border=edge,
        inside=inside,
        at=tuple(int(index) for index in np.unravel_index(off.argmax(), off.shape)),
    )


def makers(model: onnx.ModelProto) -> dict[str, str]:
    """Return what makes each tensor: the operator, and of a convolution what zero points and padding depend on."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    producer = {output: node for node in model.graph.node for output in node.output}

    def described(node: onnx.NodeProto) -> str:
        if node.op_type != "Conv":
            return node.op_type
        given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        parts = [
            f"{name} {'x'.join(map(str, given[name]))}"
            for name in ("kernel_shape", "strides", "pads", "dilations")
            if name in given
        ]
        parts += [f"group {given['group']}"] if given.get("group", 1) > 1 else []
        source = producer.get(node.input[0])
        if source is not None and source.op_type == "DequantizeLinear":
            point = constants.get(source.input[2]) if len(source.input) > 2 else None
            parts.append(f"zero point {numpy_helper.to_array(point) if point is not None else 0}")
        return f"Conv: {', '.join(parts)}"

    return {output: described(node) for output, node in producer.items()}


def runner(detector: DetectorSpec, kind: str, backend: str, precision: str | None) -> Run:
    """Return what runs a graph of the detector on an installed backend, exactly as polyface would."""
    spec = installed_plugins().get(BackendSpec, backend)
    fitting = (p for c in spec.capabilities for p in c.precisions if kind in spec.kinds("cpu", p))
    chosen = precision or next(fitting, None)
    if chosen is None:
        raise SystemExit(f"{backend} takes no graph of the kind {kind}")
    made: Any = spec.factory.load()()
    request = CompileRequest(
        device="cpu", precision=chosen, threads=default_threads(), options=check_options(spec.name, spec.options, {})
    )

    def run(model: onnx.ModelProto, names: Sequence[str], image: Array) -> dict[str, Array]:
        # The detector's record with what else comes out, of whatever shape: a backend checks names alone.
        more = [name for name in names if name not in {output.name for output in detector.outputs}]
        outputs = (*detector.outputs, *(TensorSpec(name=name, dims=("n",)) for name in more))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "layers.onnx"
            onnx.save(model, path)
            graph = Graph(kind=kind, source=path, detector=attrs.evolve(detector, outputs=outputs))
            session = made.compile(graph, request)
            try:
                return dict(session.run({detector.input.name: image}))
            finally:
                session.close()

    return run


def seeded(detector: DetectorSpec, kind: str, folder: Path) -> Path:
    """Return a graph of random weights, calibrated on noise: what tests/cross_backend compares."""
    weights = write_seeded(detector, folder)
    if kind == "onnx":
        return export(
            Config(detector=detector.name, weights=str(weights)), installed_plugins(), kind, folder / "graphs"
        ).path
    for seed in range(2):
        noise(96, 128, seed).save(folder / f"{seed}.png")
    config = Config(detector=detector.name, weights=str(weights))
    plugins = installed_plugins()
    calibration = Calibration(config, plugins.get(DetectorSpec, config.detector), sorted(folder.glob("*.png")))
    return quantize(config, plugins, calibration, kind, folder / "graphs").path


def noise(height: int, width: int, seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def found(config: Config, kind: str, backend: str, precision: str | None) -> Path:
    """Return the graph that the backend would run: published by the detector, stored, or exported now."""
    plugins = installed_plugins()
    planner = open_planner(plugins, config, open_store(config))
    spec = plugins.get(BackendSpec, backend)
    # The backend, as one that takes this kind and nothing else.
    only = attrs.evolve(spec, capabilities=[attrs.evolve(c, accepts=(kind,)) for c in spec.capabilities])
    fitting = precision or next(p for c in spec.capabilities for p in c.precisions if kind in spec.kinds("cpu", p))
    route = planner.route(only, "cpu", fitting)
    source = load_graph(route, planner.detector, planner.weights).source
    if not isinstance(source, Path):
        raise SystemExit(f"a graph of the kind {kind} is no file")
    return source


def table(parted: Sequence[Layer]) -> list[str]:
    """Return the layers as lines of Markdown."""

    def text(value: float | None) -> str:
        return "" if value is None else f"{value:.2e}"

    heading = ("layer", "made by", "shape", "max", "mean", "border", "inside", "largest at")
    body = [
        (
            layer.name,
            layer.made_by,
            "x".join(map(str, layer.shape)),
            *map(text, (layer.max, layer.mean, layer.border, layer.inside)),
            ", ".join(map(str, layer.at)),
        )
        for layer in parted
    ]
    return [f"| {' | '.join(row)} |" for row in (heading, ("---",) * len(heading), *body)]


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="retinaface-mobilenet025")
    parser.add_argument("--kind", default="onnx-int8", help="graph kind")
    parser.add_argument("--precision", help="unset: the first that the backend runs the kind in")
    parser.add_argument("--backends", default="onnxruntime,openvino", help="the reference, and the other")
    parser.add_argument("--weights", help="the graph's; what a user quantized lies in polyface's cache")
    parser.add_argument("--artifacts", help="a folder of graphs, as --output of polyface quantize wrote it")
    parser.add_argument("--seeded", action="store_true", help="random weights, calibrated on noise; needs torch")
    parser.add_argument("--image", help="unset: noise")
    parser.add_argument("--size", default="96x128", help="height and width of the noise")
    parser.add_argument("--pad-to", type=int, default=32, help="1 for the sizes of tests/cross_backend")
    parser.add_argument("--apart", type=float, default=0.05, help="a larger difference than this is shown")
    parser.add_argument("--first", type=int, default=10, help="how many layers to show")
    parser.add_argument("--border", type=int, default=2, help="how many cells from the edge count as border")
    parser.add_argument("--alone", action="store_true", help="a graph for each tensor")
    parser.add_argument("--json", type=Path, help="write every layer to this file")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    try:
        detector = installed_plugins().get(DetectorSpec, options.detector)
        backends = options.backends.split(",")
        runs = [runner(detector, options.kind, backend, options.precision) for backend in backends]
        config = Config(
            detector=options.detector,
            weights=options.weights,
            artifacts=options.artifacts,
            pad_to=options.pad_to,
        )
        with tempfile.TemporaryDirectory() as folder:
            path = (
                seeded(detector, options.kind, Path(folder))
                if options.seeded
                else found(config, options.kind, backends[0], options.precision)
            )
            model = onnx.load(path)
        height, width = map(int, options.size.split("x"))
        pixels = read_image(options.image or noise(height, width, seed=0))
        placement = place_image(config, detector, *pixels.shape[:2], 1.0)
        image = prepare([pixels], [placement], detector.preprocess)
        taken = list(layers(model, image, *runs, border=options.border, alone=options.alone))
    except polyface.PolyfaceError as error:
        raise SystemExit(str(error)) from None
    parted = [layer for layer in taken if layer.max > options.apart]
    print(
        f"{options.detector} {options.kind}, input {'x'.join(map(str, image.shape))}: {len(parted)} of {len(taken)} "
        f"tensors of {backends[1]} lie more than {options.apart} from {backends[0]}'s\n"
    )
    print("\n".join(table(parted[: options.first])))
    print("\nthe graph's outputs:\n")
    ends = {output.name for output in detector.outputs}
    print("\n".join(table([layer for layer in taken if layer.name in ends])))
    if options.json is not None:
        options.json.write_text(json.dumps([attrs.asdict(layer) for layer in taken], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
