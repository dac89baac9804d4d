"""Depthwise convolutions on a GPU.

cuDNN compiles a kernel for each size of one that is new to it, a quarter of a second each; PyTorch has kernels of its
own that serve every size, about as fast. See the README.
"""

from __future__ import annotations

from polyface_torch.runtime import torch


class _NativeDepthwiseConv2d(torch.nn.Conv2d):
    """A depthwise convolution on CUDA by PyTorch's own kernel, which wants contiguous memory."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        sizes = self.kernel_size, self.bias, self.stride, self.padding, self.dilation
        compute = torch.ops.aten._conv_depthwise2d  # noqa: SLF001 - conv2d would choose cuDNN
        out: torch.Tensor = compute(image.contiguous(), self.weight, *sizes)
        return out


def use_native_depthwise(module: torch.nn.Module) -> None:
    """Have PyTorch's own kernels compute a module's depthwise convolutions; those they cannot compute stay."""
    for layer in module.modules():
        if (
            type(layer) is torch.nn.Conv2d
            and layer.groups == layer.in_channels > 1
            and layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str)
        ):
            layer.__class__ = _NativeDepthwiseConv2d
