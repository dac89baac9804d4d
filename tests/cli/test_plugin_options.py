"""Options of sources, steps and writers of plugins, as the commands show them."""

from __future__ import annotations

import json
import sys
import types
from collections import Counter
from pathlib import Path

import attrs
import numpy as np
import pytest

from polyface.plugins.hookspecs import hookimpl
from polyface.plugins.manager import PluginManager
from polyface.plugins.records import OptionSpec, Ref, SourceSpec, StepSpec, WriterSpec
from polyface.results import Item

HOW = OptionSpec(name="how", type="str", help="Else.", default="blur", choices=("blur", "melt"))
REGIONS = OptionSpec(name="regions", type="lists of numbers", help="Where.")


class Frames:
    """Six black frames, of which each so many is examined."""

    def __init__(self, location, _search, *, every, batch_size):
        assert batch_size == 7
        self.left_out = Counter()
        self._location, self._every = location, every

    def __iter__(self):
        for number in range(6):
            pixels = np.zeros((48, 64, 3), np.uint8)
            yield Item(name=f"{self._location}#{number}", image=pixels, examine=number % self._every == 0)

    def count(self):
        return 6


class Reels:
    """A file that says with what it was made."""

    def __init__(self, place, **options):
        with place.atomic_write() as stream:
            stream.write(json.dumps(options).encode())

    def write(self, result):
        pass

    def close(self):
        pass


def stamp(**_options):
    def step(results):
        for number, result in enumerate(results):
            yield attrs.evolve(result, extra={**result.extra, "stamp": number})

    return step


@pytest.fixture(autouse=True)
def stranger(polyface, monkeypatch, tmp_path):
    """A plugin with a source, a step and a writer, which have options."""
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("stranger")
    module.Frames, module.Reels, module.stamp = Frames, Reels, stamp
    monkeypatch.setitem(sys.modules, "stranger", module)
    every = OptionSpec(name="every", type="int", help="Examine each so many.", default=1, minimum=1)
    stamped = OptionSpec(name="stamp", type="bool", help="Number the results.", default=False)
    shared = attrs.evolve(every, default=None)
    ink = OptionSpec(name="ink", type="str", help="In which colour.")
    ours = OptionSpec(name="batch_size", type="int", help="Takes the place of ours.", default=7)
    plugin = types.ModuleType("plugin")
    plugin.polyface_sources = hookimpl(
        lambda: [
            SourceSpec(
                name="frames", summary="F", endings=(".reel",), options=(every, ours), factory=Ref("stranger:Frames")
            )
        ]
    )
    plugin.polyface_steps = hookimpl(
        lambda: [
            StepSpec(
                name="stamp", summary="S", options=(stamped, ink, shared), on=("stamp",), factory=Ref("stranger:stamp")
            )
        ]
    )
    plugin.polyface_writers = hookimpl(
        lambda: [
            WriterSpec(
                name="reels",
                summary="R",
                endings=(".reel",),
                commands=("anonymize",),
                options=(HOW, REGIONS),
                factory=Ref("stranger:Reels"),
            )
        ]
    )
    polyface.plugins = PluginManager.discover({"POLYFACE_PLUGINS": "polyface-example"})
    polyface.plugins.register(plugin, name="stranger")


def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_are_in_the_help_of_every_command_that_reads_and_those_of_a_writer_of_its_command(polyface):
    for command, shown in (("detect", False), ("crop", False), ("anonymize", True)):
        text = " ".join(polyface(command, "--help").stdout.split())
        assert "--every" in text
        assert "Examine each so many. By default 1." in text
        assert "--stamp" in text
        assert ("--regions" in text) is shown


def test_that_several_have_are_one_and_choices_are_those_of_all(polyface):
    refused = polyface("anonymize", "a.reel", "--how", "sing", "--output", "a.out.reel")
    assert all(word in refused.stderr for word in ("blur", "pixelate", "fill", "image", "melt"))


