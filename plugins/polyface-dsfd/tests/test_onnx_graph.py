"""The network as an ONNX graph, on ONNX Runtime: half a gigabyte, exported once for the session."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the network needs polyface-dsfd[torch]")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="the network needs polyface-dsfd[torch]")
onnxruntime = pytest.importorskip("onnxruntime", reason="the graph needs onnxruntime")
pytest.importorskip("onnxscript", reason="the export needs polyface-torch[export]")
export = pytest.importorskip("polyface_torch.export", reason="the export needs polyface-torch[export]")

from polyface.plugins.protocols import Graph  # noqa: E402 - after the skips
from polyface_dsfd.plugin import polyface_detectors  # noqa: E402


@pytest.fixture(scope="session")
def session(seeded, tmp_path_factory):
    """An ONNX Runtime session of the graph exported from the seeded network."""
    (spec,) = polyface_detectors()
    folder = tmp_path_factory.mktemp("dsfd")
    safetensors_torch.save_file(seeded.state_dict(), checkpoint := folder / "seeded.safetensors")
    graph = Graph(kind="torch-module", source=spec.graphs[0].ref, weights=checkpoint, detector=spec)
    path = export.OnnxExporter().convert(graph, folder)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for file in (checkpoint, path):  # pytest keeps the folder for three sessions
        file.unlink()
    return session


@pytest.mark.parametrize("shape", [(1, 3, 101, 158), (3, 3, 240, 135), (1, 3, 300, 37), (2, 3, 1, 1)], ids=str)
def test_the_graph_gives_the_modules_numbers_at_sizes_other_than_traced(session, seeded, shape):
    image = np.random.default_rng(0).uniform(-120, 140, shape).astype(np.float32)

    loc, logits = session.run(["loc", "logits"], {"image": image})

    with torch.inference_mode():
        expected = seeded(torch.from_numpy(image))
    np.testing.assert_allclose(loc, expected[0].numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(logits, expected[1].numpy(), rtol=0, atol=1e-5)


def test_batch_height_and_width_are_free_in_the_graph(session):
    (image,) = session.get_inputs()

    assert (image.name, image.shape) == ("image", ["n", 3, "h", "w"])
    assert [(output.name, output.shape) for output in session.get_outputs()] == [
        ("loc", ["n", "p", 4]),
        ("logits", ["n", "p", 2]),
    ]
