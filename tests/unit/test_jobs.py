"""From sources through a stream to writers: what a job reads, writes, counts and reports."""

from __future__ import annotations

import io
import sys
import tarfile
import tracemalloc
import types
from pathlib import Path

import numpy as np
import pytest

import polyface.sources.plugin
import polyface.writers.plugin
from polyface.errors import AmbiguousNameError, ConfigError, ImageError, PluginError, UnknownNameError, UnsupportedError
from polyface.jobs.inputs import Inputs, select_source
from polyface.jobs.outputs import parse_outputs
from polyface.jobs.run import Tally, leave_out_done, read_images, run
from polyface.plugins.hookspecs import hookimpl
from polyface.plugins.manager import PluginManager
from polyface.plugins.protocols import Search
from polyface.plugins.records import OptionSpec, Ref, Requirement, SourceSpec, WriterSpec
from polyface.results import Detections, Item, Result
from polyface.storage.places import OTHER_OUTPUT


@pytest.fixture
def plugins(monkeypatch):
    """Core's own, and a stranger's sources and writers, which the module ``stranger`` holds."""
    module = types.ModuleType("stranger")
    module.Source = lambda location, search, **options: [Item(name=location), search, *options.items()]
    module.Writer = list
    monkeypatch.setitem(sys.modules, "stranger", module)
    source, writer = Ref("stranger:Source"), Ref("stranger:Writer")
    need = (Requirement(module="no_such_module", install="no-such-package"),)
    every = (OptionSpec(name="every", type="int", help="Each so many.", default=1, minimum=1),)
    plugin = types.ModuleType("plugin")
    plugin.polyface_sources = hookimpl(
        lambda: [
            SourceSpec(name="video", summary="Videos", endings=(".mp4",), options=every, factory=source),
            SourceSpec(name="camera", summary="Cameras", prefixes=("rtsp://",), factory=source),
            SourceSpec(name="zip", summary="Archives", endings=(".zip",), requires=need, factory=source),
        ]
    )
    rows = (OptionSpec(name="rows", type="int", help="How many.", default=2, minimum=1),)
    plugin.polyface_writers = hookimpl(
        lambda: [
            WriterSpec(name="boxes", summary="Boxes", endings=(".json", ".boxes.json"), factory=writer),
            WriterSpec(name="parquet", summary="Parquet", endings=(".parquet",), requires=need, factory=writer),
            WriterSpec(
                name="sheets",
                summary="Sheets",
                writes="folder",
                commands=("tabulate",),
                options=rows,
                factory=writer,
            ),
            WriterSpec(name="tables", summary="Tables", endings=(".tsv",), commands=("tabulate",), factory=writer),
        ]
    )
    manager = PluginManager()
    manager.register(polyface.sources.plugin, name="sources", distribution="polyface")
    manager.register(polyface.writers.plugin, name="writers", distribution="polyface")
    manager.register(plugin, name="stranger")
    return manager


