"""The hooks of a polyface plugin; the author's guide, ``plugins/README.md``, has a complete example of each.

A plugin is a light module (it imports ``polyface`` and nothing heavy) with any of these functions, each marked
``@polyface.hookimpl``, and named by an entry point in the group ``polyface``:

.. code-block:: toml

    [project.entry-points.polyface]
    acme = "acme_faces.plugin"
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from polyface.plugins.records import (
    BackendSpec,
    CommandSpec,
    ConverterSpec,
    DetectorSpec,
    FamilySpec,
    SourceSpec,
    StepSpec,
    WriterSpec,
)

GROUP = "polyface"
"""The entry-point group, and pluggy's project name."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def polyface_detectors() -> Iterable[DetectorSpec | FamilySpec]:
    """Yield the detectors a plugin provides, and the families of which a user's own files are."""
    raise NotImplementedError


@hookspec
def polyface_backends() -> Iterable[BackendSpec]:
    """Yield the backends a plugin provides."""
    raise NotImplementedError


@hookspec
def polyface_converters() -> Iterable[ConverterSpec]:
    """Yield the converters a plugin provides."""
    raise NotImplementedError


@hookspec
def polyface_writers() -> Iterable[WriterSpec]:
    """Yield the writers a plugin provides."""
    raise NotImplementedError


@hookspec
def polyface_sources() -> Iterable[SourceSpec]:
    """Yield the sources a plugin provides."""
    raise NotImplementedError


@hookspec
def polyface_steps() -> Iterable[StepSpec]:
    """Yield the steps a plugin provides, in the order in which they follow each other."""
    raise NotImplementedError


@hookspec
def polyface_commands() -> Iterable[CommandSpec]:
    """Yield the commands a plugin adds to ``polyface``."""
    raise NotImplementedError
