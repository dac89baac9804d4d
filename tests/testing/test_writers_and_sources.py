"""The kit on core's own writers and sources, and on a right plugin of each, broken in one line after the other."""

from __future__ import annotations

import tarfile

import pytest
from PIL import Image

from polyface.testing import SourceConformance, WriterConformance
from run_kit import run_kit

pytest_plugins = ["pytester"]


class TestJsonLines(WriterConformance):
    writer = "jsonl"


class TestCsv(WriterConformance):
    writer = "csv"


class TestCoco(WriterConformance):
    writer = "coco"


class TestWider(WriterConformance):
    writer = "wider"


class TestDrawings(WriterConformance):
    writer = "images"


class TestAnonymized(WriterConformance):
    writer = "anonymized"


class TestCrops(WriterConformance):
    writer = "crops"


@pytest.fixture
def folder(tmp_path):
    """A folder with two images."""
    folder = tmp_path / "shots"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(folder / name)
    return folder


class TestFiles(SourceConformance):
    source = "files"

    @pytest.fixture
    def location(self, folder):
        return str(folder)


class TestPathList(SourceConformance):
    source = "lists"

    @pytest.fixture
    def location(self, folder, tmp_path):
        (tmp_path / "list.txt").write_text(f"{folder}/a.png\n{folder}/b.png\n")
        return f"@{tmp_path}/list.txt"


class TestTarArchive(SourceConformance):
    source = "tar"

    @pytest.fixture
    def location(self, folder, tmp_path):
        with tarfile.open(tmp_path / "shard.tar", "w") as file:
            file.add(folder, "shots")
        return f"{tmp_path}/shard.tar"


PLUGIN = """
import polyface
from polyface.plugins.records import Ref, SourceSpec, WriterSpec


@polyface.hookimpl
def polyface_writers():
    yield WriterSpec(name="toy-text", summary="Lines", endings=(".toy",), factory=Ref("toy.code:TextWriter"))
    yield WriterSpec(name="toy-folder", summary="Files", writes="folder", factory=Ref("toy.code:FolderWriter"))


@polyface.hookimpl
def polyface_sources():
    yield SourceSpec(name="toy-lines", summary="Lines", endings=(".toy",), factory=Ref("toy.code:Pairs"))
"""

CODE = """
import hashlib
import itertools
import json
import threading
from collections import Counter
from pathlib import Path, PurePath

import numpy as np
from polyface.errors import ImageError
from polyface.results import Item


COUNT = itertools.count()


class TextWriter:
    def __init__(self, place):
        self._again = place.lines
        self._lines = place.lines()
        with place.read() as lines:
            self._names = {json.JSONDecoder().raw_decode(line.decode())[0] for line in lines}
        self._closed = False

    def has(self, name):
        return name in self._names

    def write(self, result):
        self._names.add(result.name)
        name = json.dumps(result.name)
        boxes = result.faces.boxes.tolist()
        lines = [f"{name} {box}" for box in boxes] or [f"{name} none {result.error}"]
        self._lines.add("\\n".join(lines).encode())
        return {"lines": len(lines)}

    def close(self):
        self._lines.close()
        self._closed = True


class FolderWriter:
    def __init__(self, place):
        self._place = place

    def write(self, result):
        digest = hashlib.sha256(result.name.encode("utf-8", "surrogateescape")).hexdigest()
        name = PurePath(digest).with_suffix(".json")
        with self._place.atomic_write(name) as stream:
            stream.write(json.dumps(result.to_dict()).encode())
        return None

    def close(self):
        pass


class Pairs:
    \"\"\"A file with a line for each image: its name, and how bright it is.\"\"\"

    def __init__(self, location, search):
        self._path = Path(location)
        self.left_out = Counter()

    def _lines(self):
        return [line.split() for line in self._path.read_text(encoding="ascii").splitlines()]

    def __iter__(self):
        self.left_out.clear()
        try:
            for number, (name, brightness) in enumerate(self._lines()):
                if name == "-":
                    self.left_out["lines without a name"] += 1
                    continue
                image = np.full((4, 4, 3), int(brightness), np.uint8)
                yield Item(name=f"{self._path}#{name}", image=image, relative=PurePath(f"{name}.png"))
        except (OSError, ValueError) as error:
            yield Item(name=str(self._path), problem=f"it cannot be read: {error}")

    def count(self):
        return None
"""

TESTS = """
import tarfile

import pytest
from polyface.testing import SourceConformance, WriterConformance


class TestText(WriterConformance):
    writer = "toy-text"


class TestFolder(WriterConformance):
    writer = "toy-folder"


class TestPairs(SourceConformance):
    source = "toy-lines"

    @pytest.fixture
    def location(self, tmp_path):
        path = tmp_path / "two.toy"
        path.write_text("first 10\\n- 0\\nsecond 20\\n")
        return str(path)
"""


