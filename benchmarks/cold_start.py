"""How long ``polyface detect`` takes for one image, from the start of Python to its end, and what of it is whose.

Prints a table in Markdown. Each row does what the one above it does, and more; up to the third nothing of it is ours::

    python benchmarks/cold_start.py --against /path/to/another/bin/python

Every turn is a process of its own. The rows take turns, so that what else the machine does meets all of them; times are
medians where nothing else is said, and processor time is that of all threads. ``--against`` is the Python of another
environment, such as one with another version or more plugins: its ``polyface detect`` takes turns with the others. The
last column is the median ratio of each turn's processor time to that of ``polyface detect``. Python writes the bytecode
of what it imports beforehand, as pip does, even where the environment forbids it. It takes POSIX, polyface-retinaface
and polyface-onnxruntime.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from polyface.measure.rounds import machine

IMAGE = Path(__file__).parents[1] / "examples" / "collage.jpg"
SIZE = (1024, 672)
"""Width and height, which a network by itself may need to be multiples of 32."""

IMPORTS = """
import os
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy, onnxruntime
from PIL import Image
"""

# As little as finds nothing yet: no thresholds, no boxes, no options, no messages, and one thread.
NETWORK = f"""{IMPORTS}
import sys
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
pixels = numpy.asarray(Image.open(sys.argv[2]).convert("RGB"), numpy.float32)
session.run(None, {{session.get_inputs()[0].name: numpy.ascontiguousarray(pixels.transpose(2, 0, 1)[None])}})
"""


def packaged(module: str, path: str) -> Path:
    """Return a file of an installed package, which is not imported."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{module} is not installed")
    return Path(spec.origin).parent / path


def turn(command: list[str]) -> tuple[float, float]:
    """Return the seconds of one process by the clock, and those of the processor."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - it is one of the rows
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)  # it is gone, and nobody need wait for it again
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    return seconds, used.ru_utime + used.ru_stime


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="retinaface-mobilenet025")
    parser.add_argument("--weights", type=Path, help="its ONNX file, where it is not that in polyface-retinaface")
    parser.add_argument("--against", metavar="PYTHON", help="of another environment")
    parser.add_argument("--turns", type=int, default=20)
    arguments = parser.parse_args()
    graph = arguments.weights or packaged("polyface_retinaface", "weights/retinaface-mobilenet025.onnx")
    chosen = ["--detector", arguments.detector, "--backend", "onnxruntime"]
    chosen += ["--weights", str(arguments.weights)] if arguments.weights else []
    with tempfile.TemporaryDirectory() as folder:
        image = f"{folder}/one.jpg"
        Image.open(IMAGE).convert("RGB").resize(SIZE).save(image, quality=90)
        detect = ["-P", "-m", "polyface", "detect", image, "--json", *chosen]
        rows = {
            "Python alone": [sys.executable, "-P", "-c", ""],
            "and NumPy, Pillow and ONNX Runtime imported": [sys.executable, "-P", "-c", IMPORTS],
            "and the graph opened, the image read, and the network run": [
                *(sys.executable, "-P", "-c", NETWORK, str(graph), image)
            ],
            "`polyface detect -q`": [sys.executable, *detect, "-q"],
            "`polyface detect`": [sys.executable, *detect],
        }
        if arguments.against:
            rows[f"`polyface detect` of {arguments.against}"] = [arguments.against, *detect]
        for command in rows.values():  # which writes the bytecode
            turn(command)
        times = [{name: turn(command) for name, command in rows.items()} for _ in range(arguments.turns)]
    print("| one process | by the clock, the fastest turn | by the clock | of the processor | its ratio |")
    print("|---|---|---|---|---|")
    for name in rows:
        fastest = min(one[name][0] for one in times)
        clock, used = (statistics.median(one[name][part] for one in times) for part in (0, 1))
        ratio = statistics.median(one[name][1] / one["`polyface detect`"][1] for one in times)
        cells = (name, *(f"{seconds * 1000:.0f} ms" for seconds in (fastest, clock, used)), f"{ratio:.2f}")
        print(f"| {' | '.join(cells)} |")
    about = machine()
    print(f"\n{arguments.detector}, {arguments.turns} turns, medians. {about['cpu']}, {about['usable_cores']} of")
    print(f"{about['cores']} cores, load {about['load']}, {about['system']}, Python {about['python']}.")


if __name__ == "__main__":
    main()
