"""The hooks of a polyface plugin; the author's guide, ``plugins/README.md``, has a complete example of each.

Every hook is called once, without arguments, when a process loads its plugins. What its records name is imported later.

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
    """Yield the detectors a plugin provides, and the families of which a user's own files are.

    The head and the builder of the graph are called when a detector is made; ``describe`` when a file is named.
    """
    raise NotImplementedError


@hookspec
def polyface_backends() -> Iterable[BackendSpec]:
    """Yield the backends a plugin provides.

    The factory is called when a detector is about to run on the backend, or a command asks it which devices there are.
    """
    raise NotImplementedError


@hookspec
def polyface_converters() -> Iterable[ConverterSpec]:
    """Yield the converters a plugin provides.

    The factory is called when a graph of its kind is wanted, and none is stored.
    """
    raise NotImplementedError


@hookspec
def polyface_writers() -> Iterable[WriterSpec]:
    """Yield the writers a plugin provides.

    The factory is called when a job writes to its place: once for each output.
    """
    raise NotImplementedError


@hookspec
def polyface_sources() -> Iterable[SourceSpec]:
    """Yield the sources a plugin provides.

    The factory is called when a job is given a location that the source claims: once for each.
    """
    raise NotImplementedError


@hookspec
def polyface_steps() -> Iterable[StepSpec]:
    """Yield the steps a plugin provides, in the order in which they follow each other.

    The factory is called when an option of a job turns the step on: once for each job.
    """
    raise NotImplementedError


@hookspec
def polyface_commands() -> Iterable[CommandSpec]:
    """Yield the commands a plugin adds to ``polyface``.

    The command is imported when it is run, or asked for its help.
    """
    raise NotImplementedError