class Toy:
    """A plugin of two writers and a source, installed for one test."""

    def __init__(self, pytester):
        self.pytester = pytester
        self.code = CODE
        folder = pytester.mkdir("toy")
        folder.joinpath("plugin.py").write_text(PLUGIN)
        self.path = folder / "code.py"
        info = pytester.mkdir("toy-1.0.dist-info")
        info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
        info.joinpath("entry_points.txt").write_text("[polyface]\ntoy = toy.plugin\n")
        pytester.makepyfile(test_toy=TESTS)

    def change(self, old, new):
        assert self.code.count(old) == 1, f"{old!r} is there {self.code.count(old)} times"
        self.code = self.code.replace(old, new)

    def run(self, *arguments):
        """Run the kit, and return its reports by outcome: of passed, skipped and failed checks by name."""
        self.path.write_text(self.code)
        outcomes = run_kit(self.pytester, *arguments)
        return [{r.nodeid.partition("::Test")[2]: r for r in reports} for reports in outcomes]


@pytest.fixture
def toy(pytester, monkeypatch):
    monkeypatch.setenv("POLYFACE_PLUGINS", "toy")
    return Toy(pytester)


def test_a_right_plugin_passes_every_check(toy):
    passed, skipped, failed = toy.run()
    assert not failed
    assert not skipped
    assert set(passed) == {
        f"{name}::test_{check}"
        for name, kind in (("Text", WriterConformance), ("Folder", WriterConformance), ("Pairs", SourceConformance))
        for check in kind.checks()
    }


APPEND = 'self._lines.add("\\n".join(lines).encode())'
BYTES = "stream.write(json.dumps(result.to_dict()).encode())"
MADE = 'return {"lines": len(lines)}'

