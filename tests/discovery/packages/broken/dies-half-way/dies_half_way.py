"""Yields one good record, and then fails."""

import polyface
from polyface.plugins.records import BackendSpec, Capability, Ref


@polyface.hookimpl
def polyface_backends():
    yield BackendSpec(
        name="half-way",
        summary="A backend that must not be listed",
        accepts=("numpy",),
        capabilities=(Capability(device="cpu"),),
        factory=Ref("dies_half_way:Backend"),
    )
    raise RuntimeError("this plugin dies half-way")
