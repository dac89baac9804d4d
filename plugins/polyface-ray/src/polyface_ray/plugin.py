"""What this package tells polyface; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

import polyface
from polyface.plugins.records import CommandSpec, Ref, Requirement, SourceSpec

PYARROW = Requirement(module="pyarrow", install="pyarrow")


@polyface.hookimpl
def polyface_commands() -> Iterator[CommandSpec]:
    yield CommandSpec(
        name="ray",
        summary="Find the faces on many machines, by Ray.",
        requires=(Requirement(module="ray", install="ray[data]"), PYARROW),
        command=Ref("polyface_ray.command:command"),
    )


@polyface.hookimpl
def polyface_sources() -> Iterator[SourceSpec]:
    yield SourceSpec(
        name="storage",
        summary="An image or a folder of a storage service, s3://... or gs://...",
        prefixes=("s3://", "gs://", "gcs://", "abfs://", "abfss://", "hdfs://", "file://"),
        requires=(PYARROW,),
        factory=Ref("polyface_ray.storage:Storage"),
    )
