"""The three hooks of a polyface plugin.

A plugin is a light module (it imports ``polyface`` and nothing heavy) with any of these functions, each marked
``@polyface.hookimpl``, and named by an entry point in the group ``polyface``:

.. code-block:: toml

    [project.entry-points.polyface]
    acme = "acme_faces.plugin"
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from polyface.plugins.records import BackendSpec, ConverterSpec, DetectorSpec

GROUP = "polyface"
"""The entry-point group, and pluggy's project name."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def polyface_detectors() -> Iterable[DetectorSpec]:
    """Yield the detectors a plugin provides.

    A complete example::

        import polyface
        from polyface.plugins.records import DetectorSpec, GraphSource, Preprocess, Ref, Requirement, TensorSpec


        @polyface.hookimpl
        def polyface_detectors():
            yield DetectorSpec(
                name="acme-small",
                summary="Acme's small face detector",
                graph_version=1,
                input=TensorSpec(name="image", dims=("n", 3, "h", "w")),
                outputs=(
                    TensorSpec(name="loc", dims=("n", "p", 4)),
                    TensorSpec(name="logits", dims=("n", "p", 2)),
                ),
                preprocess=Preprocess(channels="rgb", mean=(127.5, 127.5, 127.5), std=(128, 128, 128)),
                head=Ref("acme_faces.head:Head"),
                graphs=(
                    GraphSource(
                        kind="torch-module",
                        ref=Ref("acme_faces.net:build"),
                        requires=(Requirement(module="torch", install="torch"),),
                    ),
                ),
            )
    """
    raise NotImplementedError


@hookspec
def polyface_backends() -> Iterable[BackendSpec]:
    """Yield the backends a plugin provides.

    A complete example::

        import polyface
        from polyface.plugins.records import BackendSpec, Capability, Ref, Requirement


        @polyface.hookimpl
        def polyface_backends():
            yield BackendSpec(
                name="acme-runtime",
                summary="Acme's runtime for ONNX graphs",
                accepts=("onnx",),
                capabilities=(Capability(device="cpu", precisions=("fp32",)),),
                requires=(Requirement(module="acme_runtime", install="acme-runtime"),),
                factory=Ref("acme_backend.backend:AcmeBackend"),
            )
    """
    raise NotImplementedError


@hookspec
def polyface_converters() -> Iterable[ConverterSpec]:
    """Yield the converters a plugin provides.

    A complete example::

        import polyface
        from polyface.plugins.records import ConverterSpec, Ref, Requirement


        @polyface.hookimpl
        def polyface_converters():
            yield ConverterSpec(
                source="onnx",
                target="acme-graph",
                requires=(Requirement(module="acme_runtime", install="acme-runtime"),),
                factory=Ref("acme_backend.convert:AcmeConverter"),
            )
    """
    raise NotImplementedError
