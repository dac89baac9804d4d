"""However long a video is, few of its frames are in memory, and little of what is known of the others."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import polyface.pipeline.detector
import polyface.sources.plugin
import polyface.writers.plugin
from polyface.cli import group
from polyface.plugins.manager import PluginManager

pytest.importorskip("av", reason="needs PyAV: pip install polyface-video")

from polyface_video import source, videos

FRAME = 64 * 48 * 3
"""Bytes."""

WAITING = 20
"""Frames that may wait in each place where frames wait: to be examined, and decoded ahead of that."""

TOOLS = ("--detector", "example-redbox", "--backend", "numpy", "--quiet")


@pytest.fixture
def clip(make_clip):
    """Return a function that makes a clip of so many frames, in which a red square of 8 pixels goes right and left."""

    def make(count):
        images = np.zeros((57, 48, 64, 3), np.uint8)
        for x, image in enumerate(images):
            image[16:24, x : x + 8] = 255, 0, 0
        way = itertools.cycle([*images, *images[-2:0:-1]])
        return make_clip("clip.mkv", codec="ffv1", images=[*itertools.islice(way, count)], sound=False)

    return make


class Census:
    """Counts the frames that were decoded and are not forgotten yet."""

    def __init__(self, read):
        self._read, self._numbers, self._live = read, itertools.count(), {}
        self.seen = self.most = 0

    def __call__(self, *arguments, **options):
        for frame in self._read(*arguments, **options):
            self._live[number := next(self._numbers)] = True
            weakref.finalize(frame.image, self._live.pop, number)
            self.seen, self.most = self.seen + 1, max(self.most, len(self._live))
            yield frame
            del frame


@pytest.fixture
def census(monkeypatch):
    counts = Census(source.read_frames)
    for module in (source, videos):
        monkeypatch.setattr(module, "AHEAD", WAITING * FRAME)
        monkeypatch.setattr(module, "read_frames", counts)
    monkeypatch.setattr(polyface.pipeline.detector, "HELD_PIXELS", WAITING * FRAME // 3)
    return counts


@pytest.mark.parametrize(
    ("command", "passes"),
    [
        ("detect --output faces.jsonl", 1),
        ("detect --output faces.jsonl --every 5 --track", 1),
        ("detect --output boxes.mp4", 1),
        ("anonymize --output safe.mp4", 2),
    ],
)
def test_few_frames_are_in_memory_at_a_time(command, passes, clip, census, tmp_path, monkeypatch):
    made = clip(600)
    monkeypatch.chdir(tmp_path)
    plugins = PluginManager()
    for name in ("polyface.sources", "polyface.writers", "polyface_example", "polyface_video"):
        plugins.register(sys.modules[f"{name}.plugin"], name=name, distribution=name)
    done = CliRunner().invoke(group, [*command.split(), str(made), *TOOLS], obj=plugins)
    assert done.exit_code == 0, done.output
    assert census.seen == passes * 600
    # Beside those that wait: what threads and runs of the network have in hand, and what is passed on.
    assert census.most <= 2 * WAITING + 40


PEAK = """
import re, sys
from pathlib import Path
from polyface_video import source, videos
from polyface.cli import main
source.AHEAD = videos.AHEAD = 2**20
try:
    main(sys.argv[1:])
finally:
    print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1], file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize(("command", "name"), [("detect", "faces.jsonl"), ("anonymize", "safe.mp4")])
def test_of_a_frame_that_is_done_less_than_two_kilobytes_are_remembered(command, name, clip, tmp_path):
    peaks = []
    for count in (2_000, 20_000):
        made, output = clip(count), tmp_path / str(count) / name
        output.parent.mkdir()
        run = [sys.executable, "-c", PEAK, command, str(made), *TOOLS, "--output", str(output)]
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        peaks.append(1024 * int(done.stderr.split()[-1]))
        lines = output if output.suffix == ".jsonl" else Path(f"{output}.journal")
        found = [len(json.loads(line)["faces"]) for line in lines.read_text().splitlines()]
        assert len(found) == count
        assert sum(found) > count / 2  # lossy colours hide some
    assert peaks[1] - peaks[0] < 18_000 * 2_000
