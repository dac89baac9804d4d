"""What a job reads: the sources that its locations select."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence

from polyface.plugins.manager import PluginManager
from polyface.plugins.protocols import Search, Source
from polyface.plugins.records import SourceSpec
from polyface.plugins.requirements import load_code
from polyface.results import Item

FILES = "files"
"""The source of what no other claims."""


class Inputs:
    """The items of several locations, one after the other: a source of sources.

    Args:
        locations: each what a user names: a file, a folder, or what a plugin's source claims.
        plugins: where the sources are looked up.
        search: how they look for images.

    Raises:
        ConfigError: a location means nothing.
        UnknownNameError: core's own source of files was disabled.
        UnsupportedError: a source requires something that is not installed.
    """

    def __init__(self, locations: Sequence[str], plugins: PluginManager, search: Search) -> None:
        self._sources: list[Source] = [
            load_code(select_source(location, plugins))(location, search) for location in locations
        ]

    @property
    def left_out(self) -> Counter[str]:
        """What was left out so far, counted by what it is."""
        return sum((source.left_out for source in self._sources), Counter[str]())

    def __iter__(self) -> Iterator[Item]:
        """Yield the items of each location."""
        for source in self._sources:
            yield from source

    def count(self) -> int | None:
        """Return how many items there are; ``None`` where a source does not know."""
        counts = [source.count() for source in self._sources]
        return None if None in counts else sum(count or 0 for count in counts)


def select_source(location: str, plugins: PluginManager) -> SourceSpec:
    """Return the source that claims a location, by how it begins, or ends where it is no folder.

    Raises:
        UnknownNameError: none claims it, and core's own source of files was disabled.
    """
    sources = plugins.by_name(SourceSpec).values()
    lengths = [(len(start), spec) for spec in sources for start in spec.prefixes if location.startswith(start)]
    if not lengths and not os.path.isdir(location):  # noqa: PTH112 - the location may be no path
        name = location.lower()
        lengths = [(len(end), spec) for spec in sources for end in spec.endings if name.endswith(end)]
    return max(lengths, key=lambda pair: pair[0])[1] if lengths else plugins.get(SourceSpec, FILES)
