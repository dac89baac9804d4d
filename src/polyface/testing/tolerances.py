"""How far results may lie apart, by precision: the one table of tolerances."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Tolerance:
    """The largest absolute differences allowed.

    Args:
        heads: of a raw head.
        pixels: of a box's edge or a landmark, in pixels.
        score: of a score.
    """

    heads: float
    pixels: float
    score: float


TOLERANCES = {
    "fp32": Tolerance(heads=1e-4, pixels=0.1, score=1e-3),
    # Seen against fp32 on random pixels, PyTorch on a CPU: heads 0.058 and 0.68 for RetinaFace MobileNet0.25.
    "fp16": Tolerance(heads=0.1, pixels=0.5, score=0.01),
    "bf16": Tolerance(heads=1.0, pixels=3.0, score=0.05),
}