class TestSources:
    @pytest.mark.parametrize(
        ("location", "name"),
        [
            ("clip.mp4", "video"),
            ("CLIP.MP4", "video"),
            ("rtsp://camera/1.mp4", "camera"),
            ("@list.txt", "lists"),
            ("@-", "lists"),
            ("shard.tar", "tar"),
            ("shard.TAR.GZ", "tar"),
            ("shard.tgz", "tar"),
            ("a.jpg", "files"),
            ("folder", "files"),
        ],
    )
    def test_are_selected_by_how_a_location_begins_or_else_ends(self, plugins, location, name):
        assert select_source(location, plugins).name == name

    def test_a_folder_is_searched_whatever_its_name_ends_in(self, plugins, tmp_path):
        (tmp_path / "clip.mp4").mkdir()
        assert select_source(str(tmp_path / "clip.mp4"), plugins).name == "files"

    def test_that_require_what_is_not_installed_say_what_to_install(self, plugins):
        with pytest.raises(UnsupportedError, match="The source 'zip' cannot be used here") as caught:
            Inputs(["a.zip"], plugins, Search())
        assert "pip install no-such-package" in str(caught.value.fix)

    @pytest.mark.parametrize("fault", ["starts", "counts", "yields", "yields junk"])
    def test_whose_code_fails_are_named(self, plugins, fault):
        class Source:
            left_out = ()

            def __init__(self, _location, _search, **_options):
                if fault == "starts":
                    raise KeyError("oops")

            def count(self):
                return len(None) if fault == "counts" else None

            def __iter__(self):
                yield 7 if fault == "yields junk" else len(None)

        sys.modules["stranger"].Source = Source
        with pytest.raises(PluginError) as caught:
            list(inputs) if (inputs := Inputs(["clip.mp4"], plugins, Search())).count() is None else None
        assert caught.value.what in (
            "The source of 'clip.mp4' failed.",
            "A source must yield items, not 7.",
        )

    def test_follow_each_other_and_are_counted_together(self, plugins, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in ("in/b.png", "in/.hidden.png", "a.png"):
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).touch()
        inputs = Inputs(["a.png", "in", "missing.png"], plugins, Search())
        assert (inputs.count(), [item.name for item in inputs]) == (3, ["a.png", "in/b.png", "missing.png"])
        assert inputs.left_out == {"hidden files": 1}

    def test_are_not_asked_for_files_in_folders_which_are_counted(self, plugins, tmp_path):
        for name in ("a.png", "clip.mp4", "CLIP.MP4", ".hidden.mp4", "shard.tar", "notes.doc"):
            (tmp_path / name).touch()
        inputs = Inputs([str(tmp_path)], plugins, Search())
        assert [Path(item.name).name for item in inputs] == ["a.png"]
        left_out = {"files that other sources read": 2, "hidden files": 1, "archives": 1}
        assert inputs.left_out == left_out

    def test_get_those_of_the_options_that_are_theirs_from_a_list_as_well(self, plugins, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys.modules["stranger"], "Source", Numbered)
        Path("list.txt").write_text("b.mp4\n")
        locations = ["a.mp4", "rtsp://a", "@list.txt"]
        for options, every in (({}, 1), ({"every": 5, "rows": 3}, 5)):
            items = Inputs(locations, plugins, Search(), options)
            assert [item.extra for item in items] == [{"every": every}, {}, {"every": every}]

    def test_refuse_an_option_that_is_wrong(self, plugins):
        with pytest.raises(ConfigError, match="every must be at least 1, not 0"):
            Inputs(["a.mp4"], plugins, Search(), {"every": 0})


class Numbered(list):
    """A source of one item, which says what the source was made with."""

    left_out = ()

    def __init__(self, location, _search, **options):
        super().__init__([Item(name=location, extra=options)])


