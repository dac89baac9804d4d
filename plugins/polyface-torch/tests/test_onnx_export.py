"""The converter to ONNX, on networks with what detectors have: a pyramid whose levels are resized to one another."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest

from polyface.errors import ContractError, WeightsError
from polyface.plugins.protocols import Converter, Graph
from polyface.plugins.records import DetectorSpec, GraphSource, Preprocess, Ref, TensorSpec

torch = pytest.importorskip("torch", reason="needs torch: pip install polyface-torch")
onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'polyface-torch[export]'")
onnxscript = pytest.importorskip("onnxscript", reason="needs onnxscript: pip install 'polyface-torch[export]'")

from onnx.reference import ReferenceEvaluator  # noqa: E402 - only once onnx is known to be there

from polyface_torch import onnx_export  # noqa: E402
from polyface_torch.export import OnnxExporter  # noqa: E402
from polyface_torch.onnx_export import write  # noqa: E402

NETS = """
import torch
from torch.nn.functional import interpolate, relu

class Pyramid(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fine = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.coarse = torch.nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.head = torch.nn.Conv2d(4, 6, 1)

    def forward(self, image):
        fine = relu(self.norm(self.fine(image)))
        coarse = relu(self.coarse(fine))
        merged = fine + interpolate(coarse, size=self.size(fine), mode="nearest")
        levels = [self.head(level).permute(0, 2, 3, 1).reshape(image.shape[0], -1, 6) for level in (merged, coarse)]
        heads = torch.cat(levels, 1)
        return heads[..., :4], heads[..., 4:]

    def size(self, fine):
        return fine.shape[-2:]

class Frozen(Pyramid):
    def size(self, fine):
        return [len(range(side)) for side in fine.shape[-2:]]

class Branching(Pyramid):
    def forward(self, image):
        return super().forward(image if image.shape[2] > 100 else image * 2)

class Looking(Pyramid):
    def forward(self, image):
        return super().forward(image if image.sum() > 0 else -image)

class Short(Pyramid):
    def forward(self, image):
        loc, logits = super().forward(image)
        return loc, logits[..., :1]

class Endless(Pyramid):
    def forward(self, image):
        loc, logits = super().forward(image)
        return loc * float("inf"), logits

class Cells(torch.nn.Module):
    def forward(self, image):
        n, c, h, w = image.shape
        if h % 16 or w % 16:
            raise ValueError("no multiples of 16")
        cells = image.reshape(n, c, h // 16, 16, w // 16, 16).mean((3, 5)).flatten(2).permute(0, 2, 1)
        return torch.cat([cells, cells[..., :1]], 2), cells[..., :2]

class Pools(torch.nn.Module):
    def forward(self, image):
        levels = [torch.nn.functional.max_pool2d(image, 8)]
        for _ in range(2):
            levels.append(torch.nn.functional.max_pool2d(levels[-1], 2))
        merged = levels.pop()
        while levels:
            merged = levels.pop() + interpolate(merged, scale_factor=2.0, mode="nearest")
        heads = merged.flatten(2).permute(0, 2, 1)
        return torch.cat([heads, heads[..., :1]], 2), heads[..., :2]

def make(kind):
    torch.manual_seed(0)
    return kind()

def build(weights, *, seed=None): return make(Pyramid)
def cells(weights, *, seed=None): return make(Cells)
def pools(weights, *, seed=None): return make(Pools)
def frozen(weights, *, seed=None): return make(Frozen)
def branching(weights, *, seed=None): return make(Branching)
def looking(weights, *, seed=None): return make(Looking)
def short(weights, *, seed=None): return make(Short)
def endless(weights, *, seed=None): return make(Endless)
"""


@pytest.fixture
def graph(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("nets")
    (folder / "polyface_export_test_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(folder)

    def of(builder="build", stride=1, min_side=32, dims=("n", 3, "h", "w")):
        ref = Ref(f"polyface_export_test_nets:{builder}")
        detector = DetectorSpec(
            name="pyramid",
            summary="two levels",
            graph_version=1,
            input=TensorSpec(name="image", dims=dims),
            outputs=tuple(TensorSpec(name=name, dims=(dims[0], "p", k)) for name, k in (("loc", 4), ("logits", 2))),
            preprocess=Preprocess(channels="bgr", mean=(104, 117, 123), std=(58, 57, 57), stride=stride),
            head=Ref("tiny:Head"),
            graphs=(GraphSource(kind="torch-module", ref=ref),),
            min_side=min_side,
        )
        return Graph(kind="torch-module", source=ref, detector=detector)

    return of


@pytest.fixture
def exported(graph, tmp_path):
    return write(graph(), tmp_path)


def test_the_exporter_obeys_the_protocol():
    assert isinstance(OnnxExporter(), Converter)


def test_one_file_is_written_with_the_declared_names_and_free_dimensions(exported, tmp_path):
    assert list(tmp_path.iterdir()) == [exported]
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    dims = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert dims == {"image": ["n", 3, "h", "w"], "loc": ["n", "p", 4], "logits": ["n", "p", 2]}
    assert [(o.domain, o.version) for o in model.opset_import] == [("", onnx_export.OPSET)]


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (3, 3, 33, 47), (2, 3, 101, 157)])
def test_the_reference_runtime_gives_the_modules_numbers_at_other_shapes(exported, graph, shape):
    image = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
    with torch.inference_mode():
        wanted = graph().source.load()(None).eval()(torch.tensor(image))
    got = ReferenceEvaluator(onnx.load(exported)).run(["loc", "logits"], {"image": image})
    for actual, expected in zip(got, wanted, strict=True):
        np.testing.assert_allclose(actual, expected.numpy(), atol=1e-5)


def test_the_same_module_exports_to_the_same_bytes(exported, graph, tmp_path):
    again = tmp_path / "again"
    again.mkdir()
    assert write(graph(), again).read_bytes() == exported.read_bytes()


def test_nothing_of_this_machine_is_in_the_file(exported):
    data = exported.read_bytes()
    for trace in (b"File ", b".py", b"/root", b"/home", b"/tmp", b"stack_trace"):
        assert trace not in data


def test_the_exporter_writes_the_same_and_prints_nothing(graph, exported, tmp_path, capfd):
    again = tmp_path / "again"
    again.mkdir()
    assert OnnxExporter().convert(graph(), again).read_bytes() == exported.read_bytes()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("builder", "error"), [("short", ContractError), ("looking", ContractError), ("endless", WeightsError)]
)
def test_what_the_export_refuses_comes_back_as_it_is_and_nothing_is_printed(graph, tmp_path, capfd, builder, error):
    with pytest.raises(error, match="pyramid") as caught:
        OnnxExporter().convert(graph(builder), tmp_path)
    assert type(caught.value) is error
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_what_threads_share_stays_as_it_is_while_one_of_them_exports(graph, tmp_path):
    def shared():
        return sys.stdout, tuple(warnings.filters), torch.nn.Module.__call__, torch.get_num_threads()

    before = shared()
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(OnnxExporter().convert, graph(), tmp_path)
        while wait([job], timeout=0.001).not_done:
            assert shared() == before
    assert job.result().exists()


def test_this_process_needs_no_torch_to_export():
    code = """
import sys
from polyface_torch.export import OnnxExporter
assert OnnxExporter().provenance()["opset"] == "18"
print([name for name in ("torch", "onnx", "onnxscript", "onnxruntime") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(("stride", "min_side"), [(32, 32), (64, 128), (48, 70)])
def test_only_sizes_that_the_detector_allows_are_traced_and_checked(graph, tmp_path, monkeypatch, stride, min_side):
    seen = []
    images = onnx_export._images
    monkeypatch.setattr(onnx_export, "_images", lambda *a: seen.append(images(*a)) or seen[-1])
    write(graph(stride=stride, min_side=min_side), tmp_path)
    assert len({image.shape for image in seen}) == 3
    assert all(side % stride == 0 and side >= min_side for image in seen for side in image.shape[2:])


@pytest.mark.parametrize(("builder", "stride"), [("cells", 16), ("cells", 32), ("pools", 32)])
def test_a_network_that_takes_multiples_of_its_stride_alone_is_exported(graph, tmp_path, builder, stride):
    model = onnx.load(write(graph(builder, stride=stride), tmp_path))
    assert [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == ["n", 3, "h", "w"]
    image = np.random.default_rng(1).standard_normal((1, 3, 5 * stride, 2 * stride), dtype=np.float32)
    with torch.inference_mode():
        wanted = graph(builder).source.load()(None).eval()(torch.tensor(image))
    got = ReferenceEvaluator(model).run(["loc", "logits"], {"image": image})
    for actual, expected in zip(got, wanted, strict=True):
        np.testing.assert_allclose(actual, expected.numpy(), atol=1e-5)


def test_a_record_of_a_smaller_stride_than_the_network_needs_is_refused(graph, tmp_path):
    with pytest.raises(ContractError, match="'pyramid' cannot be exported"):
        write(graph("pools", stride=16), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dims", [(2, 3, 64, 96), ("n", 3, 64, 96), (2, 3, "h", "w")])
def test_what_the_record_fixes_is_fixed_in_the_file(graph, tmp_path, dims):
    model = onnx.load(write(graph("frozen" if 64 in dims else "build", dims=dims), tmp_path))
    got = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert got == list(dims)


def test_sizes_are_odd_where_the_detector_allows_it(graph):
    assert onnx_export._images(graph().detector, 3, 3, 4).shape == (3, 3, 193, 259)


def test_the_images_are_normalised_as_the_detector_takes_them(graph):
    image = onnx_export._images(graph().detector, 1, 1, 1)
    pixels = image.transpose(0, 2, 3, 1) * (58, 57, 57) + (104, 117, 123)
    assert image.dtype == np.float32
    assert 0 <= pixels.min() < 1
    assert 254 < pixels.max() <= 255.001


@pytest.mark.parametrize("builder", ["frozen", "branching"])
def test_a_module_whose_size_was_frozen_or_branched_on_is_refused_by_its_numbers(graph, tmp_path, builder):
    with pytest.raises(ContractError, match=r"not its module at the input shape \(1, 3, 65, 131\)") as caught:
        write(graph(builder), tmp_path)
    assert "size=other.shape[-2:]" in str(caught.value.fix)
    assert list(tmp_path.iterdir()) == []


def test_a_module_that_cannot_be_traced_is_refused_and_the_cause_kept(graph, tmp_path, capfd):
    with pytest.raises(ContractError, match="free batch, height and width") as caught:
        write(graph("looking"), tmp_path)
    assert isinstance(caught.value.__cause__, torch.onnx.OnnxExporterError)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().out == ""  # what PyTorch says of it goes to standard error


def test_outputs_other_than_the_declared_are_refused(graph, tmp_path):
    with pytest.raises(ContractError, match="outputs of the exported graph are not those"):
        write(graph("short"), tmp_path)


def test_weights_that_give_no_numbers_are_not_blamed_on_the_export(graph, tmp_path):
    with pytest.raises(WeightsError, match="give numbers that are not finite"):
        write(graph("endless"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_export_of_nothing_is_refused(graph, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: None)
    with pytest.raises(ContractError, match=r"torch\.onnx\.export returned nothing for 'pyramid'"):
        write(graph(), tmp_path)


def test_a_graph_whose_outputs_have_another_shape_is_refused(graph, tmp_path, monkeypatch):
    def runner(_):
        return lambda names, inputs: [np.zeros((len(inputs["image"]), 7, 4), np.float32) for _ in names]

    monkeypatch.setattr(onnx_export, "_runner", runner)
    with pytest.raises(ContractError, match=r"not its module at the input shape") as caught:
        write(graph(), tmp_path)
    assert "loc has shape (1, 7, 4), the module's (1, " in caught.value.why[0]


def test_the_numbers_are_checked_without_onnx_runtime_too(graph, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "_runtime", None)
    write(graph(), tmp_path)
    assert onnx_export.provenance()["checked_with"] == f"onnx.reference {onnx.__version__}"
    with pytest.raises(ContractError, match=r"checked with onnx\.reference"):
        write(graph("branching"), tmp_path)


def test_provenance_holds_the_versions_that_shape_the_file():
    provenance = OnnxExporter().provenance()
    checked_with = provenance.pop("checked_with")
    assert provenance == {
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxscript": onnxscript.__version__,
        "opset": "18",
    }
    assert checked_with.split()[0] == ("onnxruntime" if importlib.util.find_spec("onnxruntime") else "onnx.reference")
