"""What polyface relies on in a plugin's package: that it is found, costs nothing, and says what it needs."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from polyface.cli import COMMANDS
from polyface.errors import nearest
from polyface.plugins.kinds import HOOKS, PREFIX, Record, kind_of
from polyface.plugins.manager import PluginInfo, PluginManager, missing
from polyface.plugins.records import CommandSpec, DetectorSpec, FileRef, Ref, Requirement, as_json
from polyface.testing.conformance.base import Conformance, fail, fail_where_raised

HEAVY = "PIL cv2 jax numpy onnx onnxruntime openvino pyarrow safetensors scipy tensorflow tensorrt torch torchvision"
"""What no module that an entry point names may import, not even by way of another."""

_LOAD = """
import importlib, json, sys
from polyface.plugins.manager import PluginManager
PluginManager().register(importlib.import_module(sys.argv[1]), name=sys.argv[1])
print()
print(json.dumps(sorted({*sys.argv[2].split()} & {*sys.modules})))
"""


class PluginConformance(Conformance):
    """Whether an installed package is a good plugin: all its entry points in the group ``polyface``.

    Attributes:
        distribution: the name it is installed under.

    The fixture ``plugins`` (the installed plugins) may be overridden.
    """

    distribution: ClassVar[str] = ""

    @pytest.fixture(scope="class")
    @classmethod
    def infos(cls, plugins: PluginManager) -> list[PluginInfo]:
        """What became of each entry point."""
        infos = [info for info in plugins.plugins if _normal(info.distribution) == _normal(cls.distribution)]
        if not infos:
            names = sorted({info.distribution for info in plugins.plugins})
            near = nearest(cls.distribution, names) or "."
            fail(
                f"No plugin of a distribution '{cls.distribution}' is installed{near}",
                why=[f"installed: {', '.join(names) or 'none'}"],
                fix="pip install -e . with an entry point in the group polyface",
            )
        return infos

    @pytest.fixture(scope="class")
    @classmethod
    def records(cls, infos: list[PluginInfo]) -> list[Record]:
        """All that it provides."""
        return [record for info in infos for record in info.records]

    def test_every_entry_point_loads_and_provides_something(self, infos: list[PluginInfo]) -> None:
        """A plugin that fails is passed over, so that only its users notice."""
        for info in infos:
            if info.error is not None:
                fail(info.error.what, why=info.error.why)
            if not info.records:
                fail(f"The plugin '{info.name}' ({info.target}) provides nothing: no hook of it yields a record.")

    def test_hooks_are_spelt_as_hooks(self, infos: list[PluginInfo]) -> None:
        """A function that is almost a hook is never called."""
        for info in infos:
            if info.error is not None:  # the check above says so
                continue
            module = importlib.import_module(info.target.partition(":")[0])
            for name, value in vars(module).items():
                if name.startswith(PREFIX) and callable(value) and name not in HOOKS:
                    fail(
                        f"'{name}' in {module.__name__} is no hook of polyface{nearest(name, HOOKS) or '.'}",
                        why=[f"the hooks: {', '.join(HOOKS)}"],
                    )

    def test_discovery_imports_nothing_heavy(self, infos: list[PluginInfo]) -> None:
        """Every command loads every plugin: a second for torch is a second for all."""
        path = os.pathsep.join(entry for entry in sys.path if entry)
        for module in dict.fromkeys(info.target.partition(":")[0] for info in infos):
            done = subprocess.run(  # noqa: S603 - our own code, in this Python
                [sys.executable, "-c", _LOAD, module, HEAVY],
                env={**os.environ, "PYTHONPATH": path},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                fail(f"{module} does not load in a process of its own.", why=done.stderr.splitlines()[-1:])
            heavy = json.loads(done.stdout.splitlines()[-1])
            if heavy:
                fail(
                    f"Loading {module} imports {', '.join(heavy)}.",
                    fix="name the code that needs it by a Ref, which is imported once it is used",
                )

    def test_records_are_plain(self, records: list[Record]) -> None:
        """Records are listed as JSON, kept in sets, and sent to other processes."""
        for record in records:
            with fail_where_raised(f"The record '{record.name}' is not plain."):
                json.dumps(as_json(record), allow_nan=False)
                same = {record} == {pickle.loads(pickle.dumps(record))}  # noqa: S301 - of our own making, just now
            if not same:
                fail(f"The record '{record.name}' is another after pickle.")

    def test_names_are_its_own(self, infos: list[PluginInfo]) -> None:
        """A name that another package provides as well selects neither."""
        for info in infos:
            if info.clashes:
                fail(f"The plugin '{info.name}' shares a name.", why=info.clashes, fix="put your own name in front")
            for record in info.provided(CommandSpec):
                if record.name in COMMANDS:
                    fail(f"The command '{record.name}' is polyface's own.", fix="put your own name in front")

    def test_refs_load(self, records: list[Record]) -> None:
        """What a record names is imported only when a user selects it."""
        for record in records:
            for ref, requires in _refs(record):
                if not missing(record.name, requires):
                    with fail_where_raised(f"'{ref.target}' of '{record.name}' does not load."):
                        ref.path() if isinstance(ref, FileRef) else ref.load()
            kind = kind_of(type(record))
            if kind.gives is not None and not missing(record.name, getattr(record, "requires", ())):
                wanted, made = kind.gives(record), kind.make(record)
                if not isinstance(made, wanted):
                    name = f"'{kind.ref(record).target}' of '{record.name}'"
                    fail(f"{name} gives a {type(made).__name__}, and no {wanted.__name__}.")

    def test_requirements_are_in_the_metadata(self, records: list[Record]) -> None:
        """The command that a refusal names must bring what was missing."""
        metadata = importlib.metadata.metadata(self.distribution)
        known = {_project(text)[0] for text in metadata.get_all("Requires-Dist") or ()}
        extras = {_normal(extra) for extra in metadata.get_all("Provides-Extra") or ()}
        for record in records:
            for need in (need for _, requires in _refs(record) for need in requires):
                project, extra = _project(need.install)
                if extra not in extras if project == _normal(self.distribution) else project not in known:
                    fail(
                        f"'{record.name}' needs '{need.module}' by `pip install {need.install}`, which the metadata of "
                        f"{self.distribution} do not name.",
                        fix="add it to dependencies or to an extra in pyproject.toml",
                    )


def _refs(record: Any) -> Iterator[tuple[Ref | FileRef, tuple[Requirement, ...]]]:
    """What a record names, each with what must be installed for it."""
    yield kind_of(type(record)).ref(record), getattr(record, "requires", ())
    if isinstance(record, DetectorSpec):
        for graph in record.graphs:
            yield graph.ref or kind_of(type(record)).ref(record), graph.requires


def _project(requirement: str) -> tuple[str, str]:
    """The project and the extra, which may be empty, of what ``pip install`` takes."""
    name, extra = re.match(r"([\w.-]*)(?:\[([\w.-]+)\])?", requirement.strip()).groups(default="")  # type: ignore[union-attr]
    return _normal(name), _normal(extra)


def _normal(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