class TestLists:
    @pytest.fixture(autouse=True)
    def here(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("in").mkdir()
        Path("in/a.png").touch()

    def names(self, plugins, location):
        return [(item.name, item.problem) for item in Inputs([location], plugins, Search())]

    def test_name_files_and_folders_a_line_each(self, plugins):
        Path("list.txt").write_bytes(b"\xef\xbb\xbfin\r\n\r\nb \xc3\xa9.png\n")
        missing = "there is no such file or folder"
        assert self.names(plugins, "@list.txt") == [("in/a.png", ""), ("b \u00e9.png", missing)]

    def test_take_a_few_hundred_bytes_an_image(self, plugins):
        Path("long.txt").write_text("".join(f"photos/IMG_{number:08}.jpg\n" for number in range(5000)))
        inputs = Inputs(["@long.txt"], plugins, Search())
        tracemalloc.start()
        assert inputs.count() == 5000
        taken = tracemalloc.take_snapshot().statistics("lineno")
        tracemalloc.stop()
        # Without what is one piece for all: the interpreter's table of names may grow just then.
        assert sum(part.size for part in taken if part.count > 1) < 5000 * 200
        assert sum(1 for _ in inputs) == 5000

    @pytest.mark.parametrize("location", ["@-", "-"])
    def test_are_read_from_standard_input(self, plugins, monkeypatch, location):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"in\n")))
        assert self.names(plugins, location) == [("in/a.png", "")]

    def test_are_none_where_standard_input_is_closed(self, plugins, monkeypatch):
        monkeypatch.setattr(sys, "stdin", None)
        assert self.names(plugins, "-") == [("@-", "the list cannot be read: standard input is closed")]

    def test_end_lines_where_names_do_not(self, plugins):
        name = "in/a\x0bb\x0cc\x1cd\x85e\u2028f\r.png"
        Path(name).touch()
        Path("list.txt").write_bytes(f"{name}\r\nin/a.png".encode())
        assert self.names(plugins, "@list.txt") == [(name, ""), ("in/a.png", "")]

    def test_may_be_parted_by_zero_bytes(self, plugins):
        Path("in/b\n.png").touch()
        Path("list.txt").write_bytes(b"in/b\n.png\0in/a.png\0")
        assert self.names(plugins, "@list.txt") == [("in/b\n.png", ""), ("in/a.png", "")]

    def test_that_are_images_are_a_problem_which_says_so(self, plugins, monkeypatch):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xd8\xff\xe0\0\x10JFIF\n\0")))
        problem = "the list is an image; a list names the paths of images, a line each"
        assert self.names(plugins, "-") == [("@-", problem)]

    def test_may_name_what_other_sources_claim_but_no_lists(self, plugins):
        with tarfile.open("shard.tar", "w") as file:
            file.add("in/a.png", "1.png")
            file.add("in/a.png", "1.cls")
        Path("list.txt").write_text("in\nshard.tar\n@list.txt\n-\nmissing.tar\n")
        inputs = Inputs(["@list.txt"], plugins, Search())
        assert inputs.count() is None
        missing = "there is no such file or folder"
        assert [(item.name, item.problem) for item in inputs] == [
            ("in/a.png", ""),
            ("shard.tar/1.png", ""),
            *((name, missing) for name in ("@list.txt", "-", "missing.tar")),
        ]
        assert inputs.left_out == {"files in archives that are no images": 1}

    def test_fail_where_what_they_name_needs_what_is_not_installed(self, plugins):
        Path("list.txt").write_text("in\na.zip\n")
        with pytest.raises(UnsupportedError, match="The source 'zip' cannot be used here"):
            Inputs(["@list.txt"], plugins, Search()).count()

    def test_that_cannot_be_read_or_name_nothing_are_items_with_a_problem(self, plugins):
        Path("empty.txt").write_text("\n \n")
        [(name, problem)] = self.names(plugins, "@missing.txt")
        assert (name, problem) == ("@missing.txt", "the list cannot be read: No such file or directory")
        assert self.names(plugins, "@empty.txt") == [("@empty.txt", "the list names no image")]


