"""Images in tar archives, which Python's own module writes here: in order, nothing unpacked, and nothing believed."""

from __future__ import annotations

import gzip
import io
import os
import random
import struct
import tarfile
import tracemalloc
from pathlib import Path, PurePath

import pytest
from PIL import Image

from polyface.plugins.protocols import Search
from polyface.sources import archives
from polyface.sources.archives import TarArchive

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def png(width=8):
    data = io.BytesIO()
    Image.new("RGB", (width, 8)).save(data, format="PNG")
    return data.getvalue()


def member(name, kind=tarfile.REGTYPE, size=0, linkname=""):
    found = tarfile.TarInfo(name)
    found.type, found.size, found.linkname = kind, size, linkname
    return found


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def archive():
    """Write an archive of files, by name and content, and of other members."""

    def write(path, *members, how=tarfile.PAX_FORMAT, **options):
        mode = "w:gz" if path.endswith("gz") else "w"
        with tarfile.open(path, mode, format=how, **options) as file:
            for one in members:
                if isinstance(one, tarfile.TarInfo):
                    file.addfile(one)
                else:
                    file.addfile(member(one[0], size=len(one[1])), io.BytesIO(one[1]))
        return path

    return write


def listed(path, **search):
    """Names and images of the items that are fine, the problems of the others, and what was left out."""
    source = TarArchive(path, Search(**search))
    items = list(source)
    assert source.count() is None
    fine = [(item.name, item.image) for item in items if not item.problem]
    return fine, {item.name: item.problem for item in items if item.problem}, dict(source.left_out)


class TestImages:
    @pytest.mark.parametrize("how", FORMATS)
    @pytest.mark.parametrize("path", ["shard.tar", "shard.tar.gz", "shard.tgz", "SHARD.TAR"])
    def test_come_in_their_order_with_their_bytes(self, archive, path, how):
        images = {f"{number:04}.png": png(number) for number in (2, 1, 3)}
        archive(path, *images.items(), how=FORMATS[how])
        assert listed(path) == ([(f"{path}/{name}", data) for name, data in images.items()], {}, {})

    @pytest.mark.parametrize("path", ["in/shard-000.tar", "in/shard-000.tar.gz"])
    def test_lie_in_a_folder_that_is_called_as_the_archive(self, archive, path):
        Path("in").mkdir()
        archive(path, ("./sub/a.png", png()), ("b.png", png()))
        items = [(item.name, item.relative) for item in TarArchive(path, Search())]
        assert items == [
            (f"{path}/sub/a.png", PurePath("shard-000/sub/a.png")),
            (f"{path}/b.png", PurePath("shard-000/b.png")),
        ]

    @pytest.mark.parametrize("how", ["gnu", "pax"])
    def test_have_names_of_any_length_and_any_letters(self, archive, how):
        names = ["x" * 300 + ".png", "é/日本.png", os.fsdecode(b"caf\xe9.png"), "d/" * 120 + "a.png", "two\nlines.png"]
        archive("a.tar", *((name, png()) for name in names), how=FORMATS[how])
        assert [name for name, _ in listed("a.tar")[0]] == [f"a.tar/{name}" for name in names]

    def test_have_names_in_two_parts_as_posix_has_them(self, archive):
        name = "d" * 100 + "/" + "a" * 90 + ".png"
        archive("a.tar", (name, png()), how=tarfile.USTAR_FORMAT)
        assert [found for found, _ in listed("a.tar")[0]] == [f"a.tar/{name}"]

    def test_are_found_by_their_ending_or_else_their_beginning_whatever_their_length(self, archive):
        files = [(f"{size}", png()[:8] + b"x" * size) for size in (0, 8, 503, 504, 505, 1016)]
        archive("a.tar.gz", *files, ("none", b"x" * 512), ("one.JPG", b"x" * 512), ("empty", b""))
        found, problems, left_out = listed("a.tar.gz")
        assert found == [*((f"a.tar.gz/{name}", data) for name, data in files), ("a.tar.gz/one.JPG", b"x" * 512)]
        assert (problems, left_out) == ({}, {"files in archives that are no images": 2})

    def test_of_a_format_that_is_asked_for_are_found(self, archive):
        archive("a.tar", ("a.psd", b"1"))
        assert [name for name, _ in listed("a.tar", formats=("PSD",))[0]] == ["a.tar/a.psd"]

    def test_come_after_attributes_of_the_whole_archive(self, archive):
        archive("a.tar", ("a.png", png()), ("b.png", png()), pax_headers={"comment": "0" * 600})
        assert [name for name, _ in listed("a.tar")[0]] == ["a.tar/a.png", "a.tar/b.png"]

    def test_follow_what_gnu_counts_in_binary(self, archive):
        archive("a.tar", ("a.png", png()))
        data = bytearray(Path("a.tar").read_bytes())
        data[124:136] = b"\x80" + struct.pack(">3xQ", len(png()))
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:512])
        Path("a.tar").write_bytes(data)
        assert listed("a.tar")[0] == [("a.tar/a.png", png())]

    def test_of_archives_that_were_joined_are_all_found(self, archive):
        for ending in (".tar", ".tgz"):
            parts = [Path(archive(f"{name}{ending}", (f"{name}.png", png()))).read_bytes() for name in "ab"]
            Path(f"ab{ending}").write_bytes(b"".join(parts) + (b"" if ending == ".tgz" else bytes(100)))
            assert listed(f"ab{ending}") == ([(f"ab{ending}/a.png", png()), (f"ab{ending}/b.png", png())], {}, {})

    def test_of_one_name_are_told_apart_by_numbers(self, archive):
        archive("a.tar", ("a.png", png(1)), ("a.png", png(2)), ("b.png", png(3)), ("./a.png", png(4)))
        fine, problems, _ = listed("a.tar")
        assert fine == [
            ("a.tar/a.png", png(1)),
            ("a.tar/a.png#2", png(2)),
            ("a.tar/b.png", png(3)),
            ("a.tar/a.png#3", png(4)),
        ]
        assert problems == {}
        assert {item.relative for item in TarArchive("a.tar", Search())} == {PurePath("a/a.png"), PurePath("a/b.png")}

    def test_are_asked_for_one_by_one(self, archive):
        archive("a.tar", *((f"{number}.png", os.urandom(2**20)) for number in range(20)))
        tracemalloc.start()
        for _ in TarArchive("a.tar", Search()):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 5 * 2**20


