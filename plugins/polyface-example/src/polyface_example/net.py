"""The same network as a PyTorch module: the graph kind ``torch-module``. The one file here that imports torch."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from polyface_example.graph import STRIDE, parameters


class RedboxNet(nn.Module):
    """One convolution; the numbers are those of :mod:`polyface_example.graph`."""

    def __init__(self, weights: Path | None) -> None:
        super().__init__()
        kernel, bias = parameters(weights)
        # Replace: your layers; load `weights` strictly, or draw numbers by `seed` where there are none.
        self.conv = nn.Conv2d(3, 6, kernel_size=STRIDE, stride=STRIDE)
        self.conv.load_state_dict({"weight": torch.from_numpy(kernel), "bias": torch.from_numpy(bias)})

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``loc (n, p, 4)`` and ``logits (n, p, 2)`` of ``image (n, 3, h, w)``."""
        raw = self.conv(image).flatten(2).transpose(1, 2)
        return raw[..., :4], raw[..., 4:]


def build(
    weights: Path | None = None,
    *,
    seed: int | None = None,  # noqa: ARG001 - with fixed numbers there is nothing to draw
) -> nn.Module:
    """Return the network; the arguments are those of :func:`polyface_example.graph.build`."""
    return RedboxNet(weights)