class TestOutputs:
    @pytest.fixture(autouse=True)
    def here(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)

    def test_a_folder_may_get_another_writer_with_its_options(self, plugins):
        options = {"rows": 3, "margin": 1}
        outputs = parse_outputs(["out/", "sheets:there", "a.jsonl"], plugins, command="tabulate", options=options)
        assert [(one.spec.name, one.path.name, one.options) for one in outputs] == [
            ("sheets", "out", {"rows": 3}),
            ("sheets", "there", {"rows": 3}),
            ("jsonl", "faces.jsonl", {}),
            ("jsonl", "faces.jsonl", {}),
            ("jsonl", "a.jsonl", {}),
        ]

    def test_a_writer_gets_its_options_checked(self, plugins):
        made = []
        sys.modules["stranger"].Writer = lambda _, rows: made.append(rows) or types.SimpleNamespace(close=int)
        for options, rows in (({}, 2), ({"rows": 3}, 3)):
            [output, _] = parse_outputs(["sheets:out"], plugins, command="tabulate", options=options)
            with output.open():
                assert made[-1] == rows
        [output, _] = parse_outputs(["sheets:out"], plugins, command="tabulate", options={"rows": 0})
        with pytest.raises(ConfigError, match="sheets: rows must be at least 1"), output.open():
            pass

    def test_a_writer_that_is_for_a_command_is_selected_there_alone_unless_it_is_named(self, plugins):
        assert [one.spec.name for one in parse_outputs(["a.tsv"], plugins, command="tabulate")] == ["tables"]
        assert [one.spec.name for one in parse_outputs(["tables:a.tsv"], plugins)] == ["tables"]
        with pytest.raises(ConfigError, match=r"No writer makes a file '\.tsv'") as caught:
            parse_outputs(["a.tsv"], plugins)
        assert ".tsv" not in caught.value.why[0]

    def test_the_options_of_a_command_are_not_those_of_a_writer_for_another(self, plugins):
        [output, _] = parse_outputs(["sheets:out"], plugins, command="crop", options={"rows": 3})
        assert output.options == {}

    def test_a_command_without_a_writer_of_folders_wants_one_named(self, plugins):
        with pytest.raises(ConfigError, match="No writer fills folders for 'polyface sing'"):
            parse_outputs(["out/"], plugins, command="sing")
        assert len(parse_outputs(["images:out/"], plugins, command="sing")) == 2

    def parsed(self, plugins, *outputs):
        return [
            (output.spec.name, str(output.path.relative_to(Path.cwd()))) for output in parse_outputs(outputs, plugins)
        ]

    @pytest.mark.parametrize(
        ("output", "expected"),
        [
            ("faces.jsonl", [("jsonl", "faces.jsonl")]),
            ("FACES.JSONL", [("jsonl", "FACES.JSONL")]),
            ("a.boxes.json", [("boxes", "a.boxes.json")]),
            ("out", [("images", "out"), ("jsonl", "out/faces.jsonl")]),
            ("out.v2/", [("images", "out.v2"), ("jsonl", "out.v2/faces.jsonl")]),
            ("out.jsonl/", [("images", "out.jsonl"), ("jsonl", "out.jsonl/faces.jsonl")]),
            ("jsonl:a.txt", [("jsonl", "a.txt")]),
            ("sheets:out", [("sheets", "out"), ("jsonl", "out/faces.jsonl")]),
            ("local/sheets:out", [("sheets", "out"), ("jsonl", "out/faces.jsonl")]),
            ("./a:b", [("images", "a:b"), ("jsonl", "a:b/faces.jsonl")]),
            ("a:b", [("images", "a:b"), ("jsonl", "a:b/faces.jsonl")]),  # as a drive of Windows
        ],
    )
    def test_are_files_by_their_ending_writers_by_name_and_folders(self, plugins, output, expected):
        assert self.parsed(plugins, output) == expected

    def test_of_endings_that_several_claim_are_cores_and_else_nobodys(self, plugins):
        other, third = types.ModuleType("other"), types.ModuleType("third")
        spec = WriterSpec(name="theirs", summary="T", endings=(".jsonl", ".txt"), factory=Ref("stranger:Writer"))
        other.polyface_writers = third.polyface_writers = hookimpl(lambda: [spec])
        plugins.register(other, name="other", distribution="other")
        plugins.register(third, name="third", distribution="third")
        assert self.parsed(plugins, "faces.jsonl") == [("jsonl", "faces.jsonl")]
        with pytest.raises(AmbiguousNameError, match="Several plugins would take it") as caught:
            parse_outputs(["faces.txt"], plugins)
        assert caught.value.why == ("writer 'theirs' of other", "writer 'theirs' of third")

    def test_that_a_folder_gets_are_cores_whatever_others_are_called(self, plugins):
        other = types.ModuleType("other")
        specs = [WriterSpec(name=name, summary="T", factory=Ref("stranger:Writer")) for name in ("jsonl", "images")]
        other.polyface_writers = hookimpl(lambda: specs)
        plugins.register(other, name="other", distribution="other")
        assert [output.spec.factory.target for output in parse_outputs(["out"], plugins)] == [
            "polyface.writers.images:Drawings",
            "polyface.writers.jsonl:JsonLines",
        ]

    def test_that_fill_folders_come_first_so_that_the_others_know_what_they_made(self, plugins):
        lines = [("jsonl", name) for name in ("a.jsonl", "out/faces.jsonl", "s/faces.jsonl")]
        assert self.parsed(plugins, "a.jsonl", "out", "sheets:s") == [("images", "out"), ("sheets", "s"), *lines]

    @pytest.mark.parametrize("lines", ["out/faces.jsonl", "jsonl:out/faces.jsonl", "boxes:out/faces.jsonl"])
    def test_that_a_folder_gets_give_way_to_what_is_named_at_that_place(self, plugins, lines):
        writer = lines.partition(":")[0] if ":" in lines else "jsonl"
        for outputs in (["sheets:out", lines], [lines, "out/"]):
            found = self.parsed(plugins, *outputs)
            assert found[1:] == [(writer, "out/faces.jsonl")]

    @pytest.mark.parametrize(
        ("outputs", "what"),
        [
            (["a.jsnl"], "No writer makes a file '.jsnl'; did you mean '.jsonl'"),
            (["a.txt"], "No writer makes a file '.txt'."),
            ([""], "'' names no output."),
            (["jsonl:"], "'jsonl:' names no output."),
            (["a.jsonl", "jsonl:./a.jsonl"], "Two outputs write to "),
        ],
    )
    def test_that_cannot_be_meant_are_refused(self, plugins, outputs, what):
        with pytest.raises(ConfigError) as caught:
            parse_outputs(outputs, plugins)
        assert caught.value.what.startswith(what)

    @pytest.mark.parametrize("there", ["a.jsonl", "a.jsonl.journal"])
    def test_that_have_the_results_of_a_run_before_want_to_be_resumed(self, plugins, there):
        Path(there).write_text("1\n")
        with pytest.raises(ConfigError) as caught:
            parse_outputs(["b.jsonl", "a.jsonl"], plugins)
        assert caught.value.what == f"{Path(there).resolve()} has the results of a run before."
        assert str(caught.value.fix) == "to go on with them: resume=True; or: choose another output"
        assert len(parse_outputs(["b.jsonl", "a.jsonl"], plugins, resume=True)) == 2

    def test_that_are_none_cannot_be_resumed(self, plugins):
        with pytest.raises(ConfigError, match="There is nothing to resume") as caught:
            parse_outputs([], plugins, resume=True)
        assert caught.value.fix.settings == {"output": "jsonl:faces.jsonl"}

    def test_that_are_called_as_the_journal_of_another_are_refused(self, plugins):
        with pytest.raises(ConfigError, match=r"'jsonl:a\.csv\.journal' ends as the journal of an output does"):
            parse_outputs(["jsonl:a.csv.journal"], plugins)

    def test_whose_writer_cannot_go_on_are_refused_and_keep_what_they_have(self, plugins):
        sys.modules["stranger"].Writer = lambda _: Recorder()
        Path("a.json").write_text("precious")
        [output] = parse_outputs(["a.json"], plugins, resume=True)
        with (
            pytest.raises(ConfigError, match="The writer 'boxes' cannot go on with what a run before wrote"),
            output.open(),
        ):
            pass
        assert Path("a.json").read_text() == "precious"
        Path("a.json").unlink()
        with output.open() as writer:
            assert isinstance(writer, Recorder)

    @pytest.mark.parametrize("name", ["jsnl", "JSONL"])
    def test_of_a_writer_that_nobody_provides_are_refused_and_the_nearest_offered(self, plugins, name):
        with pytest.raises(UnknownNameError, match=f"There is no writer named '{name}'; did you mean 'jsonl'"):
            parse_outputs([f"{name}:faces.txt"], plugins)

    def test_that_require_what_is_not_installed_say_what_to_install(self, plugins):
        [output] = parse_outputs(["a.parquet"], plugins)
        with pytest.raises(UnsupportedError, match="The writer 'parquet' cannot be used here") as caught, output.open():
            pass
        assert "pip install no-such-package" in str(caught.value.fix)

    def test_that_find_no_room_in_the_end_say_how_to_finish_them(self, plugins):
        class Writer(Recorder):
            def __init__(self, _):
                super().__init__()

            def close(self):
                raise OSError(28, "No space left on device")

        sys.modules["stranger"].Writer = Writer
        [output] = parse_outputs(["a.boxes.json"], plugins)
        with pytest.raises(ConfigError, match=r"The output a\.boxes\.json cannot be finished") as caught, output.open():
            pass
        assert caught.value.why == ("[Errno 28] No space left on device", "what was found is kept")
        assert str(caught.value.fix) == "mend that, and run it again: resume=True"

    @pytest.mark.parametrize("ends", [None, ValueError("of the job")])
    def test_whose_writer_fails_to_finish_say_so_unless_the_job_failed_before(self, plugins, ends):
        class Writer:
            def __init__(self, place):
                pass

            def close(self):
                raise RuntimeError("of the writer")

        sys.modules["stranger"].Writer = Writer
        [output] = parse_outputs(["a.boxes.json"], plugins)
        expected = "The writer 'boxes' failed to finish." if ends is None else "of the job"

        def job():
            with output.open():
                if ends is not None:
                    raise ends

        with pytest.raises(PluginError if ends is None else ValueError, match=expected):
            job()


