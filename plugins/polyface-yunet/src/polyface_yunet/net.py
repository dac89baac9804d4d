"""The YuNet network in PyTorch, laid out so that libfacedetection.train's checkpoint loads without renaming.

Image ``(n, 3, h, w)`` in, its sides multiples of 32; out, as in the published ONNX file, ``cls``, ``obj``, ``bbox`` and
``kps``, each at strides 8, 16 and 32: ``(n, p, values)``. Attribute names are the checkpoint's keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from polyface_torch.checkpoint import load_or_draw

VALUES = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
"""The network's outputs, in order, and how many numbers each has for a cell."""

CHANNELS = 64


class Unit(nn.Module):
    """A 1x1 convolution across channels, then a 3x3 convolution of each channel by itself."""

    def __init__(self, inputs: int, outputs: int, *, activate: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs)
        if activate:
            self.bn = nn.BatchNorm2d(outputs)
        self.activate = activate

    def forward(self, feature: Tensor) -> Tensor:
        feature = self.conv2(self.conv1(feature))
        return functional.relu(self.bn(feature)) if self.activate else feature


class Stem(nn.Module):
    """The first stage: an ordinary convolution of stride 2, and a unit."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = Unit(channels, channels)

    def forward(self, image: Tensor) -> Tensor:
        feature: Tensor = self.conv2(functional.relu(self.bn1(self.conv1(image))))
        return feature


class Stage(nn.Module):
    """Two units, of which the second may widen."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = Unit(inputs, inputs)
        self.conv2 = Unit(inputs, outputs)

    def forward(self, feature: Tensor) -> Tensor:
        widened: Tensor = self.conv2(self.conv1(feature))
        return widened


class Backbone(nn.Module):
    """Six stages; all but the second and the third end at half the size."""

    def __init__(self) -> None:
        super().__init__()
        self.model0 = Stem(16)
        self.model1 = Stage(16, CHANNELS)
        self.model2, self.model3, self.model4, self.model5 = (Stage(CHANNELS, CHANNELS) for _ in range(4))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features at strides 8, 16 and 32."""
        early = self.model2(self.model1(functional.max_pool2d(self.model0(image), 2)))
        fine = self.model3(functional.max_pool2d(early, 2))
        middle = self.model4(functional.max_pool2d(fine, 2))
        return fine, middle, self.model5(functional.max_pool2d(middle, 2))


class Neck(nn.Module):
    """Adds the coarser features to the finer."""

    def __init__(self) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(Unit(CHANNELS, CHANNELS) for _ in range(3))

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        coarse = self.lateral_convs[2](features[2])
        middle = self.lateral_convs[1](features[1] + functional.interpolate(coarse, scale_factor=2.0, mode="nearest"))
        fine = self.lateral_convs[0](features[0] + functional.interpolate(middle, scale_factor=2.0, mode="nearest"))
        return fine, middle, coarse


class Heads(nn.Module):
    """What is said of every cell, each level by units of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.multi_level_share_convs = nn.ModuleList(nn.Sequential(Unit(CHANNELS, CHANNELS)) for _ in range(3))
        for name, values in VALUES.items():
            units = nn.ModuleList(Unit(CHANNELS, values, activate=False) for _ in range(3))
            self.add_module(f"multi_level_{name}", units)

    def forward(self, features: Iterable[Tensor]) -> tuple[Tensor, ...]:
        """Return, for each of ``VALUES``, its levels ``(n, p, values)``, fine to coarse."""
        levels = [share(feature) for share, feature in zip(self.multi_level_share_convs, features, strict=True)]
        outputs = []
        for name, values in VALUES.items():
            units = self.get_submodule(f"multi_level_{name}").children()
            for unit, level in zip(units, levels, strict=True):
                cells = unit(level).permute(0, 2, 3, 1).flatten(1, 2)
                outputs.append(cells.sigmoid() if values == 1 else cells)
        return tuple(outputs)


class YuNet(nn.Module):
    """YuNet (https://doi.org/10.1007/s11633-023-1423-y) up to its raw heads: no decoding."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.neck = Neck()
        self.bbox_head = Heads()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the twelve outputs of ``image (n, 3, h, w)``, kind by kind, fine to coarse."""
        outputs: tuple[Tensor, ...] = self.bbox_head(self.neck(self.backbone(image)))
        return outputs


def yunet_n(weights: Path | None, *, seed: int | None = None) -> nn.Module:
    """Build ``yunet-n`` in evaluation mode, from a checkpoint or from a seed.

    Args:
        weights: a checkpoint of libfacedetection.train; see :func:`polyface_torch.checkpoint.load_checkpoint`.
        seed: draws the numbers instead, for tests; activations stay bounded on 0-255 pixels.

    Raises:
        WeightsError: not exactly one of ``weights`` and ``seed`` was given, or the file cannot be read.
        WeightsNotFoundError: there is no such file.
        WeightsMismatchError: the file holds another network.
    """
    return load_or_draw(YuNet, _draw, weights, seed)


def _draw(net: YuNet, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            # A unit has two convolutions and one ReLU, which halves what goes on: one of the two makes up for it.
            gain = 2.0 if module.kernel_size == (3, 3) else 1.0
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=(gain / fan_in) ** 0.5, generator=generator)
            nn.init.zeros_(cast("Tensor", module.bias))
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    nn.init.constant_(net.backbone.model0.bn1.get_buffer("running_var"), 70.0**2)  # pixels spread by about 70 levels
