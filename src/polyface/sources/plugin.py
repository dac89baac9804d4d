"""The sources of core, registered as any plugin's are."""

from __future__ import annotations

from collections.abc import Iterable

from polyface.machine.formats import ARCHIVE_SUFFIXES
from polyface.plugins.hookspecs import hookimpl
from polyface.plugins.records import Ref, SourceSpec


@hookimpl
def polyface_sources() -> Iterable[SourceSpec]:
    """Yield core's sources; what no source claims is a file or a folder."""
    yield SourceSpec(
        name="files",
        summary="Image files, and every image below folders",
        factory=Ref("polyface.sources.files:Files"),
    )
    yield SourceSpec(
        name="lists",
        summary="The paths in a text file, a line each",
        prefixes=("@",),
        factory=Ref("polyface.sources.lists:PathList"),
    )
    yield SourceSpec(
        name="tar",
        summary="The images in a tar archive, such as a shard of WebDataset",
        endings=ARCHIVE_SUFFIXES,
        factory=Ref("polyface.sources.archives:TarArchive"),
    )