class Recorder:
    """A writer that keeps what it is given, and says what it is told to."""

    def __init__(self, made=None, error=None):
        self.made, self.error, self.results = made, error, []

    def write(self, result):
        self.results.append(result)
        if self.error is not None:
            raise self.error
        return self.made

    def close(self):
        pass


class Finisher(Recorder):
    """A writer that makes something of a whole run."""

    def __init__(self, ends=None):
        super().__init__()
        self.ends, self.finished = ends, 0

    def finish(self):
        self.finished += 1
        if self.ends is not None:
            raise self.ends


class TestFinishing:
    def test_follows_the_last_result(self):
        writer = Finisher()
        assert run([Result(name="a"), Result(name="b", error=ImageError("bad"))], [("a", writer)], tally=Tally())
        assert ([one.name for one in writer.results], writer.finished) == (["a", "b"], 1)

    def test_is_not_for_a_run_that_is_cut_off(self):
        def results():
            yield Result(name="a")
            raise KeyboardInterrupt

        writer = Finisher()
        with pytest.raises(KeyboardInterrupt):
            run(results(), [("a", writer)], tally=Tally())
        failed = [Result(name=name, error=ImageError("bad")) for name in "bc"]
        assert not run(failed, [("a", writer)], tally=Tally(), max_errors=0)
        assert writer.finished == 0

    @pytest.mark.parametrize(
        ("ends", "kind", "message"),
        [
            (OSError(28, "No space left on device"), ConfigError, "Cannot write to a.mp4."),
            (RuntimeError("of the writer"), PluginError, "The writer of a.mp4 failed."),
            (ImageError("it has changed"), ImageError, "it has changed"),
        ],
    )
    def test_that_fails_ends_the_run(self, ends, kind, message):
        with pytest.raises(kind) as caught:
            run([], [("a.mp4", Finisher(ends))], tally=Tally())
        assert caught.value.what == message


