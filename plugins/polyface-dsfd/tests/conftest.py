from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def seeded():
    """The network with seeded random numbers; half a gigabyte, so it is shared and must not be changed."""
    for module in ("torch", "torchvision", "safetensors"):
        pytest.importorskip(module, reason="the network needs polyface-dsfd[torch]")
    from polyface_dsfd import net

    return net.resnet152(None, seed=0)
