"""The writers of core, registered as any plugin's are."""

from __future__ import annotations

from collections.abc import Iterable

from polyface.plugins.hookspecs import hookimpl
from polyface.plugins.records import OptionSpec, Ref, WriterSpec

CROPS = WriterSpec(
    name="crops",
    summary="Each face as an image, NAME-1.jpg, NAME-2.jpg and so on",
    writes="folder",
    commands=("crop",),
    wants_image=True,
    makes="crops",
    options=(
        OptionSpec(
            name="margin",
            type="float",
            help="What is cropped around each face, as a part of its box's longer side.",
            default=0.0,
            minimum=0,
            maximum=10,
        ),
        OptionSpec(
            name="align",
            type="int",
            help="Turn, scale and move each face as ArcFace wants it, to so many pixels, usually 112.",
            minimum=1,
            maximum=4096,
        ),
    ),
    factory=Ref("polyface.writers.crops:Crops"),
)
ANONYMIZED = WriterSpec(
    name="anonymized",
    summary="Each image with its faces blurred, as a file like its own",
    writes="folder",
    commands=("anonymize",),
    wants_image=True,
    makes="anonymized",
    options=(
        OptionSpec(
            name="how",
            type="str",
            help="What becomes of each face.",
            default="blur",
            choices=("blur", "pixelate", "fill", "image"),
        ),
        OptionSpec(
            name="shape",
            type="str",
            help="What of it: an ellipse, or its box with the corners.",
            default="ellipse",
            choices=("ellipse", "box"),
        ),
        OptionSpec(
            name="grow",
            type="float",
            help="By how much that exceeds the box on each side, as a part of the box's longer side.",
            default=0.2,
            minimum=0,
            maximum=10,
        ),
        OptionSpec(name="replacement", type="str", help="With --how image: the file that lies over each face."),
        OptionSpec(
            name="copy_unreadable",
            type="bool",
            help="Write what could not be examined nevertheless: a file with an error as it is, with all in it.",
            default=False,
        ),
    ),
    factory=Ref("polyface.writers.anonymized:Anonymized"),
)


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
        commands=("detect",),
        wants_image=True,
        makes="drawing",
        factory=Ref("polyface.writers.images:Drawings"),
    )
    yield CROPS
    yield ANONYMIZED