class Keeper(Recorder):
    """A writer that knows what it has."""

    def __init__(self, *names):
        super().__init__()
        self.names = {*names}

    def has(self, name):
        return name in self.names

    def write(self, result):
        self.names.add(result.name)
        return super().write(result)


def result(name, count=0, **rest):
    boxes, scores = np.zeros((count, 4), np.float32), np.ones(count, np.float32)
    return Result(name=name, width=4, height=3, faces=Detections(boxes=boxes, scores=scores), **rest)


class TestRun:
    def test_counts_and_reports_each_result(self):
        reported, tally = [], Tally(total=3)
        run([result("a", 2), result("b", error=ImageError("odd")), result("c", 1)], tally=tally, report=reported.append)
        assert [one.name for one in reported] == ["a", "b", "c"]
        assert (tally.items, tally.failed, tally.faces, tally.progress) == (3, 1, 3, "3 of 3")

    def test_what_a_writer_makes_is_known_to_the_next(self):
        first, second, reported = Recorder({"drawing": "a_out.jpg"}), Recorder(), []
        run([result("a", extra={"frame": 7})], [("1", first), ("2", second)], tally=Tally(), report=reported.append)
        assert first.results[0].extra == {"frame": 7}
        assert second.results[0].extra == reported[0].extra == {"frame": 7, "drawing": "a_out.jpg"}

    def test_a_result_that_a_writer_cannot_take_bears_the_error_and_keeps_its_faces(self):
        second, tally = Recorder(), Tally()
        run([result("a", 2)], [("1", Recorder(error=ImageError("too wide"))), ("2", second)], tally=tally)
        [written] = second.results
        assert (written.reason, len(written.faces), tally.failed) == ("too wide", 2, 1)

    def test_without_memory_for_a_writer_other_settings_of_the_network_are_no_help(self):
        second = Recorder()
        run([result("a", 2)], [("out", Recorder(error=MemoryError())), ("2", second)], tally=Tally())
        [written] = second.results
        assert (written.reason, len(written.faces)) == ("there is too little memory to write it to out", 2)
        assert written.error.fix == OTHER_OUTPUT

    def test_that_writer_gets_it_once_more_as_the_error_that_it_is_now(self):
        class Picky(Recorder):
            def write(self, result):
                super().write(result)
                if result.error is None:
                    raise ImageError("too wide")
                return {"drawing": None}

        first, second = Picky(), Recorder()
        run([result("a")], [("1", first), ("2", second)], tally=Tally())
        assert [one.reason for one in first.results] == [None, "too wide"]
        assert second.results[0].to_dict()["drawing"] is None

    def test_a_place_that_cannot_be_written_to_ends_the_run_and_says_how_far_it_came(self):
        writer, tally = Recorder(), Tally(total=2)

        def results():
            yield result("a")
            writer.error = OSError(28, "No space left on device")
            yield result("b")

        with pytest.raises(ConfigError) as caught:
            run(results(), [("out", writer)], tally=tally)
        assert caught.value.what == "Cannot write to out."
        assert caught.value.why == (
            "[Errno 28] No space left on device",
            "1 of 2 images were done; what was written is whole",
        )

    @pytest.mark.parametrize("made", [5, "abc", {"faces": "no"}])
    def test_a_writer_that_returns_what_no_line_can_hold_is_named(self, made):
        with pytest.raises(PluginError):
            run([result("a")], [("out", Recorder(made))], tally=Tally())

    def test_a_writer_whose_code_fails_is_named(self):
        with pytest.raises(PluginError, match="The writer of out failed"):
            run([result("a")], [("out", Recorder(error=KeyError("oops")))], tally=Tally())

    def test_seconds_of_writers_are_a_stage_of_results_that_have_seconds(self, monkeypatch):
        ticks = iter(range(100))
        monkeypatch.setattr("polyface.jobs.run.time", types.SimpleNamespace(perf_counter=lambda: next(ticks)))
        second, tally = Recorder(), Tally()
        run([result("a", timing={"network": 3.0}), result("b")], [("1", Recorder()), ("2", second)], tally=tally)
        assert [one.timing for one in second.results] == [{"network": 3.0, "write": 1.0}, None]
        assert tally.stages == {"network": 3.0, "write": 2.0}


