"""Which images a folder is found to have."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from polyface.plugins.protocols import Search
from polyface.sources.files import Files


def touch(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def link(name, target):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).symlink_to(target)


def found(*locations, output=None, left_out=None, formats=(), follow_links=True):
    """The names that are found, and those with a problem apart."""
    skip = () if output is None else (Path(output),)
    search = Search(formats=formats, skip=skip, follow_links=follow_links)
    sources = [Files(location, search) for location in locations]
    items = [item for source in sources for item in source]
    for source in sources:
        assert source.count() == len(list(source))
        if left_out is not None:
            left_out.update(source.left_out)
    return [item.name for item in items if not item.problem], {
        item.name: item.problem for item in items if item.problem
    }


class TestEndings:
    def test_all_formats_that_are_read_are_found_in_any_case(self):
        names = [f"in/{ending}.{ending}" for ending in ("pgm", "jp2", "tga", "mpo", "apng", "JPG", "Tiff")]
        touch(*names, "in/notes.txt", "in/a.jpg.bak")
        assert found("in") == (sorted(names), {})

    def test_heic_is_found_so_that_its_error_says_what_to_install(self):
        touch("in/a.heic", "in/b.HEIF")
        assert found("in") == (["in/a.heic", "in/b.HEIF"], {})

    def test_a_format_that_is_asked_for_is_found_by_its_ending(self):
        touch("in/a.psd")
        assert found("in")[0] == []
        assert found("in", formats=["PSD"]) == (["in/a.psd"], {})

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF"])
    def test_a_file_without_an_ending_is_found_if_it_begins_as_an_image(self, kind):
        Path("in").mkdir()
        Image.new("RGB", (64, 48), "red").save("in/image", format=kind)
        assert found("in") == (["in/image"], {})

    @pytest.mark.parametrize("data", [b"", b"\xff", b"BMW is no bitmap", b"P5", b"P5 is a grey map", b"MM", b"\0" * 16])
    def test_another_file_without_an_ending_is_no_image(self, data):
        touch("in/a.png")
        Path("in/Makefile").write_bytes(data)
        assert found("in") == (["in/a.png"], {})

    def test_a_file_without_an_ending_that_cannot_be_read_is_counted(self, monkeypatch):
        touch("in/a.png", "in/secret")
        unguarded = open

        def guarded(path, *arguments, **options):
            if path == "in/secret":
                raise PermissionError(13, "Permission denied", path)
            return unguarded(path, *arguments, **options)

        monkeypatch.setattr("builtins.open", guarded)
        left_out = Counter()
        assert found("in", left_out=left_out) == (["in/a.png"], {})
        assert left_out == {"files without an ending that cannot be read": 1}

    def test_a_pipe_without_an_ending_is_not_waited_on(self):
        touch("in/a.png")
        os.mkfifo("in/pipe")
        assert found("in") == (["in/a.png"], {})


class TestLinks:
    def test_to_folders_are_followed_after_all_else(self):
        touch("elsewhere/b.png", "elsewhere/sub/c.png", "in/z/a.png")
        link("in/linked", "../elsewhere")
        assert found("in") == (["in/z/a.png", "in/linked/b.png", "in/linked/sub/c.png"], {})

    def test_to_folders_are_left_out_and_counted_where_they_are_not_wanted_and_those_to_files_are_read(self):
        touch("elsewhere/b.png", "in/a.png")
        link("in/linked", "../elsewhere")
        link("in/c.png", "../elsewhere/b.png")
        left_out = Counter()
        assert found("in", left_out=left_out, follow_links=False) == (["in/a.png", "in/c.png"], {})
        assert left_out == {"links to folders": 1}

    def test_that_is_named_itself_is_followed_in_any_case(self):
        touch("elsewhere/b.png")
        link("linked", "elsewhere")
        assert found("linked", follow_links=False) == (["linked/b.png"], {})

    def test_are_a_matter_of_an_option(self, polyface, image):
        image("elsewhere/a.png")
        image("in/b.png")
        link("in/linked", "../elsewhere")
        names = [
            [json.loads(line)["image"] for line in polyface("detect", "in", "--json", *option).stdout.splitlines()]
            for option in ([], ["--no-follow-links"])
        ]
        assert names == [["in/b.png", "in/linked/a.png"], ["in/b.png"]]

    def test_lead_to_each_folder_once_and_its_own_name_is_preferred(self):
        touch("in/z/a.png")
        link("in/a-link", "z")
        link("in/z/another", "../z")
        link("in/z/back", "..")
        assert found("in") == (["in/z/a.png"], {})

    def test_in_a_circle_end(self):
        touch("one/a.png", "two/b.png")
        link("one/there", "../two")
        link("two/there", "../one")
        assert found("one") == (["one/a.png", "one/there/b.png"], {})

    def test_to_a_folder_above_are_left_out_and_counted(self):
        touch("top/other/b.png", "top/in/a.png")
        link("top/in/up", "../../top")
        left_out = Counter()
        assert found("top/in", left_out=left_out) == (["top/in/a.png"], {})
        assert left_out == {"links to a folder above": 1}

    @pytest.mark.parametrize("target", ["../out", "../out/sub"])
    def test_never_lead_into_the_output_folder(self, target):
        touch("out/sub/a_out.jpg", "in/a.png")
        link("in/linked", target)
        assert found("in", output="out") == (["in/a.png"], {})

    def test_lead_anywhere_where_the_folder_itself_lies_in_the_output_folder(self):
        touch("out/in/a.png", "out/other/b.png")
        link("out/in/linked", "../other")
        assert found("out/in", output="out") == (["out/in/a.png", "out/in/linked/b.png"], {})

    def test_to_themselves_are_images_that_are_missing_and_the_rest_is_found(self):
        touch("in/a.png")
        link("in/loop.png", "loop.png")
        assert found("in", output="out") == (["in/a.png", "in/loop.png"], {})

    def test_to_nothing_that_could_be_folders_are_counted(self):
        touch("in/a.png")
        link("in/disk", "/no/such/disk")
        link("in/loop", "loop")
        left_out = Counter()
        assert found("in", left_out=left_out) == (["in/a.png"], {})
        assert left_out == {"links to nothing": 2}


class TestLeftOut:
    def test_are_hidden_files_and_folders_and_those_of_the_system(self):
        touch("in/._a.jpg", "in/.b.png", "in/.DS_Store", "in/.Trash-1000/c.png", "in/.git/d.png", "in/ok/e.png")
        touch("in/@eaDir/f.png", "in/__MACOSX/g.png", "in/$RECYCLE.BIN/h.png", "in/System Volume Information/i.png")
        touch("in/ok/lost+found/j.png", "in/#recycle/k.png", "in/@Recycle/l.png", "in/#snapshot/m.png")
        left_out = Counter()
        assert found("in", left_out=left_out) == (["in/ok/e.png"], {})
        assert left_out == {"hidden files": 2, "hidden folders": 2, "folders of the system": 8}

    def test_are_archives_in_folders(self):
        touch("in/a.png", "in/b.tar", "in/c.TAR.GZ", "in/d.tgz", "in/e.gz", "in/._b.tar")
        left_out = Counter()
        assert found("in", left_out=left_out) == (["in/a.png"], {})
        assert left_out == {"archives": 3, "hidden files": 1}

    def test_what_is_named_itself_is_read(self):
        touch(".hidden/.a.png", ".hidden/b.png")
        assert found(".hidden/.a.png", ".hidden") == ([".hidden/.a.png", ".hidden/b.png"], {})

    def test_detect_says_how_many_in_a_line(self, polyface, image):
        image("in/a.png")
        touch("in/._a.png", "in/._b.png", "in/.git/c.png")
        result = polyface("detect", "in")
        assert result.exit_code == 0
        assert result.stderr == ("note: left out: hidden files (2), hidden folders (1); what is named itself is read\n")


class TestFolders:
    def test_names_are_those_that_the_user_would_write(self):
        touch("in/a.png")
        assert found("in/", "./in", "in//a.png")[0] == ["in/a.png"] * 3
        os.chdir("in")
        assert found(".")[0] == ["a.png"]

    def test_within_folders_without_end_are_walked(self):
        touch("in/a.png")
        here = Path.cwd()
        os.chdir("in")
        for _ in range(1200):
            Path("d").mkdir()
            os.chdir("d")
        touch("b.png")
        os.chdir(here)
        try:
            names, problems = found("in")
        finally:
            (here / "in").rename(here / "deep")  # pytest could not remove it
            remove_deep(here / "deep")
        assert names == ["in/a.png", f"in/{'d/' * 1200}b.png"]
        assert problems == {}

    def test_deeper_than_paths_can_be_are_a_problem_of_their_own(self):
        touch("in/a.png")
        here = Path.cwd()
        os.chdir("in")
        for _ in range(40):
            Path("d" * 200).mkdir()
            os.chdir("d" * 200)
        os.chdir(here)
        try:
            names, problems = found("in")
        finally:
            remove_deep(here / "in")
        assert names == ["in/a.png"]
        assert [reason for reason in problems.values() if "File name too long" not in reason] == []
        assert len(problems) == 1

    def test_that_may_not_be_looked_into_are_a_problem_of_their_own(self, monkeypatch):
        touch("in/a.png")
        is_dir = Path.is_dir

        def guarded(self):
            if self.name == "closed":
                raise PermissionError(13, "Permission denied", str(self))
            return is_dir(self)

        monkeypatch.setattr(Path, "is_dir", guarded)
        assert found("closed", "in") == (["in/a.png"], {"closed": "it cannot be looked at: Permission denied"})


def remove_deep(folder):
    """Remove folders within folders, deeper than a path may be long."""
    here = Path.cwd()
    os.chdir(folder)
    depth = 0
    while inner := [path for path in Path().iterdir() if path.is_dir()]:
        os.chdir(inner[0])
        depth += 1
    for _ in range(depth):
        for path in Path().iterdir():
            path.unlink()
        name = Path.cwd().name if depth < 100 else "d"
        os.chdir("..")
        Path(name).rmdir()
    os.chdir(here)
