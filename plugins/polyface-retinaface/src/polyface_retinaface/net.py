"""The RetinaFace networks in PyTorch, laid out so that Pytorch_Retinaface's checkpoints load without renaming.

Image ``(n, 3, h, w)`` in; raw heads ``loc (n, p, 4)``, ``logits (n, p, 2)`` and ``landms (n, p, 10)`` out. The order of
the p priors is level, row, column, size. Attribute names such as ``conv5X5_1`` are the checkpoints' keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
import torchvision  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn import functional

from polyface_torch.checkpoint import load_or_draw

PRIORS_PER_CELL = 2


def _conv_bn(inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


def _conv_bn_act(inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, slope: float = 0.1) -> nn.Sequential:
    return _conv_bn(inputs, outputs, kernel, stride=stride).append(nn.LeakyReLU(slope))


def _separable(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution of each channel by itself, then a 1x1 convolution across channels."""
    depthwise = _conv_bn(inputs, inputs, stride=stride, groups=inputs).append(nn.LeakyReLU(0.1))
    return depthwise.extend(_conv_bn_act(inputs, outputs, 1))


def _slope(channels: int) -> float:
    """Return the slope of the leaky ReLU; the narrow networks alone were trained with one."""
    return 0.1 if channels <= 64 else 0.0


class MobileNet025(nn.Module):
    """MobileNetV1 (https://arxiv.org/abs/1704.04861) at a quarter of its width, without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(
            _conv_bn_act(3, 8, stride=2),
            _separable(8, 16),
            _separable(16, 32, stride=2),
            _separable(32, 32),
            _separable(32, 64, stride=2),
            _separable(64, 64),
        )
        self.stage2 = nn.Sequential(_separable(64, 128, stride=2), *(_separable(128, 128) for _ in range(5)))
        self.stage3 = nn.Sequential(_separable(128, 256, stride=2), _separable(256, 256))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features at strides 8, 16 and 32."""
        first = self.stage1(image)
        second = self.stage2(first)
        return first, second, self.stage3(second)


class ResNet50(nn.Module):
    """ResNet-50 (https://arxiv.org/abs/1512.03385) without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        whole = torchvision.models.resnet50(weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = whole.conv1, whole.bn1, whole.relu, whole.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = whole.layer1, whole.layer2, whole.layer3, whole.layer4

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features at strides 8, 16 and 32."""
        stem = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        first = self.layer2(self.layer1(stem))
        second = self.layer3(first)
        return first, second, self.layer4(second)


class FeaturePyramid(nn.Module):
    """Brings three feature maps to one number of channels and adds the coarser to the finer."""

    def __init__(self, inputs: tuple[int, int, int], channels: int) -> None:
        super().__init__()
        slope = _slope(channels)
        self.output1 = _conv_bn_act(inputs[0], channels, 1, slope=slope)
        self.output2 = _conv_bn_act(inputs[1], channels, 1, slope=slope)
        self.output3 = _conv_bn_act(inputs[2], channels, 1, slope=slope)
        self.merge1 = _conv_bn_act(channels, channels, slope=slope)
        self.merge2 = _conv_bn_act(channels, channels, slope=slope)

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        fine, middle, coarse = self.output1(features[0]), self.output2(features[1]), self.output3(features[2])
        # The sizes stay symbolic under torch.export: int(...) here would fix height and width in the ONNX graph.
        middle = self.merge2(middle + functional.interpolate(coarse, size=middle.shape[-2:], mode="nearest"))
        fine = self.merge1(fine + functional.interpolate(middle, size=fine.shape[-2:], mode="nearest"))
        return fine, middle, coarse


