"""How far results may lie apart, by precision: the one table of tolerances."""

from __future__ import annotations

import math

from attrs import frozen


@frozen(kw_only=True)
class Tolerance:
    """The largest differences allowed.

    Args:
        heads: of a number of a raw head, relative to the largest magnitude of that head, or to 1 if that is less:
            RetinaFace's reach 10, DSFD's 260, and rounding grows with them.
        mean: of the mean over a raw head, relative as ``heads`` is; any by default. In half precision the
            largest of 100,000 differences says little, and their mean much.
        pixels: of a box's edge or a landmark, in pixels.
        score: of a score.
    """

    heads: float
    mean: float = math.inf
    pixels: float
    score: float


TOLERANCES = {
    # Seen, ONNX Runtime against PyTorch on a CPU: heads 1.2e-5 and mean 3.6e-7 for RetinaFace MobileNet0.25 on images
    # of WIDER FACE, 4.4e-6 and 5.8e-7 for the larger networks with random weights on noise. A mean in the wrong channel
    # order gives 0.67 and 0.038.
    "fp32": Tolerance(heads=1e-4, mean=5e-6, pixels=0.1, score=1e-3),
    # Seen against fp32, RetinaFace MobileNet0.25 with half weights, PyTorch on a CPU, on the examples and noise: heads
    # 0.022, mean 0.001.
    "fp16": Tolerance(heads=0.1, mean=5e-3, pixels=0.5, score=0.01),
    # Seen against fp32, PyTorch on a CPU with AVX512_BF16, RetinaFace MobileNet0.25. On the examples: heads 0.16, mean
    # 0.008, 20 faces 0.68 pixels and 0.017 in score apart. On 50 images of WIDER FACE: heads 0.48, mean 0.011 (0.018
    # in one image); but the worst of 405 faces moved 55 pixels, another's score 0.098, and one was lost. That is over
    # on purpose: a row for it would let a wrong network pass.
    "bf16": Tolerance(heads=0.5, mean=0.03, pixels=3.0, score=0.05),
    # Seen against fp32, the packaged RetinaFace MobileNet0.25 graph on ONNX Runtime and OpenVINO, which agree to within
    # 0.01. On the examples: heads 0.15, mean 0.010, 20 faces 1.8 pixels and 0.04 in score apart. On noise, which it was
    # not calibrated on: heads 0.41, mean 0.020.
    "int8": Tolerance(heads=0.5, mean=0.03, pixels=5.0, score=0.1),
}
