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
        summary="A line of JSON for each image",
        endings=(".jsonl",),
        factory=Ref("polyface.writers.jsonl:JsonLines"),
    )
    yield WriterSpec(
        name="csv",
        summary="A row for each face, and for each image without one",
        endings=(".csv",),
        factory=Ref("polyface.writers.csv:Csv"),
    )
    yield WriterSpec(
        name="coco",
        summary="COCO's format, as a data set and as results",
        endings=(".coco.json",),
        factory=Ref("polyface.writers.coco:Coco"),
    )
    yield WriterSpec(
        name="wider",
        summary="WIDER FACE's text format, all images in one file",
        endings=(".wider.txt",),
        factory=Ref("polyface.writers.wider:WiderList"),
    )
    yield WriterSpec(
        name="images",
        summary="Each image with its faces drawn, as NAME_out.jpg",
        writes="folder",
        wants_image=True,
        factory=Ref("polyface.writers.images:Drawings"),
    )
    yield WriterSpec(
        name="crops",
        summary="Each face as an image, NAME-1.jpg, NAME-2.jpg and so on",
        writes="folder",
        wants_image=True,
        factory=Ref("polyface.writers.crops:Crops"),
    )
    yield WriterSpec(
        name="anonymized",
        summary="Each image with its faces blurred, as a file like its own",
        writes="folder",
        wants_image=True,
        factory=Ref("polyface.writers.anonymized:Anonymized"),
    )
