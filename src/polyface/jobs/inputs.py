"""What a job reads: the sources that its locations select."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

import attrs

from polyface.errors import ContractError, Fix, plugin_errors, quoted
from polyface.plugins.manager import CORE, PluginManager, load_code
from polyface.plugins.options import check_options, own_options
from polyface.plugins.protocols import Search, Source
from polyface.plugins.records import OptionValue, SourceSpec
from polyface.results import Item

FILES = f"{CORE}/files"
"""The source of what no other claims."""

LISTS = "lists"
"""The name of core's source of what lists name, which any source may read."""

STDIN = {"-": "@-"}
"""What names standard input on any command line, as the source of lists calls it."""


class Inputs:
    """The items of several locations, one after the other: a source of sources.

    Args:
        locations: each what a user names: a file, a folder, or what a source claims by how it begins or ends; ``-`` is
            ``@-``, the paths on standard input.
        plugins: where the sources are looked up.
        search: how they look for images.
        options: of sources; each gets those that it has.

    Attributes:
        specs: of the sources that take part; all of them where a list is named, which may name anything.

    Raises:
        ConfigError: a location means nothing, or an option is wrong.
        UnknownNameError: core's own source of files was disabled.
        UnsupportedError: a source requires something that is not installed.
        PluginError: the code of a source fails; also while it is gone through.
    """

    def __init__(
        self,
        locations: Sequence[str],
        plugins: PluginManager,
        search: Search,
        options: Mapping[str, OptionValue] | None = None,
    ) -> None:
        self._options = options or {}
        self._plugins = plugins
        specs = plugins.all(SourceSpec)
        self._prefixes = tuple(prefix for spec in specs for prefix in spec.prefixes)
        self._endings = tuple(ending for spec in specs for ending in spec.endings)
        self._search = attrs.evolve(search, endings=self._endings, source_of=self._claimed)
        self._locations = [STDIN.get(location, location) for location in locations]
        selected = [select_source(location, plugins) for location in self._locations]
        lists = any(spec.name == LISTS for spec in selected)
        self.specs: Sequence[SourceSpec] = specs if lists else selected
        self._sources = [self._open(location) for location in self._locations]

    def _claimed(self, location: str) -> Source | None:
        # Of a million paths in a list nearly all are files, and the plugins are not asked for each.
        claimed = location.startswith(self._prefixes) or location.lower().endswith(self._endings)
        return self._open(location) if claimed else None

    def _open(self, location: str) -> Source:
        spec = select_source(location, self._plugins)
        options = check_options(f"source '{spec.name}'", spec.options, own_options(spec, self._options), spec.name)
        with _failures(location):
            source: Source = load_code(spec)(location, self._search, **options)
        return source

    @property
    def left_out(self) -> Counter[str]:
        """What was left out so far, counted by what it is."""
        return sum((Counter(source.left_out) for source in self._sources), Counter[str]())

    def __iter__(self) -> Iterator[Item]:
        """Yield the items of each location."""
        for location, source in zip(self._locations, self._sources, strict=True):
            with _failures(location):
                for item in source:
                    if not isinstance(item, Item):
                        raise ContractError(f"A source must yield items, not {quoted(item)}.")
                    yield item

    def count(self) -> int | None:
        """Return how many items there are; ``None`` where a source does not know."""
        whole = 0
        for location, source in zip(self._locations, self._sources, strict=True):
            with _failures(location):
                if (count := source.count()) is None:
                    return None
                whole += count
        return whole


def _failures(location: str) -> AbstractContextManager[None]:
    what = f"The source of {quoted(location)} failed."
    return plugin_errors(what, Fix("mend its plugin, or leave it out by POLYFACE_DISABLE_PLUGINS"))


def select_source(location: str, plugins: PluginManager) -> SourceSpec:
    """Return the source that claims a location, by how it begins, or ends where it is no folder.

    Raises:
        UnknownNameError: none claims it, and core's own source of files was disabled.
        AmbiguousNameError: two plugins claim it alike.
    """
    begins = plugins.by_claim(SourceSpec, lambda spec: longest(spec.prefixes, location.startswith))
    if begins is not None or os.path.isdir(location):  # noqa: PTH112 - the location may be no path
        return begins or plugins.get(SourceSpec, FILES)
    ends = plugins.by_claim(SourceSpec, lambda spec: longest(spec.endings, location.lower().endswith))
    return ends or plugins.get(SourceSpec, FILES)


def longest(parts: Iterable[str], fits: Callable[[str], bool]) -> int:
    """Return the length of the longest part that fits, 0 if none does."""
    return max(map(len, filter(fits, parts)), default=0)
