"""Memory over images of ever new sizes, on every backend, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import polyface
from polyface.testing.plugin import cells

DETECTOR = "retinaface-mobilenet025"
CELLS = [cell for cell in cells() if (cell.detector.name, cell.device) == (DETECTOR, "cpu")]
SIZES = ["--images", "150", "--sides", "96-640"]

LEAK = """
import numpy as np
kept = []

def leaking(run):
    def leak(self, inputs):
        kept.append(np.ones(300_000))  # 2.4 MB an image
        return run(self, inputs)
    return leak

from polyface_onnxruntime.session import OnnxRuntimeSession
OnnxRuntimeSession.run = leaking(OnnxRuntimeSession.run)
"""

STREAM = """
import numpy as np
import polyface
from polyface.machine.memory import resident_memory

base = np.zeros((120, 120, 3), np.uint8)
sizes = ((20 + number % 100, 20 + number // 100) for number in (3701 * step % 10_000 for step in range(10_000)))
items = (base[:height, :width].copy() for height, width in sizes)
seen = bytearray(10_000)  # which sizes came; it takes no more while they do
most = [0, 0]
with polyface.create_detector("example-redbox", backend="numpy", device="cpu", timing=True) as detector:
    for number, result in enumerate(detector.stream(items, workers=WORKERS)):
        KEEP
        seen[result.height - 20 + 100 * (result.width - 20)] = 1
        late = number >= 5000  # its queues are full by then, on a busy machine too
        most[late] = max(most[late], resident_memory()) if number % 50 == 0 else most[late]
assert all(seen)
print(most[1] / most[0])
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads resident memory from /proc")


@pytest.fixture
def growth(pytestconfig, tmp_path):
    """Return what benchmarks/memory.py finds: the most after 50 sizes of 150, as a multiple of the most until then."""

    def growth(backend, precision, before=""):
        folder = pytestconfig.rootpath / "benchmarks"
        program = (
            f"import sys; sys.path.insert(0, {str(folder)!r}); import memory\n{before}\n"
            f"memory.alone = memory.measured; memory.main()"  # it has a process of its own already
        )
        report = tmp_path / "report.json"
        options = [DETECTOR, "--backends", f"{backend}:{precision}", *SIZES, "--json", str(report)]
        subprocess.run([sys.executable, "-c", program, *options], check=True, capture_output=True, text=True)
        [row] = json.loads(report.read_text())["rows"].values()
        return row["growth"]

    return growth


@pytest.mark.parametrize("here", [pytest.param(cell, id=cell.id) for cell in CELLS])
def test_memory_stays_within_a_tenth_after_the_first_fifty_sizes(here, growth, require, make_detector):
    require.backend(here.backend)
    try:
        make_detector(DETECTOR, backend=here.backend.name, device=here.device, precision=here.precision)
    except (polyface.UnsupportedError, polyface.BackendUnavailableError) as error:
        pytest.skip(f"refused, as test_matrix.py asserts: {error.why[0]}")
    # The allocator's threads decide a few per cent: what is over is measured once more. What leaks is over again.
    assert any(growth(here.backend.name, here.precision) <= 1.1 for _ in range(2))


def test_a_session_that_leaks_is_found_out(growth, require):
    require("onnxruntime", "polyface_onnxruntime", "polyface_retinaface")
    assert growth("onnxruntime", "fp32", LEAK) > 1.5


def growth_of_a_stream(workers, keep="pass"):
    """The most resident memory after 5,000 sizes of 10,000, as a multiple of the most until then."""
    code = STREAM.replace("WORKERS", str(workers)).replace("KEEP", keep)
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize("workers", [0, 3])
def test_a_streams_memory_is_flat_over_ten_thousand_images_of_ever_new_sizes(workers, require):
    require("polyface_example")
    # As above: what is over is measured once more.
    assert any(growth_of_a_stream(workers) <= 1.05 for _ in range(2))


def test_a_stream_that_keeps_a_kilobyte_an_image_is_found_out(require):
    require("polyface_example")
    assert growth_of_a_stream(3, keep="vars().setdefault('kept', []).append(bytes(1024))") > 1.05


@pytest.fixture(scope="module")
def script(benchmark_script):
    return benchmark_script("memory")


def test_what_loading_left_behind_hides_no_growth(script):
    loaded, first, later = [1000], [90] * 49 + [100], [120, 80]
    assert script.growth(loaded + first + later) == 1.2


def test_every_gauge_is_read_before_the_first_image_and_after_each(script):
    seen = []
    gauges = {"resident": lambda: len(seen), "GPU": lambda: 1000 * len(seen)}
    marks = script.watch(lambda image: seen.append(image.shape), [(8, 9), (10, 11)], gauges)
    assert marks == {"resident": [0, 1, 2], "GPU": [0, 1000, 2000]}
    assert seen == [(8, 9, 3), (10, 11, 3)]


def test_a_row_whose_time_is_up_ends_once_its_growth_can_be_told(script):
    marks = script.watch(lambda _: None, script.sizes(60, 8, 16), {"resident": lambda: 100}, seconds=0)
    assert marks["resident"] == [100] * (1 + script.FIRST + 1)
    assert script.growth(marks["resident"]) == 1.0
