"""Memory over pictures of many sizes, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import random
import re

import numpy as np

import polyface

def resident():
    status = open("/proc/self/status").read()
    return int(re.search(r"VmRSS:\\s+(\\d+) kB", status)[1]) / 1024

random.seed(0)
sizes = random.sample([(h, w) for h in range(200, 1001) for w in range(200, 1001)], 200)
detector = polyface.create_detector("retinaface-mobilenet025", backend="onnxruntime", device="cpu", pad_to=PAD_TO)
marks = []
for height, width in sizes:
    detector.detect(np.zeros((height, width, 3), np.uint8))
    marks.append(resident())
print(marks[9], marks[-1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads resident memory from /proc")
@pytest.mark.parametrize("pad_to", [1, 32])
def test_two_hundred_sizes_leave_memory_within_150_megabytes_of_the_first_ten(require, pad_to):
    require("onnxruntime", "polyface_onnxruntime", "polyface_retinaface")
    program = PROGRAM.replace("PAD_TO", str(pad_to))
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    after_ten, after_all = map(float, result.stdout.split())
    assert after_all - after_ten < 150
