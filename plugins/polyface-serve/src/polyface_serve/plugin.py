"""What this package tells polyface; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

import polyface
from polyface.plugins.records import CommandSpec, Ref, Requirement


@polyface.hookimpl
def polyface_commands() -> Iterator[CommandSpec]:
    yield CommandSpec(
        name="serve",
        summary="Answer over HTTP, and show a page.",
        requires=(
            Requirement(module="fastapi", install="fastapi"),
            Requirement(module="uvicorn", install="uvicorn"),
            Requirement(module="python_multipart", install="python-multipart"),
            Requirement(module="prometheus_client", install="prometheus-client"),
        ),
        command=Ref("polyface_serve.command:command"),
    )
