"""What every detector must keep, checked by the kit on whichever backend is installed."""

from __future__ import annotations

import numpy as np
import pytest

from polyface.machine.drivers import is_installed
from polyface.testing import DetectorConformance, Golden, PluginConformance

SIZES = [(96, 128, 1), (101, 157, 2)]


class TestPackage(PluginConformance):
    distribution = "polyface-retinaface"


class TestMobileNet025(DetectorConformance):
    detector = "retinaface-mobilenet025"

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def runtime(cls):
        if not (is_installed("onnxruntime") or is_installed("torch")):
            pytest.skip("the network needs onnxruntime or torch")

    @pytest.fixture(scope="class")
    @classmethod
    def goldens(cls, original_onnx):
        """What the file that the weights were taken from gives, its input made by hand."""
        runtime = pytest.importorskip("onnxruntime", reason="running the original needs onnxruntime")
        session = runtime.InferenceSession(original_onnx, providers=["CPUExecutionProvider"])
        goldens = []
        for height, width, seed in SIZES:
            image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
            bgr = image[..., ::-1].astype(np.float32) - np.float32([104, 117, 123])
            names = ["loc", "conf", "landmarks"]
            loc, scores, landms = session.run(names, {"input": bgr.transpose(2, 0, 1)[None].copy()})
            goldens.append(Golden(image=image, heads={"loc": loc[0], "landms": landms[0]}, scores=scores[0, :, 1]))
        return goldens


class TestResNet50(DetectorConformance):
    detector = "retinaface-resnet50"
    backend = "torch"

    @pytest.fixture(scope="class")
    @classmethod
    def weights(cls, tmp_path_factory):
        """Seeded ones: its own are a download."""
        for module in ("torch", "torchvision", "safetensors", "polyface_torch"):
            pytest.importorskip(module, reason=f"the network runs on polyface-torch: {module} is not installed")
        from safetensors.torch import save_file

        from polyface_retinaface.net import resnet50

        path = tmp_path_factory.mktemp("seeded") / "resnet50.safetensors"
        save_file(resnet50(None, seed=1).state_dict(), path)
        return str(path)

    @pytest.fixture(scope="class")
    @classmethod
    def goldens(cls, golden, reference_checkpoint):
        goldens = []
        for height, width, seed in SIZES:
            original = golden.outputs(cls.detector, height, width, seed)
            goldens.append(
                Golden(
                    image=golden.image(height, width, seed),
                    heads={name: original[name] for name in ("loc", "landms")},
                    scores=original["scores"],
                    boxes=original["boxes"] * np.float32([width, height, width, height]),
                    weights=str(reference_checkpoint(cls.detector)),
                )
            )
        return goldens