class ContextModule(nn.Module):
    """SSH's context module (https://arxiv.org/abs/1708.03979): 3x3, 5x5 and 7x7 views, the larger as stacked 3x3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        slope, quarter = _slope(channels), channels // 4
        self.conv3X3 = _conv_bn(channels, channels // 2)
        self.conv5X5_1 = _conv_bn_act(channels, quarter, slope=slope)
        self.conv5X5_2 = _conv_bn(quarter, quarter)
        self.conv7X7_2 = _conv_bn_act(quarter, quarter, slope=slope)
        self.conv7x7_3 = _conv_bn(quarter, quarter)

    def forward(self, feature: Tensor) -> Tensor:
        shared = self.conv5X5_1(feature)
        views = [self.conv3X3(feature), self.conv5X5_2(shared), self.conv7x7_3(self.conv7X7_2(shared))]
        return functional.relu(torch.cat(views, dim=1))


class LevelHead(nn.Module):
    """Predicts ``values`` numbers for each prior of one level: ``(n, c, h, w)`` to ``(n, h * w * 2, values)``."""

    def __init__(self, channels: int, values: int) -> None:
        super().__init__()
        self.values = values
        self.conv1x1 = nn.Conv2d(channels, PRIORS_PER_CELL * values, 1)

    def forward(self, feature: Tensor) -> Tensor:
        cells: Tensor = self.conv1x1(feature).permute(0, 2, 3, 1)
        return cells.reshape(cells.shape[0], -1, self.values)


class RetinaFace(nn.Module):
    """RetinaFace (https://arxiv.org/abs/1905.00641) up to its raw heads: no softmax, no decoding.

    Args:
        body: returns features at strides 8, 16 and 32.
        features: the channels of those features.
        channels: the channels of the feature pyramid.
    """

    def __init__(self, body: nn.Module, features: tuple[int, int, int], channels: int) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramid(features, channels)
        self.ssh1, self.ssh2, self.ssh3 = (ContextModule(channels) for _ in range(3))
        self.ClassHead = nn.ModuleList(LevelHead(channels, 2) for _ in range(3))
        self.BboxHead = nn.ModuleList(LevelHead(channels, 4) for _ in range(3))
        self.LandmarkHead = nn.ModuleList(LevelHead(channels, 10) for _ in range(3))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``loc (n, p, 4)``, ``logits (n, p, 2)`` and ``landms (n, p, 10)`` of ``image (n, 3, h, w)``."""
        fine, middle, coarse = self.fpn(self.body(image))
        levels = self.ssh1(fine), self.ssh2(middle), self.ssh3(coarse)

        def predict(heads: nn.ModuleList) -> Tensor:
            return torch.cat([head(level) for head, level in zip(heads, levels, strict=True)], dim=1)

        return predict(self.BboxHead), predict(self.ClassHead), predict(self.LandmarkHead)


def mobilenet025(weights: Path | None, *, seed: int | None = None) -> nn.Module:
    """Build ``retinaface-mobilenet025`` in evaluation mode, from a checkpoint or from a seed.

    Args:
        weights: a checkpoint in Pytorch_Retinaface's layout; see :func:`polyface_torch.checkpoint.load_checkpoint`.
        seed: draws the numbers instead, for tests; activations stay bounded on 0-255 pixels.

    Raises:
        WeightsError: not exactly one of ``weights`` and ``seed`` was given, or the file cannot be read.
        WeightsNotFoundError: there is no such file.
        WeightsMismatchError: the file holds another network.
    """
    return load_or_draw(lambda: RetinaFace(MobileNet025(), (64, 128, 256), 64), _draw, weights, seed)


def resnet50(weights: Path | None, *, seed: int | None = None) -> nn.Module:
    """Build ``retinaface-resnet50``; arguments and errors are those of :func:`mobilenet025`."""
    return load_or_draw(lambda: RetinaFace(ResNet50(), (512, 1024, 2048), 256), _draw, weights, seed)


def _draw(net: RetinaFace, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, module in net.named_modules():
        if isinstance(module, LevelHead):
            nn.init.normal_(module.conv1x1.weight, std=0.3 / module.conv1x1.in_channels**0.5, generator=generator)
            nn.init.zeros_(cast("Tensor", module.conv1x1.bias))
        elif isinstance(module, nn.Conv2d) and module.bias is None:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
            if name.endswith("bn3"):  # ends a residual branch: sixteen of them add up
                nn.init.constant_(module.weight, 0.1)
    stem = next(module for module in net.modules() if isinstance(module, nn.BatchNorm2d))
    nn.init.constant_(stem.get_buffer("running_var"), 70.0**2)  # pixels spread by about 70 levels
