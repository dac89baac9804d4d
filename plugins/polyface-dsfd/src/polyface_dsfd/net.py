"""The DSFD network in PyTorch, laid out so that FaceDetection-DSFD's checkpoint loads without renaming.

Image ``(n, 3, h, w)`` in; raw heads ``loc (n, p, 4)`` and ``logits (n, p, 2)`` out. The order of the p priors is level,
row, column. Attribute names such as ``cpm3_3`` are the checkpoint's keys.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torchvision  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn import functional

from polyface_torch.checkpoint import load_or_draw

CHANNELS = (256, 512, 1024, 2048, 512, 256)
"""The channels of the feature maps at strides 4, 8, 16, 32, 64 and 128."""


def _extra_stage(inputs: int, middle: int, outputs: int) -> nn.Sequential:
    """Halve the feature map once more, by a 1x1 and a strided 3x3 convolution."""
    return nn.Sequential(
        nn.Conv2d(inputs, middle, 1),
        nn.BatchNorm2d(middle),
        nn.ReLU(inplace=True),
        nn.Conv2d(middle, outputs, 3, stride=2, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class FeatureEnhance(nn.Module):
    """DSFD's feature enhance module: views of growing width by dilated 3x3 convolutions, 512 channels in all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cpm1 = nn.Conv2d(channels, 256, 3, padding=1)
        self.cpm2 = nn.Conv2d(channels, 256, 3, padding=2, dilation=2)
        self.cpm3 = nn.Conv2d(256, 128, 3, padding=1)
        self.cpm4 = nn.Conv2d(256, 128, 3, padding=2, dilation=2)
        self.cpm5 = nn.Conv2d(128, 128, 3, padding=1)

    def forward(self, feature: Tensor) -> Tensor:
        wider = self.cpm2(feature).relu()
        widest = self.cpm4(wider).relu()
        views = [self.cpm1(feature), self.cpm3(wider), self.cpm5(widest)]
        return torch.cat(views, dim=1).relu()


class LevelHead(nn.Module):
    """Three 3x3 convolutions and a 1x1: ``(n, 512, h, w)`` to ``(n, values, h, w)``."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(512, 256, 3, padding=1)
        self.conv2 = nn.Conv2d(256, 256, 3, padding=1)
        self.conv3 = nn.Conv2d(256, 256, 3, padding=1)
        self.conv4 = nn.Conv2d(256, values, 1)

    def forward(self, feature: Tensor) -> Tensor:
        for hidden in (self.conv1, self.conv2, self.conv3):
            feature = hidden(feature).relu()
        values: Tensor = self.conv4(feature)
        return values


class DSFD(nn.Module):
    """DSFD (https://arxiv.org/abs/1810.10220) on ResNet-152 up to its raw heads: no softmax, no decoding."""

    def __init__(self) -> None:
        super().__init__()
        trunk = torchvision.models.resnet152(weights=None)
        self.layer1 = nn.Sequential(trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool, trunk.layer1)
        self.layer2 = nn.Sequential(trunk.layer2)
        self.layer3 = nn.Sequential(trunk.layer3)
        self.layer4 = nn.Sequential(trunk.layer4)
        self.layer5 = _extra_stage(2048, 512, 512)
        self.layer6 = _extra_stage(512, 128, 256)
        self.latlayer3 = nn.Conv2d(2048, 1024, 1)
        self.latlayer2 = nn.Conv2d(1024, 512, 1)
        self.latlayer1 = nn.Conv2d(512, 256, 1)
        self.smooth3 = nn.Conv2d(1024, 1024, 1)
        self.smooth2 = nn.Conv2d(512, 512, 1)
        self.smooth1 = nn.Conv2d(256, 256, 1)
        self.cpm3_3, self.cpm4_3, self.cpm5_3, self.cpm7, self.cpm6_2, self.cpm7_2 = map(FeatureEnhance, CHANNELS)
        # The checkpoint also holds values for heads and bodies, which served in training: see _face.
        self.loc = nn.ModuleList(LevelHead(values) for values in (4, 8, 12, 12, 12, 12))
        self.conf = nn.ModuleList(LevelHead(values) for values in (4, 6, 8, 8, 8, 8))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``loc (n, p, 4)`` and ``logits (n, p, 2)``, background first, of ``image (n, 3, h, w)``."""
        enhancers = self.cpm3_3, self.cpm4_3, self.cpm5_3, self.cpm7, self.cpm6_2, self.cpm7_2
        locs, logits = [], []
        # One level at a time: a level's enhanced features are large, and nothing but its own heads needs them.
        for level, (enhance, feature) in enumerate(zip(enhancers, self.fuse(self.features(image)), strict=True)):
            enhanced = enhance(feature)
            locs.append(_rows(self.loc[level](enhanced)[:, :4]))
            logits.append(_rows(max_in_out(self.conf[level](enhanced), finest=level == 0)))
        return torch.cat(locs, dim=1), torch.cat(logits, dim=1)

    def features(self, image: Tensor) -> list[Tensor]:
        """Return the trunk's six feature maps, of the channels in ``CHANNELS``, the finest first."""
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4, self.layer5, self.layer6):
            image = stage(image)
            features.append(image)
        return features

    def fuse(self, features: list[Tensor]) -> list[Tensor]:
        """Multiply the finer three features by the next coarser, from the top down; the coarser three stay."""
        c1, c2, c3, c4, *rest = features
        c3 = _upsample_product(self.latlayer3(c4), self.smooth3(c3))
        c2 = _upsample_product(self.latlayer2(c3), self.smooth2(c2))
        c1 = _upsample_product(self.latlayer1(c2), self.smooth1(c1))
        return [c1, c2, c3, c4, *rest]