class TestLeftOut:
    def test_is_what_is_no_image_and_nothing_of_it_is_followed(self, archive):
        Path("secret.png").write_bytes(png())
        archive(
            "a.tar",
            member("folder", tarfile.DIRTYPE),
            member("link.png", tarfile.SYMTYPE, linkname="/etc/passwd"),
            member("hard.png", tarfile.LNKTYPE, linkname="../secret.png"),
            member("disk.png", tarfile.BLKTYPE),
            member("pipe.png", tarfile.FIFOTYPE),
            ("a.json", b"{}"),
            ("a.cls", b"1"),
            ("/secret.png", png()),
            ("../secret.png", png()),
            ("b/../../secret.png", png()),
            ("._b.png", png()),
            ("__MACOSX/b.png", png()),
            ("b.png", png()),
        )
        found, problems, left_out = listed("a.tar")
        assert (found, problems) == ([("a.tar/b.png", png())], {})
        assert left_out == {
            "links in archives": 2,
            "files in archives that are no images": 4,
            "files in archives whose names lead out of them": 3,
            "hidden files in archives": 2,
        }

    def test_is_counted_anew_each_time(self, archive):
        source = TarArchive(archive("a.tar", ("a.png", png()), ("a.json", b"{}")), Search())
        assert len(list(source)) == len(list(source)) == 1
        assert source.left_out == {"files in archives that are no images": 1}

    def test_is_a_file_of_which_only_parts_are_there(self):
        sparse = member("GNUSparseFile.0/a.png", size=512)
        sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.name": "a.png"}
        with tarfile.open("a.tar", "w", format=tarfile.PAX_FORMAT) as file:
            file.addfile(sparse, io.BytesIO(b"x" * 512))
            file.addfile(member("b.png", size=len(png())), io.BytesIO(png()))
        assert [name for name, _ in listed("a.tar")[0]] == ["a.tar/b.png"]


