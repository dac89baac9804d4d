"""What a job of a million images takes beside the images: a list of names of which no file is there.

Prints a table in Markdown: images done, seconds, and resident memory, a row each tenth of the way::

    python benchmarks/names.py --names 1000000

Each name goes through all that an image does but decoding and the network: the list, the stream, the counts, and the
line in ``faces.jsonl`` with its error. What grows is what the job knows each image by, which the last line compares.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

CODE = """
import os, sys, time
from polyface.cli import main
from polyface.jobs.run import Tally
from polyface.machine.memory import resident_memory

table = os.fdopen(os.dup(1), "w")  # a command keeps its own standard output
every, add, started = int(sys.argv[1]), Tally.add, time.perf_counter()

def count(tally, result):
    add(tally, result)
    if tally.items % every == 0 or tally.items == 1:
        row = (tally.items, round(time.perf_counter() - started, 1), resident_memory() // 2**20)
        print("| " + " | ".join(map(str, row)) + " |", file=table, flush=True)

Tally.add = count
try:
    main(sys.argv[2:])
except SystemExit as end:
    assert end.code == 1, end.code  # no image could be read
"""


def main() -> None:
    """Make the list, run the job, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=1_000_000)
    parser.add_argument("--detector", default="retinaface-mobilenet025")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        names, lines = Path(place, "names.txt"), Path(place, "faces.jsonl")
        with names.open("w", encoding="utf-8") as stream:
            stream.writelines(f"/nowhere/photos/{number:09}.jpg\n" for number in range(asked.names))
        print("| images | s | MB |\n|---|---|---|", flush=True)
        words = ["detect", f"@{names}", "--output", str(lines), "--detector", asked.detector, "--device", "cpu", "-q"]
        command = [sys.executable, "-c", CODE, str(max(1, asked.names // 10)), *words]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)  # noqa: S603 - this very Python
        with lines.open("rb") as stream:
            print(f"\n{sum(1 for _ in stream)} lines, {names.stat().st_size // 2**20} MB of names")


if __name__ == "__main__":
    main()
