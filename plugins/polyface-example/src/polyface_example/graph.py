"""The made-up network: its numbers, and its graph of kind ``numpy``.

One convolution of 8 by 8 pixels and stride 8 measures how red each cell is: 1 for pure red, 0 for any grey.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from polyface.errors import WeightsError

if TYPE_CHECKING:
    from polyface.arrays import FloatArray

STRIDE = 8  # pixels: the side of a cell, and of its one anchor


def parameters(weights: Path | None) -> tuple[FloatArray, FloatArray]:
    """Return the kernel ``(6, 3, 8, 8)`` and the bias ``(6,)``, float32.

    The six output channels are the shift of the red towards the right and towards the bottom, in cells; two zeros, for
    the logarithm of the width and of the height in cells; and the logits of background and face: +4 and -4 for a
    grey cell, -4 and +4 for a pure red one.

    Raises:
        WeightsError: a checkpoint was given, and this network has none.
    """
    if weights is not None:
        raise WeightsError(
            f"example-redbox cannot use the weights '{weights}'.",
            why=["its few numbers are part of its code"],
            fix="leave the weights out",
        )
    redness = np.array([0.5, -0.25, -0.25]).reshape(3, 1, 1)  # of red, green and blue, each from -1 to 1
    mean = np.full((8, 8), 1 / 64)
    ramp = np.broadcast_to((np.arange(8) - 3.5) / 4 / 64, (8, 8))  # from left to right; transposed, from top to bottom
    filters = np.stack([ramp, ramp.T, 0 * mean, 0 * mean, -8 * mean, 8 * mean])
    kernel = filters[:, np.newaxis] * redness
    return kernel.astype(np.float32), np.array([0, 0, 0, 0, 4, -4], np.float32)


def build(
    weights: Path | None = None,
    *,
    seed: int | None = None,  # noqa: ARG001 - with fixed numbers there is nothing to draw
) -> Callable[[Mapping[str, FloatArray]], dict[str, FloatArray]]:
    """Return the network as a function from ``image (n, 3, h, w)`` to ``loc (n, p, 4)`` and ``logits (n, p, 2)``.

    ``h`` and ``w`` are multiples of 8. The ``p`` anchors are the cells, row by row.

    Args:
        weights: must be ``None``.
        seed: without effect.

    Raises:
        WeightsError: ``weights`` is not ``None``.
    """
    kernel, bias = parameters(weights)

    # Replace: your network, up to its raw heads. Where it is in PyTorch, net.py alone will do.
    def network(inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        image = inputs["image"]
        n, channels, height, width = image.shape
        cells = image.reshape(n, channels, height // STRIDE, STRIDE, width // STRIDE, STRIDE)
        raw = np.einsum("ncyixj,ocij->nyxo", cells, kernel).reshape(n, -1, 6) + bias
        return {"loc": raw[..., :4], "logits": raw[..., 4:]}

    return network
