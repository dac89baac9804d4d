"""The hooks of a polyface plugin.

A plugin is a light module (it imports ``polyface`` and nothing heavy) with any of these functions, each marked
``@polyface.hookimpl``, and named by an entry point in the group ``polyface``:

.. code-block:: toml

    [project.entry-points.polyface]
    acme = "acme_faces.plugin"
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from polyface.plugins.records import BackendSpec, CommandSpec, ConverterSpec, DetectorSpec, SourceSpec, WriterSpec

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


@hookspec
def polyface_writers() -> Iterable[WriterSpec]:
    """Yield the writers a plugin provides.

    A complete example::

        import polyface
        from polyface.plugins.records import Ref, WriterSpec


        @polyface.hookimpl
        def polyface_writers():
            yield WriterSpec(
                name="acme-text",
                summary="A line of text for each face",
                endings=(".txt",),
                factory=Ref("acme_text.writer:TextWriter"),
            )
    """
    raise NotImplementedError


@hookspec
def polyface_sources() -> Iterable[SourceSpec]:
    """Yield the sources a plugin provides.

    A complete example::

        import polyface
        from polyface.plugins.records import Ref, SourceSpec


        @polyface.hookimpl
        def polyface_sources():
            yield SourceSpec(
                name="acme-archive",
                summary="Images in Acme's archives",
                endings=(".acme",),
                factory=Ref("acme_archive.source:ArchiveSource"),
            )
    """
    raise NotImplementedError


@hookspec
def polyface_commands() -> Iterable[CommandSpec]:
    """Yield the commands a plugin adds to ``polyface``.

    A complete example::

        import polyface
        from polyface.plugins.records import CommandSpec, Ref


        @polyface.hookimpl
        def polyface_commands():
            yield CommandSpec(name="acme", summary="Ask Acme", command=Ref("acme_faces.cli:command"))
    """
    raise NotImplementedError