class TestProblems:
    def problem_of(self, path):
        found, problems, _ = listed(path)
        assert list(problems) == [path]
        return len(found), problems[path]

    def test_are_a_missing_file_and_one_that_has_no_images(self, archive):
        assert self.problem_of("a.tar") == (0, "there is no such file or folder")
        assert self.problem_of(archive("b.tar", ("a.txt", b""))) == (0, "the archive has no images")
        Path("c.tar").touch()
        assert self.problem_of("c.tar") == (0, "the archive cannot be read: it is empty")
        Path("d.tar").write_text("version https://git-lfs.github.com/spec/v1\n" * 40)
        assert self.problem_of("d.tar") == (0, "the archive cannot be read: it is no tar archive")

    @pytest.mark.parametrize(
        ("kept", "images", "at"),
        [(300, 0, 0), (600, 0, 0), (1000, 1, 1024), (1024, 1, 1024), (1900, 1, 1024), (2048, 2, 2048)],
    )
    def test_a_cut_archive_gives_the_images_before(self, archive, kept, images, at):
        # Each has a block for its header, and one that it fills but for 112 bytes.
        archive("a.tar", *((f"{number}.png", b"x" * 400) for number in range(3)), how=tarfile.USTAR_FORMAT)
        Path("a.tar").write_bytes(Path("a.tar").read_bytes()[:kept])
        further, where = (" any further", f" (after {at:,} bytes)") if at else ("", "")
        assert self.problem_of("a.tar") == (images, f"the archive cannot be read{further}: it is cut short{where}")

    def test_a_folder_as_before_posix_has_no_bytes(self, archive):
        header = member("folder/", tarfile.AREGTYPE, size=512).tobuf(tarfile.USTAR_FORMAT)
        Path("b.tar").write_bytes(header + Path(archive("a.tar", ("a.png", png()))).read_bytes())
        assert listed("b.tar") == ([("b.tar/a.png", png())], {}, {})

    def test_a_cut_packed_archive_gives_the_images_before(self, archive):
        archive("a.tgz", ("a.png", os.urandom(5000)), ("b.png", os.urandom(5000)))
        Path("a.tgz").write_bytes(Path("a.tgz").read_bytes()[:7000])
        number, problem = self.problem_of("a.tgz")
        assert (number, problem.partition(": ")[0]) == (1, "the archive cannot be read any further")

    def test_a_packed_archive_whose_checksum_is_wrong_gives_its_images_and_says_so(self, archive):
        archive("a.tgz", ("a.png", os.urandom(5000)), ("b.png", os.urandom(5000)), compresslevel=0)
        data = bytearray(Path("a.tgz").read_bytes())
        data[2000] ^= 1  # of the first image, which is stored as it is
        Path("a.tgz").write_bytes(data)
        number, problem = self.problem_of("a.tgz")
        assert number == 2
        assert problem.startswith("the archive cannot be read any further: CRC check failed")

    @pytest.mark.parametrize("at", [0, 100, 125, 150, 156])
    def test_a_damaged_header_ends_it(self, archive, at):
        archive("a.tar", ("a.png", png()), ("b.png", png()), how=tarfile.USTAR_FORMAT)
        data = bytearray(Path("a.tar").read_bytes())
        data[1024 + at] ^= 1
        Path("a.tar").write_bytes(data)
        problem = "the archive cannot be read any further: it is damaged (after 1,024 bytes)"
        assert self.problem_of("a.tar") == (1, problem)

    def test_a_header_that_announces_more_than_it_may_is_not_believed(self):
        header = member("x", tarfile.XHDTYPE, size=2**40).tobuf(tarfile.GNU_FORMAT)
        Path("a.tar").write_bytes(header)
        with gzip.open("b.tgz", "wb") as file:
            file.write(member("x", tarfile.GNUTYPE_LONGNAME, size=2**21).tobuf() + bytes(2**21 + 1024))
        tracemalloc.start()
        for path, size in (("a.tar", 2**40), ("b.tgz", 2**21)):
            why = f"a header has {size:,} bytes, where at most 1,048,576 are read"
            assert self.problem_of(path) == (0, f"the archive cannot be read: {why}")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 2**20

    def test_a_member_that_announces_more_than_there_is_takes_no_memory(self):
        Path("a.tar").write_bytes(member("a.png", size=200_000_000).tobuf() + bytes(1024))
        tracemalloc.start()
        assert self.problem_of("a.tar") == (0, "the archive cannot be read: it is cut short")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 4 * 2**20

    def test_a_member_that_is_too_long_is_a_problem_of_its_own(self, archive, monkeypatch):
        monkeypatch.setattr(archives, "LONGEST_MEMBER", 1000)
        archive("a.tar", ("a.png", b"x" * 1001), ("b.png", png()))
        found, problems, _ = listed("a.tar")
        assert [name for name, _ in found] == ["a.tar/b.png"]
        assert problems == {"a.tar/a.png": "it is too long: 1,001 bytes; at most 1,000 are read"}

    @pytest.mark.parametrize("records", [b"9 size=-1\n", b"99 path=x\n", b"3 path=x\n", b"12 size=1_0_\n"])
    def test_attributes_that_are_damaged_end_it(self, records):
        header = member("x", tarfile.XHDTYPE, size=len(records)).tobuf()
        Path("a.tar").write_bytes(header + records.ljust(512, b"\0") + member("a.png").tobuf() + bytes(1024))
        assert self.problem_of("a.tar") == (0, "the archive cannot be read: it is damaged")

    def test_sparse_files_of_gnu_end_it(self):
        Path("a.tar").write_bytes(member("a.png", tarfile.GNUTYPE_SPARSE, size=512).tobuf() + bytes(1536))
        why = "it holds sparse files, which are not read"
        assert self.problem_of("a.tar") == (0, f"the archive cannot be read: {why}")


def test_whatever_is_in_an_archive_comes_as_items_that_stay_below(archive):
    archive("a.tar", ("a.png", png()), ("x/" * 80 + "b.png", png()), ("c.json", b"{}"), ("é.png", png()))
    seed, rng = Path("a.tar").read_bytes(), random.Random(7)  # noqa: S311 - nothing secret
    problems = set()
    for number in range(500):
        data = bytearray(seed[: 12 * 512])
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(0, len(data), 512) + rng.choice([0, 100, 124, 130, 135, 156, 345])] = rng.choice(
                b"\0 /.0157xgLKS\x80\xff"
            )
        for start in range(0, len(data), 512):  # right sums, so that what lies behind them is read
            if data[start + 257 : start + 262] == b"ustar":
                data[start + 148 : start + 156] = b" " * 8
                data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
        Path("b.tar").write_bytes(gzip.compress(data, 1) if number % 4 == 0 else data)
        items = list(TarArchive("b.tar", Search()))
        assert all(not item.relative.is_absolute() and ".." not in item.relative.parts for item in items)
        assert all(item.name == "b.tar" or item.name.startswith("b.tar/") for item in items)
        problems |= {item.problem for item in items}
    assert len(problems) > 5