BROKEN = {
    "a writer without close": (
        ("    def close(self):\n        pass", "    def finish(self):\n        pass"),
        ("Folder", "factory_gives_a_writer", "gives a FolderWriter, which has no write and close.", ...),
    ),
    "a writer that wants landmarks": (
        ("name = json.dumps(result.name)", "name = json.dumps(result.name); result.faces.landmarks.tolist()"),
        (
            "Text",
            "every_result_is_written",
            "In a job with landmarks, an image that cannot be read cannot be written.",
            ...,
        ),
    ),
    "a writer that writes nothing of a certain job": (
        ("        digest =", "        if result.faces.landmarks is None:\n            return\n        digest ="),
        ("Folder", "every_result_is_written", "Of a job without landmarks, nothing is there after close."),
    ),
    "a writer that stops at a name of no encoding": (
        ('result.name.encode("utf-8", "surrogateescape")', "result.name.encode()"),
        ("Folder", "odd_names_are_written_or_refused", "An image of the name 'no encoding \\udcff.jpg' ends the job."),
    ),
    "a writer that writes at the end": (
        (
            APPEND,
            "self.__dict__.setdefault('kept', []).extend(lines)",
        ),
        ("Text", "a_result_is_there_once_it_is_written", "After a write there is nothing new in the place.", ...),
    ),
    "a writer that writes a result in several steps": (
        (APPEND, "[self._lines.add(line.encode()) for line in lines]"),
        ("Text", "files_are_whole_at_any_moment", "holds 37 bytes that it never holds between calls."),
    ),
    "a writer that refuses a file that is there": (
        (
            "self._place = place\n",
            "self._place = place\n"
            "        there = place.names(PurePath())\n"
            "        if any(name[0] != '.' for name in there): raise ValueError('there')\n",
        ),
        ("Folder", "what_a_killed_run_left_is_gone_on_with", "ValueError: there", ...),
    ),
    "a writer that begins anew": (
        (
            "self._again = place.lines\n",
            "self._again = place.lines\n        with place.atomic_write() as stream: stream.write(b'')\n",
        ),
        (
            "Text",
            "what_a_killed_run_left_is_gone_on_with",
            "What a run before wrote is gone when it is opened.\n  - results.toy",
            ...,
        ),
    ),
    "a writer that does not know what it has": (
        ("return name in self._names", "return False"),
        ("Text", "a_resumed_run_ends_as_an_undisturbed_one", "Of 1 results that were written, it has others."),
    ),
    "a writer that ends otherwise when it is resumed": (
        (
            "        self._closed = False\n",
            "        self._closed = False\n        self._names and self._lines.add(b'\"again\"')\n",
        ),
        (
            "Text",
            "a_resumed_run_ends_as_an_undisturbed_one",
            "Killed after 1 results and resumed, it leaves other files.\n  - results.toy",
            ...,
        ),
    ),
    "a writer that adds a line when it is closed again": (
        ("self._lines.close()\n", "self._lines.close()\n        if self._closed: self._again().add(b'end')\n"),
        ("Text", "closing_twice_is_fine", "A second close changes what was written."),
    ),
    "a writer that cannot be closed twice": (
        ("self._closed = True", "assert not self._closed; self._closed = True"),
        ("Text", "closing_twice_is_fine", "Closing it after 0 results raises.\n  - AssertionError"),
    ),
    "a writer that counts on": (
        ("name = json.dumps(result.name)", "name = json.dumps([result.name, next(COUNT)])"),
        ("Text", "the_same_results_give_the_same_bytes", "results.toy", ...),
    ),
    "a writer that returns arrays": (
        (MADE, "return {'boxes': result.faces.boxes}"),
        ("Text", "what_it_made_is_plain", "For an image with faces it returns {'boxes': array("),
    ),
    "a writer that rounds what it is given": (
        ("boxes = result.faces.boxes.tolist()", "boxes = result.faces.boxes.tolist(); result.faces.boxes[:] = 0"),
        ("Text", "results_are_not_changed", "It changes an image with faces."),
    ),
    "a writer that keeps what it was given": (
        (MADE, "self.__dict__.setdefault('kept', []).append(result); " + MADE),
        ("Text", "no_result_is_kept", "It keeps results that are long written.\n  - a Result"),
    ),
    "a writer of file names alone": (
        ("PurePath(digest)", "result.item.relative"),
        ("Folder", "no_result_takes_the_place_of_another", "replaces what was written of the first.\n  - same.json"),
    ),
    "a writer that opens files itself": (
        (BYTES, BYTES + "\n        (self._place.path / 'last.txt').write_text('x')"),
        ("Folder", "it_writes_by_its_place_alone", "It writes files that its place does not know of.\n  - there/last"),
    ),
    "a writer that leaves files where it was started": (
        (BYTES, BYTES + "\n        Path('log.txt').write_text('x')"),
        ("Folder", "it_writes_by_its_place_alone", "\n  - elsewhere/log.txt"),
    ),
    "a writer that swallows what the system says": (
        (APPEND, "try: " + APPEND + "\n        except OSError: pass"),
        ("Text", "a_full_disk_ends_the_job", "Where the disk is full, it goes on without a word."),
    ),
    "a writer that says something else of a full disk": (
        (APPEND, "try: " + APPEND + "\n        except OSError as error: raise ImageError(str(error))"),
        ("Text", "a_full_disk_ends_the_job", "it raises another error than OSError.\n  - ImageError: [Errno 28]"),
    ),
    "a source without left_out": (
        ("self.left_out = Counter()", "self.left = Counter()"),
        ("Pairs", "factory_gives_a_source", "gives a Pairs, which has no left_out, __iter__ and count.", ...),
    ),
    "a source in the order of chance": (
        (
            'for line in self._path.read_text(encoding="ascii").splitlines()]',
            'for line in self._path.read_text(encoding="ascii").splitlines()][:: next(COUNT) % 2 * 2 - 1]',
        ),
        (
            "Pairs",
            "items_come_in_the_same_order_each_time",
            "A second time, it gives other items, or in another order.",
        ),
    ),
    "a source that counts its lines": (
        ("def count(self):\n        return None", "def count(self):\n        return len(self._lines())"),
        ("Pairs", "count_is_right_or_none", "It counts 3 items and gives 2."),
    ),
    "a source whose items share a name": (
        ('name=f"{self._path}#{name}"', "name=str(self._path)"),
        ("Pairs", "names_are_unique", "Several items have one name.\n  - /"),
    ),
    "a source whose items lie anywhere": (
        ('PurePath(f"{name}.png")', 'self._path / f"{name}.png"'),
        ("Pairs", "relative_paths_stay_below", "which lies in no folder of results."),
    ),
    "a source of arrays that are no images": (
        ("np.full((4, 4, 3), int(brightness), np.uint8)", "np.full((3, 4, 4), int(brightness) / 255)"),
        ("Pairs", "images_can_be_read", "cannot be read.\n  - Got an array of shape (3, 4, 4) "),
    ),
    "a source that ends at what is missing": (
        ("except (OSError, ValueError)", "except ValueError"),
        ("Pairs", "a_missing_location_is_an_item_with_a_problem", "that ends the job.\n  - FileNotFoundError"),
    ),
    "a source that says nothing of what is missing": (
        (
            "        self.left_out.clear()\n",
            "        self.left_out.clear()\n        if not self._path.exists(): return\n",
        ),
        ("Pairs", "a_missing_location_is_an_item_with_a_problem", "Nothing is there, and no item says so."),
    ),
    "a source that ends at what is damaged": (
        ("except (OSError, ValueError)", "except OSError"),
        ("Pairs", "a_damaged_location_is_an_item_with_a_problem", "that ends the job.\n  - UnicodeDecodeError"),
    ),
    "a source that counts what it leaves out again": (
        ("self.left_out.clear()", "pass"),
        ("Pairs", "what_is_left_out_is_counted_once", "{'lines without a name': 1}, then {'lines without a name': 2}"),
    ),
    "a source that leaves a thread": (
        (
            "        self.left_out.clear()\n",
            "        self.left_out.clear()\n"
            "        threading.Thread(target=threading.Event().wait, name='reader', daemon=True).start()\n",
        ),
        ("Pairs", "left_early_it_leaves_nothing_running", "Left after one item, it leaves threads.\n  - reader"),
    ),
}


@pytest.mark.parametrize(("change", "expected"), BROKEN.values(), ids=BROKEN)
def test_exactly_the_check_that_is_about_it_sees_a_broken_plugin(toy, change, expected):
    kind, check, says, *more = expected
    toy.change(*change)
    _, _, failed = toy.run("-k", kind)
    name = f"{kind}::test_{check}"
    assert list(failed) == [name] or (more and name in failed)
    assert says in failed[name].longreprtext
