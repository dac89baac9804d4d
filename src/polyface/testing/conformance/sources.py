"""What polyface relies on in a source: the same items each time, and that nothing it meets ends a job."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from polyface.errors import ImageError
from polyface.images.reading import read_image
from polyface.jobs.inputs import select_source
from polyface.plugins.manager import PluginManager
from polyface.plugins.options import check_options
from polyface.plugins.protocols import Search, Source
from polyface.plugins.records import SourceSpec
from polyface.results import Item
from polyface.testing.conformance.base import Conformance, fail, fail_where_raised


class SourceConformance(Conformance):
    """Whether a source keeps the contract of :class:`polyface.plugins.protocols.Source`.

    Attributes:
        source: the source's name.

    The fixture ``location`` must be overridden: what a user names, with at least two images in it. ``missing`` (a
    location where nothing is), ``damaged`` (one where something else is) and ``plugins`` (where names are looked up)
    may be.
    """

    record = SourceSpec
    source: ClassVar[str] = ""

    @pytest.fixture
    def location(self) -> str:
        """What a user names, with at least two images in it: the author must supply it."""
        fail("There is no location with images.", fix="override the fixture location")

    @pytest.fixture
    def missing(self, spec: SourceSpec, tmp_path: Path) -> str:
        """A location where nothing is."""
        return _location(spec, tmp_path / "missing")

    @pytest.fixture
    def damaged(self, spec: SourceSpec, tmp_path: Path) -> str:
        """A location where something else is than what it is called: bytes drawn by chance."""
        location = _location(spec, tmp_path / "damaged")
        Path(location.removeprefix((*spec.prefixes, "")[0])).write_bytes(random.Random(1).randbytes(1000))  # noqa: S311
        return location

    @pytest.fixture
    def opened(self, spec: SourceSpec) -> Callable[[str], Source]:
        """A function from a location to the source of what is there."""
        factory: Callable[..., Source] = spec.factory.load()
        options = check_options(f"source '{spec.name}'", spec.options, {})
        return lambda location: factory(location, Search(), **options)

    def test_factory_gives_a_source(self, opened: Callable[[str], Source], location: str, spec: SourceSpec) -> None:
        """What it gives is called by the names of the protocol, and by no other."""
        made = opened(location)
        if not isinstance(made, Source):
            fail(f"'{spec.factory.target}' gives a {type(made).__name__}, which has no left_out, __iter__ and count.")

    def test_its_location_selects_it(self, location: str, spec: SourceSpec, plugins: PluginManager) -> None:
        """A location that another source claims is read as something else."""
        selected = select_source(location, plugins)
        if selected is not spec:
            fail(
                f"'{location}' selects the source '{selected.name}'.", fix="name its prefixes or endings in the record"
            )

    def test_items_come_in_the_same_order_each_time(self, opened: Callable[[str], Source], location: str) -> None:
        """Two runs are compared, and one goes on where another stopped, by the order."""
        source = opened(location)
        first, again, other = list(source), list(source), list(opened(location))
        if len(first) < 2:
            fail(f"'{location}' gives {len(first)} items.", fix="let the fixture location name at least two images")
        for items, what in ((again, "A second time"), (other, "Opened again")):
            if [_facts(item) for item in items] != [_facts(item) for item in first]:
                fail(f"{what}, it gives other items, or in another order.", fix="sort what a folder or a set gives")

    def test_count_is_right_or_none(self, opened: Callable[[str], Source], location: str) -> None:
        """A progress bar that ends at 90 % looks like a job that hangs."""
        source = opened(location)
        count, there = source.count(), len(list(source))
        if count not in (None, there):
            fail(f"It counts {count} items and gives {there}.", fix="return None where the number is not known")

    def test_names_are_unique(self, opened: Callable[[str], Source], location: str) -> None:
        """Results are told apart by them, and one of two would be lost."""
        twice = [name for name, times in Counter(item.name for item in opened(location)).items() if times > 1]
        if twice:
            fail("Several items have one name.", why=twice)

    def test_relative_paths_stay_below(self, opened: Callable[[str], Source], location: str) -> None:
        """What is written of an item lies there, below the folder of results."""
        for item in opened(location):
            if item.relative.is_absolute() or ".." in item.relative.parts or not item.relative.name:
                fail(f"The relative path of '{item.name}' is '{item.relative}', which lies in no folder of results.")

    def test_images_can_be_read(self, opened: Callable[[str], Source], location: str) -> None:
        """An item is an image for polyface.read_image, or says what is wrong with it."""
        for item in opened(location):
            if item.problem:
                fail(f"'{item.name}' has a problem.", why=[item.problem])
            with fail_where_raised(f"'{item.name}' cannot be read."):
                read_image(item.image)

    def test_a_missing_location_is_an_item_with_a_problem(self, opened: Callable[[str], Source], missing: str) -> None:
        """A job over many locations goes on after the one that is not there, and says so."""
        items = _items(opened, missing, "Nothing is there, and that ends the job.")
        if not any(item.problem for item in items):
            fail("Nothing is there, and no item says so.", fix="yield an Item with a problem")

    def test_a_damaged_location_is_an_item_with_a_problem(self, opened: Callable[[str], Source], damaged: str) -> None:
        """Files are damaged, and one of them must not end a job of thousands."""
        items = _items(opened, damaged, "What is there is damaged, and that ends the job.")
        for item in items:
            if not item.problem:
                try:
                    read_image(item.image)
                except ImageError:
                    continue
                fail(f"What is there is damaged, and '{item.name}' is an image.")
        if not items:
            fail("What is there is damaged, and no item says so.", fix="yield an Item with a problem")

    def test_what_is_left_out_is_counted_once(self, opened: Callable[[str], Source], location: str) -> None:
        """It is said at the end of a job, by kind and number."""
        source = opened(location)
        list(source)
        first = Counter(source.left_out)
        list(source)
        counted: object = source.left_out
        if not isinstance(counted, Counter) or not all(isinstance(kind, str) for kind in counted):
            fail(f"left_out is {counted!r}, and no Counter of texts.")
        if source.left_out != first:
            fail("What is left out is counted again each time.", why=[f"{dict(first)}, then {dict(source.left_out)}"])

    def test_left_early_it_leaves_nothing_running(self, opened: Callable[[str], Source], location: str) -> None:
        """A job may end after any item, and the process goes on."""
        before = set(threading.enumerate())
        items: Iterator[Item] = iter(opened(location))
        next(items)
        close = getattr(items, "close", None)  # a generator's; other iterators have none
        if close is not None:
            close()
        del items
        running = [thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()]
        if running:
            fail("Left after one item, it leaves threads.", why=running, fix="end them where the generator is closed")


def _location(spec: SourceSpec, path: Path) -> str:
    """A location that selects a source."""
    return f"{(*spec.prefixes, '')[0]}{path}{(*spec.endings, '')[0]}"


def _facts(item: Item) -> tuple[object, ...]:
    return item.name, item.relative, item.problem, dict(item.extra)


def _items(opened: Callable[[str], Source], location: str, ends: str) -> list[Item]:
    with fail_where_raised(ends, "yield an Item with a problem"):
        return list(opened(location))
