from __future__ import annotations

from collections.abc import Iterator

import polyface
from polyface.plugins.records import BackendSpec, Capability, Ref


@polyface.hookimpl
def polyface_backends() -> Iterator[BackendSpec]:
    yield BackendSpec(
        name="acme-runtime",
        summary="Runs networks written in NumPy",
        accepts=("numpy",),
        capabilities=(Capability(device="cpu"),),
        factory=Ref("acme_backend.runtime:AcmeBackend"),
    )
