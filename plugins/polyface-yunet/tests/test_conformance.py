"""What every detector must keep, checked by the kit."""

from __future__ import annotations

import numpy as np
import pytest

from polyface.testing import DetectorConformance, FamilyConformance, Golden, PluginConformance


class TestPackage(PluginConformance):
    distribution = "polyface-yunet"


@pytest.fixture(scope="module")
def published_heads(original):
    """Images, and what the published file gives for them, its input made by hand."""
    pairs = []
    for height, width, seed in [(96, 128, 1), (160, 64, 2)]:
        image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        heads = original(image[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32))
        pairs.append((image, {name: output[0] for name, output in heads.items()}))
    return pairs


@pytest.mark.shared
class TestPublishedGraph(DetectorConformance):
    detector = "yunet-n"
    backend = "onnxruntime"

    @pytest.fixture(scope="class")
    @classmethod
    def weights(cls, published):
        for module in ("onnxruntime", "polyface_onnxruntime"):
            pytest.importorskip(module, reason=f"the graph runs on ONNX Runtime: {module} is not installed")
        return str(published["onnx"])

    @pytest.fixture(scope="class")
    @classmethod
    def goldens(cls, published_heads):
        return [Golden(image=image, heads=heads) for image, heads in published_heads]


class TestModule(DetectorConformance):
    """The network in PyTorch: its numbers must be the published graph's. All else needs no download."""

    detector = "yunet-n"
    backend = "torch"

    @pytest.fixture(scope="class")
    @classmethod
    def weights(cls, tmp_path_factory):
        for module in ("torch", "safetensors", "polyface_torch"):
            pytest.importorskip(module, reason=f"the network needs polyface-yunet[torch]: {module} is not installed")
        from safetensors.torch import save_file

        from polyface_yunet.net import yunet_n

        path = tmp_path_factory.mktemp("seeded") / "yunet-n.safetensors"
        save_file(yunet_n(None, seed=1).state_dict(), path)
        return str(path)

    @pytest.fixture(scope="class")
    @classmethod
    def goldens(cls, published, published_heads):
        checkpoint = str(published["checkpoint"])
        return [Golden(image=image, heads=heads, weights=checkpoint) for image, heads in published_heads]


class TestYuNetS(DetectorConformance):
    """YuNet-s has YuNet-n's outputs. Its own file is not at hand: one of YuNet-n stands in, fixed to 640x640."""

    detector = "yunet-s"
    backend = "onnxruntime"

    @pytest.fixture(scope="class")
    @classmethod
    def weights(cls, fixed_file):
        return str(fixed_file)

    @pytest.fixture(scope="class")
    @classmethod
    def goldens(cls, fixed_file):
        """What the stand-in gives at the one size that it takes."""
        runtime = pytest.importorskip("onnxruntime", reason="running the stand-in needs onnxruntime")
        session = runtime.InferenceSession(fixed_file, providers=["CPUExecutionProvider"])
        image = np.random.default_rng(3).integers(0, 256, (640, 640, 3), dtype=np.uint8)
        names = [output.name for output in session.get_outputs()]
        outputs = session.run(names, {"input": image[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32)})
        return [Golden(image=image, heads={name: output[0] for name, output in zip(names, outputs, strict=True)})]

    @pytest.fixture(scope="class")
    @classmethod
    def fixed_file(cls, tmp_path_factory):
        """A seeded network as an ONNX file for one image of 640x640, which is how YuNet-s was published."""
        for module in ("torch", "onnx", "onnxscript", "onnxruntime", "polyface_onnxruntime", "polyface_torch"):
            pytest.importorskip(module, reason=f"a file fixed to a size is made with {module}, which is not installed")
        import torch

        from polyface_yunet.net import yunet_n
        from polyface_yunet.plugin import polyface_detectors

        names = [output.name for output in next(iter(polyface_detectors())).outputs]
        path = tmp_path_factory.mktemp("fixed") / "yunet_640.onnx"
        torch.onnx.export(
            yunet_n(None, seed=1),
            (torch.zeros(1, 3, 640, 640),),
            path,
            input_names=["input"],
            output_names=names,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        return path


@pytest.mark.shared
class TestFamily(FamilyConformance):
    family = "yunet"
    backend = "onnxruntime"

    @pytest.fixture(scope="class")
    @classmethod
    def file(cls, published):
        for module in ("onnxruntime", "polyface_onnxruntime"):
            pytest.importorskip(module, reason=f"the file runs on ONNX Runtime: {module} is not installed")
        return published["onnx"]
