"""The writers of core, registered as any plugin's are."""

from __future__ import annotations

from collections.abc import Iterable

from polyface.plugins.hookspecs import hookimpl
from polyface.plugins.records import Ref, WriterSpec


@hookimpl
def polyface_writers() -> Iterable[WriterSpec]:
    """Yield core's writers."""
    yield WriterSpec(
        name="jsonl",
        summary="A line of JSON for each image, of all runs",
        endings=(".jsonl",),
        factory=Ref("polyface.writers.jsonl:JsonLines"),
    )
    yield WriterSpec(
        name="images",
        summary="Each image with its faces drawn, as NAME_out.jpg",
        writes="folder",
        wants_image=True,
        factory=Ref("polyface.writers.images:Drawings"),
    )