def test_take_the_place_of_none_of_polyfaces_own(polyface):
    result = polyface("detect", "--help")
    assert "Takes the place" not in result.stdout
    assert result.stderr.count("the option 'batch_size' of 'frames' cannot be given: polyface has one") == 1


@pytest.mark.parametrize(("options", "examined"), [([], 6), (["--every", 2], 3)])
def test_reach_the_source_and_images_that_were_not_examined_say_so(polyface, options, examined):
    result = polyface("detect", "a.reel", *options, "--output", "a.jsonl")
    assert result.exit_code == 0, result.stderr
    written = lines("a.jsonl")
    assert [line["image"] for line in written] == [f"a.reel#{number}" for number in range(6)]
    assert sum(line.get("examined", True) for line in written) == examined


def test_reach_the_writer_whose_ending_selects_it_for_this_command_alone(polyface):
    options = ["--how", "melt", "--regions", "[[1,2],[3,4.5]]"]
    result = polyface("anonymize", "a.reel", *options, "--output", "safe.reel")
    assert result.exit_code == 0, result.stderr
    assert json.loads(Path("safe.reel").read_text()) == {"how": "melt", "regions": [[1, 2], [3, 4.5]]}
    refused = polyface("detect", "a.reel", "--output", "boxes.reel")
    assert "No writer makes a file '.reel'" in refused.stderr


def test_that_are_wrong_are_refused_by_the_record(polyface):
    assert "every must be at least 1, not 0" in polyface("detect", "a.reel", "--every", 0).stderr


@pytest.mark.parametrize(
    ("arguments", "option", "owner"),
    [
        (["anonymize", "a.reel", "--regions", "[[1,2]]", "--output", "safe/"], "--regions", "the writer 'reels'"),
        (["detect", "a.jpg", "--every", 2, "--output", "a.jsonl"], "--every", "the source 'frames'"),
        (["detect", "a.reel", "--ink", "red", "--output", "a.jsonl"], "--ink", "the step 'stamp' (--stamp)"),
        (["detect", "a.jpg", "--every", 2, "--stamp", "--output", "a.jsonl"], "--every", "the source 'frames'"),
    ],
)
def test_that_would_do_nothing_are_refused(polyface, arguments, option, owner):
    refused = polyface(*arguments)
    assert refused.exit_code == 2
    assert f"{option} would do nothing here." in refused.stderr
    assert f"it is for {owner}" in refused.stderr


def test_of_any_source_are_taken_where_a_list_is_named(polyface):
    Path("list.txt").write_text("a.reel\n")
    assert polyface("detect", "@list.txt", "--every", 2, "--output", "a.jsonl").exit_code == 0
    assert sum(line.get("examined", True) for line in lines("a.jsonl")) == 3


def test_turn_a_step_on(polyface):
    assert polyface("detect", "a.reel", "--stamp", "--output", "a.jsonl").exit_code == 0
    assert [line["stamp"] for line in lines("a.jsonl")] == [0, 1, 2, 3, 4, 5]
    polyface("detect", "a.reel", "--output", "b.jsonl")
    assert all("stamp" not in line for line in lines("b.jsonl"))


def test_a_step_sees_after_a_kill_all_that_it_would_have_seen(polyface):
    polyface("detect", "a.reel", "--stamp", "--output", "a.jsonl")
    whole = Path("a.jsonl").read_bytes()
    Path("a.jsonl").write_bytes(b"".join(whole.splitlines(keepends=True)[:4]))
    assert polyface("detect", "a.reel", "--stamp", "--resume", "--output", "a.jsonl").exit_code == 0
    assert Path("a.jsonl").read_bytes() == whole


def test_images_that_were_not_examined_are_not_written_without_their_faces(polyface):
    result = polyface("anonymize", "a.reel", "--every", 3, "--output", "safe/")
    assert result.exit_code == 1
    assert "no faces were looked for in it" in result.stderr
    assert len(list(Path("safe").glob("*.png"))) == 2
