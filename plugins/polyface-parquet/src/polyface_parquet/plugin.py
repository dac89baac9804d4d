"""What this package tells polyface; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

import polyface
from polyface.plugins.records import Ref, Requirement, WriterSpec


@polyface.hookimpl
def polyface_writers() -> Iterator[WriterSpec]:
    yield WriterSpec(
        name="parquet",
        summary="Parquet: a row for each image, its faces a list in it",
        endings=(".parquet",),
        requires=(Requirement(module="pyarrow", install="pyarrow"),),
        factory=Ref("polyface_parquet.writer:Parquet"),
    )