def _upsample_product(coarse: Tensor, fine: Tensor) -> Tensor:
    # The size stays symbolic under torch.export: int(...) here would fix height and width in the ONNX graph.
    return fine * functional.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=True)


def max_in_out(values: Tensor, *, finest: bool) -> Tensor:
    """Return ``(n, 2, h, w)`` logits, background first, from ``values (n, 4 or more, h, w)``.

    Three values compete for one of the two logits: for the background on the finest level, where most false
    positives arise, and for the face on the others. What follows the first four values is of heads and bodies.
    """
    several, single = values[:, :3].amax(dim=1, keepdim=True), values[:, 3:4]
    return torch.cat([several, single] if finest else [single, several], dim=1)


def _rows(values: Tensor) -> Tensor:
    """``(n, c, h, w)`` to ``(n, h * w, c)``."""
    return values.flatten(2).transpose(1, 2)


def resnet152(weights: Path | None, *, seed: int | None = None) -> nn.Module:
    """Build ``dsfd-resnet152`` in evaluation mode, from a checkpoint or from a seed.

    Args:
        weights: a checkpoint in FaceDetection-DSFD's layout; see :func:`polyface_torch.checkpoint.load_checkpoint`.
        seed: draws the numbers instead, for tests; activations stay bounded on 0-255 pixels.

    Raises:
        WeightsError: not exactly one of ``weights`` and ``seed`` was given, or the file cannot be read.
        WeightsNotFoundError: there is no such file.
        WeightsMismatchError: the file holds another network.
    """
    return load_or_draw(DSFD, _draw, weights, seed)


def _draw(net: DSFD, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            # The fusion's three products square what comes in, so all before it is drawn with the smaller gain.
            nn.init.kaiming_normal_(
                module.weight,
                nonlinearity="relu" if name.startswith(("cpm", "loc", "conf")) else "linear",
                generator=generator,
            )
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
            if name.endswith("bn3"):  # ends a residual branch: fifty of them add up
                nn.init.constant_(module.weight, 0.1)
    stem = net.layer1.get_submodule("1")
    nn.init.constant_(stem.get_buffer("running_var"), 70.0**2)  # pixels spread by about 70 levels
