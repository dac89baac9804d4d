"""What polyface relies on in a writer: that every result is written, whole, where it belongs, and nowhere else."""

from __future__ import annotations

import contextlib
import errno
import gc
import itertools
import json
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, BinaryIO, ClassVar, TypeAlias

import numpy as np
import pytest

from polyface.errors import ImageError, described
from polyface.images.reading import decode
from polyface.plugins.options import check_options
from polyface.plugins.protocols import Resumable, Writer
from polyface.plugins.records import WriterSpec
from polyface.results import Detections, Item, Result
from polyface.storage.places import LineFile, Place
from polyface.testing.conformance.base import Conformance, fail, fail_where_raised

Tree: TypeAlias = dict[Path, bytes]
"""What each file below a folder holds."""

ODD_NAMES = (
    "with a space.jpg",
    "Zoë/été/猫.jpg",
    'quo"te, comma; and\ttab.jpg',
    "line\nend.jpg",
    "back\\slash.jpg",
    "no encoding \udcff.jpg",
)


class Opened(Place):
    """A writer on a place of its own, which is this, and what the place held after each step and each call.

    To close it is to let it go without a word to the writer, as the end of its process does.

    Args:
        spec: the writer's record.
        root: a folder that is the place, or that holds it.

    Attributes:
        named: the files that were written by way of the place.
        steps: what all files held after each file or line that was written.
        calls: the same after each call of the writer, its making among them.
        full: from now on nothing more can be written.
    """

    def __init__(self, spec: WriterSpec, root: Path) -> None:
        folder = spec.writes == "folder"
        super().__init__(root if folder else root / f"results{(*spec.endings, '')[0]}", folder=folder)
        self.named: set[Path] = set()
        self.steps: list[Tree] = []
        self.full = False
        try:
            self.writer: Writer = spec.factory.load()(self, **check_options(f"writer '{spec.name}'", spec.options, {}))
        except BaseException:
            self.close()
            raise
        self.calls = [tree(root)]

    def write(self, *results: Result) -> Mapping[str, Any] | None:
        """Have results written, and return what was made of the last."""
        made = None
        for result in results:
            made = self.writer.write(result)
            self.calls.append(tree(self.root))
        return made

    def finish(self) -> None:
        """Close the writer, and then the place."""
        self.writer.close()
        self.calls.append(tree(self.root))
        self.close()

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Write in the block, as far as there is room, and note what the place holds then."""
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device", str(self.path))
        yield
        self.steps.append(tree(self.root))

    @contextlib.contextmanager
    def atomic_write(self, name: PurePath | None = None) -> Iterator[BinaryIO]:
        """Note what is written."""
        self.named.add(self.root / self._named(name))
        with self.step(), super().atomic_write(name) as stream:
            yield stream

    def lines(self, name: PurePath | None = None) -> LineFile:
        """Note each line that is written."""
        self.named.add(self.root / self._named(name))
        return _Lines(self, str(self._named(name)))


class _Lines(LineFile):
    _place: Opened

    def add(self, line: bytes) -> None:
        with self._place.step():
            super().add(line)


class WriterConformance(Conformance):
    """Whether a writer keeps the contract of :class:`polyface.plugins.protocols.Writer`.

    Attributes:
        writer: the writer's name.

    The fixture ``plugins`` (where names are looked up) may be overridden.
    """

    record = WriterSpec
    writer: ClassVar[str] = ""

    @pytest.fixture
    def opened(
        self, spec: WriterSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Callable[[str], Opened]]:
        """A function from the name of a folder to the writer, opened on a place there."""
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        there: list[Opened] = []

        def opened(name: str = "there") -> Opened:
            there.append(Opened(spec, tmp_path / name))
            return there[-1]

        yield opened
        for one in there:
            one.close()

    def test_factory_gives_a_writer(self, opened: Callable[..., Opened], spec: WriterSpec) -> None:
        """What it gives is called by the names of the protocol, and by no other."""
        made = opened().writer
        if not isinstance(made, Writer):
            fail(f"'{spec.factory.target}' gives a {type(made).__name__}, which has no write and close.")

    def test_every_result_is_written(self, opened: Callable[..., Opened]) -> None:
        """What a writer cannot take is lost, though its faces were found."""
        for number, (what, job) in enumerate(jobs().items()):
            there = opened(f"job-{number}")
            for which, result in job.items():
                with fail_where_raised(f"In a job {what}, {which} cannot be written."):
                    there.write(result)
            there.finish()
            if not any(there.calls[-1].values()):
                fail(f"Of a job {what}, nothing is there after close.")

    def test_odd_names_are_written_or_refused(self, opened: Callable[..., Opened]) -> None:
        """Files are called whatever their system allows, and one of them must not end a job."""
        there = opened()
        for name in ODD_NAMES:
            # An ImageError is said of this one image, and the next may be written.
            ends = fail_where_raised(f"An image of the name {name!r} ends the job.", "raise ImageError")
            with ends, contextlib.suppress(ImageError):
                there.write(result_of(name))
        there.finish()

    def test_a_result_is_there_once_it_is_written(self, opened: Callable[..., Opened]) -> None:
        """A job may be killed after days, and what it found must be left."""
        there = opened()
        for number in range(3):
            there.write(result_of(f"{number}.jpg"))
            if there.calls[-1] == there.calls[-2]:
                fail("After a write there is nothing new in the place.", fix="write each result as it comes")

    def test_files_are_whole_at_any_moment(self, opened: Callable[..., Opened]) -> None:
        """A job may be killed between two steps, and a half of a result looks like the whole of it."""
        there = opened()
        there.write(*jobs()["with landmarks"].values())
        there.finish()
        for step in there.steps:
            for path, content in step.items():
                if content and content not in [call.get(path) for call in there.calls]:
                    fail(
                        f"In the middle of a call, {path.relative_to(there.root)} holds {len(content)} bytes that it "
                        "never holds between calls.",
                        fix="write what belongs together in one line, or by one atomic_write",
                    )

    def test_what_a_killed_run_left_is_gone_on_with(self, opened: Callable[..., Opened]) -> None:
        """A run that was killed is started again, on the same place."""
        there = opened()
        there.write(result_of("0.jpg"), result_of("1.jpg"))
        there.close()
        with fail_where_raised("It cannot go on where a run was killed."):
            again = opened()
            before, after = there.calls[-1], again.calls[0]
            if gone := [path.name for path, content in before.items() if content and not after.get(path)]:
                fail("What a run before wrote is gone when it is opened.", why=gone, fix="go on with what is there")
            again.write(*(result_of(f"{number}.jpg") for number in range(3)))
            again.finish()

    def test_a_resumed_run_ends_as_an_undisturbed_one(self, opened: Callable[..., Opened], spec: WriterSpec) -> None:
        """Whoever goes on after days must not have to ask what was lost, or is there twice."""
        trees: list[Tree] = []
        for done in range(-1, len(jobs()["with landmarks"]) + 1):
            results = {result.name: result for result in jobs()["with landmarks"].values()}
            there = opened(f"killed-{done}")
            known: set[str] = set()
            if done >= 0:
                there.write(*itertools.islice(results.values(), done))
                there.close()
                there = opened(f"killed-{done}")
                if isinstance(there.writer, Resumable):
                    known = set(filter(there.writer.has, results))
                    if known != {*itertools.islice(results, done)}:
                        fail(f"Of {done} results that were written, it has others.", why=sorted(known))
                elif spec.writes == "file":
                    return  # polyface refuses a file that has results before it asks such a writer
            there.write(*(result for name, result in results.items() if name not in known))
            there.finish()
            trees.append({path.relative_to(there.root): content for path, content in there.calls[-1].items()})
            if off := sorted(
                str(path) for path in {*trees[0], *trees[-1]} if trees[0].get(path) != trees[-1].get(path)
            ):
                fail(f"Killed after {done} results and resumed, it leaves other files.", why=off)

    def test_closing_twice_is_fine(self, opened: Callable[..., Opened]) -> None:
        """What ends a job closes its writers, whatever closed them before."""
        for name, results in (("empty", []), ("full", [result_of("0.jpg")])):
            there = opened(name)
            there.write(*results)
            with fail_where_raised(f"Closing it after {len(results)} results raises."):
                there.writer.close()
                before = tree(there.root)
                there.writer.close()
            if tree(there.root) != before:
                fail("A second close changes what was written.")

    def test_the_same_results_give_the_same_bytes(self, opened: Callable[..., Opened]) -> None:
        """Runs are compared by what they wrote."""
        trees = []
        for name in ("one", "other"):
            there = opened(name)
            there.write(*jobs()["with landmarks"].values())
            there.finish()
            trees.append({path.relative_to(there.root): content for path, content in there.calls[-1].items()})
        one, other = trees
        off = sorted(str(path) for path in one.keys() | other.keys() if one.get(path) != other.get(path))
        if off:
            fail("The same results give other files.", why=off, fix="write no time, and nothing in the order of a set")

    def test_what_it_made_is_plain(self, opened: Callable[..., Opened]) -> None:
        """It goes into the lines of the writers that come after."""
        there = opened()
        for which, result in jobs()["with landmarks"].items():
            made: Any = there.write(result)
            try:
                plain = made is None or (isinstance(made, Mapping) and json.loads(json.dumps(dict(made))) == dict(made))
            except (TypeError, ValueError):
                plain = False
            if not plain:
                fail(f"For {which} it returns {made!r}.", fix="return None, or a mapping that JSON can hold")

    def test_results_are_not_changed(self, opened: Callable[..., Opened]) -> None:
        """The next writer gets the same one."""
        there = opened()
        for which, result in jobs()["with an extra column"].items():
            before = result.to_dict()
            pixels = None if result.image is None else result.image.pixels.copy()
            there.write(result)
            if result.to_dict() != before or (pixels is not None and not np.array_equal(result.image.pixels, pixels)):
                fail(f"It changes {which}.")

    def test_no_result_is_kept(self, opened: Callable[..., Opened]) -> None:
        """A job of a million images would fill the memory."""
        there = opened()
        kept: list[weakref.ref[Any]] = []
        for number in range(4):
            result = result_of(f"{number}.jpg")
            kept += [weakref.ref(part) for part in (result, result.faces, result.faces.boxes, result.image)]
            there.write(result)
            del result
        gc.collect()
        alive = [type(part).__name__ for part in (ref() for ref in kept[:-4]) if part is not None]
        if alive:
            fail("It keeps results that are long written.", why=[f"a {name}" for name in alive])

    def test_no_result_takes_the_place_of_another(self, opened: Callable[..., Opened], spec: WriterSpec) -> None:
        """Images of two folders are called alike, and both were asked for."""
        there = opened()
        there.write(result_of("one/same.jpg"), result_of("other/same.jpg"))
        *_, first, second = there.calls
        gone = [path for path, content in first.items() if not second.get(path, b"").startswith(content)]
        if gone and spec.writes == "folder":
            fail(
                "A second image of the same file name replaces what was written of the first.",
                why=[str(path.relative_to(there.root)) for path in gone],
            )

    def test_it_writes_by_its_place_alone(self, opened: Callable[..., Opened], tmp_path: Path) -> None:
        """What goes past the place follows links, mixes with the files of other runs, and is found half written."""
        there = opened()
        for name in ("../0.jpg", "/1.jpg", "a/2.jpg"):
            with contextlib.suppress(ImageError):
                there.write(result_of(name))
        there.finish()
        past = tree(tmp_path).keys() - there.named
        if past:
            fail(
                "It writes files that its place does not know of.",
                why=sorted(str(path.relative_to(tmp_path)) for path in past),
                fix="write by place.atomic_write or place.lines",
            )

    def test_a_full_disk_ends_the_job(self, opened: Callable[..., Opened]) -> None:
        """A job whose results go nowhere must not go on for days."""
        there = opened()
        there.write(result_of("0.jpg"))
        there.full = True
        try:
            there.write(result_of("1.jpg"))
            there.writer.close()
        except OSError:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not what the contract names
            fail("Where the disk is full, it raises another error than OSError.", why=[described(error)])
        fail("Where the disk is full, it goes on without a word.", fix="let the OSError of the place pass")


def tree(folder: Path) -> Tree:
    """Return what the files below a folder hold, but for locks."""
    return {
        path: path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not (path.name.startswith(".") and path.suffix == ".lock")
    }


def result_of(
    name: str, faces: int = 2, *, landmarks: bool = True, extra: bool = False, error: ImageError | None = None
) -> Result:
    """Return the result of an image of 64x48 pixels, of that name, in which so many faces were found."""
    if error is not None:
        return Result(name=name, error=error, item=Item(name=name, image=name))
    corners = np.arange(faces, dtype=np.float32)[:, None]
    found = Detections(
        boxes=np.hstack([corners + 1, corners + 2, corners + 21, corners + 32]),
        scores=np.linspace(0.9, 0.6, faces, dtype=np.float32),
        landmarks=np.tile(np.array([[4, 5], [9, 5]], np.float32), (faces, 1, 1)) if landmarks else None,
        extra={"track_id": np.arange(faces)} if extra else {},
    )
    pixels = np.full((48, 64, 3), 7, np.uint8)
    return Result(
        name=name,
        width=64,
        height=48,
        faces=found,
        timing={"network": 0.25} if extra else None,
        extra={"frame": 3} if extra else {},
        item=Item(name=name, image=pixels),
        image=decode(pixels),
    )


def jobs() -> dict[str, dict[str, Result]]:
    """Return the results of jobs, each as one detector gives them, by what they are."""
    columns: dict[str, dict[str, Any]] = {
        "with landmarks": {},
        "without landmarks": {"landmarks": False},
        "with an extra column": {"extra": True},
    }
    return {
        what: {
            "an image with faces": result_of("a/faces.jpg", **given),
            "an image without faces": result_of("a/none.jpg", 0, **given),
            "an image that cannot be read": result_of("a/damaged.jpg", error=ImageError("it is damaged")),
            "a further image with faces": result_of("b/faces.jpg", 3, **given),
        }
        for what, given in columns.items()
    }