class TestResume:
    def test_leaves_out_what_every_writer_has_and_counts_it(self):
        tally = Tally(total=4)
        items = [Item(name=name) for name in "abcd"]
        left = leave_out_done(items, [Keeper("a", "b", "d"), Keeper("a", "d")], tally=tally)
        assert [item.name for item in left] == ["b", "c"]
        assert (tally.before, tally.items, tally.progress) == (2, 0, "2 of 4")

    def test_leaves_out_nothing_where_one_keeps_no_results(self):
        items = [Item(name=name) for name in "ab"]
        assert [*leave_out_done(items, [Keeper("a"), Recorder()], tally=Tally())] == items

    def test_gives_a_writer_nothing_that_it_has(self):
        keeper, other, tally = Keeper("a"), Recorder(), Tally()
        run([result("a"), result("b", 2), result("b", 1)], [("1", keeper), ("2", other)], tally=tally)
        assert [(one.name, len(one.faces)) for one in keeper.results] == [("b", 2)]
        assert [one.name for one in other.results] == ["a", "b", "b"]
        assert tally.items == 3


class TestReadImages:
    def test_yields_what_can_be_read_and_reports_all(self, tmp_path):
        (tmp_path / "a.png").touch()
        items = [
            Item(name="a", image=tmp_path / "a.png"),
            Item(name="b", problem="it is not there"),
            Item(name="c", image=tmp_path / "missing.png"),
        ]
        reported = []
        tally = Tally()
        images = read_images(items, Path.read_bytes, tally=tally, report=reported.append)
        read = [(item.name, image) for item, image in images]
        assert [name for name, _ in read] == ["a"]
        assert [(one.name, one.error is None) for one in reported] == [("a", True), ("b", False), ("c", False)]
        assert (tally.items, tally.failed) == (3, 2)

    def test_a_plugin_at_fault_ends_it(self):
        def read(image):
            raise PluginError("broken")

        with pytest.raises(PluginError):
            list(read_images([Item(name="a", image=1)], read, tally=Tally(), report=lambda _: None))
