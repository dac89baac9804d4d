"""What every plugin and every backend must keep, checked by the kit; the backend needs a GPU for it."""

from __future__ import annotations

import pytest

from polyface.testing import BackendConformance, PluginConformance

torch = pytest.importorskip("torch", reason="needs torch: pip install polyface-torch")
pytest.importorskip("polyface_example", reason="the network comes with it: pip install polyface-example")


class TestPackage(PluginConformance):
    distribution = "polyface-cuda-fp16"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU")
class TestCudaFp16(BackendConformance):
    backend = "cuda-fp16"
    detector = "example-redbox"
    device = "cuda:0"
    precision = "fp16"
