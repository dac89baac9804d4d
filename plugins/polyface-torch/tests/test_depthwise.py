"""Which convolutions PyTorch's own kernels take over on a GPU, and with which numbers."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install polyface-torch")

from polyface_torch.backend import place  # noqa: E402 - only once torch is known to be there
from polyface_torch.depthwise import use_native_depthwise  # noqa: E402


@pytest.fixture
def native(monkeypatch):
    """PyTorch has this kernel on CUDA alone. In its place: the convolution from its definition, and a count."""
    calls = []

    def compute(image, weight, kernel, bias, stride, padding, dilation):
        assert image.is_contiguous()
        calls.append(kernel)
        return convolve(image, weight, bias, stride, padding, dilation)

    monkeypatch.setattr(torch.ops.aten, "_conv_depthwise2d", compute)
    return calls


def convolve(image, weight, bias, stride, padding, dilation):
    """Each output channel from its one input channel, as sums of shifted images."""
    times = len(weight) // image.shape[1]
    image = torch.nn.functional.pad(image, (padding[1], padding[1], padding[0], padding[0]))
    image = image.repeat_interleave(times, dim=1)
    height, width = (
        (image.shape[2 + side] - dilation[side] * (weight.shape[2 + side] - 1) - 1) // stride[side] + 1
        for side in (0, 1)
    )
    out = torch.zeros(len(image), len(weight), height, width)
    for y in range(weight.shape[2]):
        for x in range(weight.shape[3]):
            rows = slice(y * dilation[0], y * dilation[0] + stride[0] * (height - 1) + 1, stride[0])
            columns = slice(x * dilation[1], x * dilation[1] + stride[1] * (width - 1) + 1, stride[1])
            out += weight[:, 0, y, x, None, None] * image[:, :, rows, columns]
    return out if bias is None else out + bias[:, None, None]


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param({"out_channels": 8, "kernel_size": 3, "padding": 1, "bias": False}, id="3x3"),
        pytest.param({"out_channels": 8, "kernel_size": 3, "stride": 2, "padding": 1}, id="stride"),
        pytest.param(
            {"out_channels": 16, "kernel_size": (1, 5), "padding": (0, 4), "dilation": (1, 2)}, id="multiplied"
        ),
    ],
)
def test_a_depthwise_convolution_is_pytorchs_own_and_gives_the_same(native, layer):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(in_channels=8, groups=8, **layer)).requires_grad_(False)
    net = net.to(memory_format=torch.channels_last)
    image = torch.randn(2, 8, 9, 11).contiguous(memory_format=torch.channels_last)
    wanted = net(image)
    use_native_depthwise(net)
    assert not native
    torch.testing.assert_close(net(image), wanted, rtol=0, atol=1e-5)
    assert len(native) == 1


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param({"groups": 1}, id="dense"),
        pytest.param({"groups": 4}, id="grouped"),
        pytest.param({"groups": 8, "padding": "same"}, id="padding-by-name"),
        pytest.param({"groups": 8, "padding": 1, "padding_mode": "reflect"}, id="reflected"),
    ],
)
def test_other_convolutions_stay(native, layer):
    net = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, **layer))
    use_native_depthwise(net)
    net(torch.randn(1, 8, 9, 11))
    assert not native


def test_a_class_of_an_authors_own_stays(native):
    class Own(torch.nn.Conv2d):
        def forward(self, image):
            return super().forward(image) + 1

    net = torch.nn.Sequential(Own(8, 8, 3, groups=8))
    use_native_depthwise(net)
    net(torch.randn(1, 8, 9, 11))
    assert not native


@pytest.mark.parametrize(("device", "own"), [("cpu", False), ("meta", True)])
def test_a_module_for_the_processor_keeps_them(native, device, own):
    module = torch.nn.Conv2d(8, 8, 3, groups=8)
    place(module, None, device, "fp32")
    assert (type(module) is not torch.nn.Conv2d) == own
