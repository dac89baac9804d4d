"""What polyface relies on in a family: that it takes its files, no others, and reads their heads rightly."""

from __future__ import annotations

import inspect
import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, TypeAlias

import attrs
import pytest

from polyface.errors import ConfigError, PolyfaceError
from polyface.graphs.families import describe, find_detector, read_interface
from polyface.plugins.manager import PluginManager
from polyface.plugins.protocols import GraphTensor, Interface
from polyface.plugins.records import DetectorSpec, FamilySpec, OptionValue, as_json
from polyface.settings.config import Config
from polyface.testing.conformance.base import fail, fail_where_raised
from polyface.testing.conformance.heads import HeadConformance

Dims: TypeAlias = tuple[int | str, ...]

ODD_OUTPUTS: tuple[Dims, ...] = (
    *((), (1,), ("?", "?"), (1, 3), ("n", "p", 4)),
    *(("n", 7, "h", "w"), (1, 1 << 62, 1 << 62), (1, 1, 1, 1, 1)),
)
ODD_INPUTS: tuple[Dims, ...] = ((), (1, 3), (1, 1, 32, 32), (1, 3, "h", 32), (1 << 40, 3, 1 << 40, 1 << 40))
"""Shapes that somebody's file may have."""


class FamilyConformance(HeadConformance):
    """Whether a family makes detectors of users' own ONNX files, as :class:`polyface.plugins.records.FamilySpec` says.

    Attributes:
        family: the family's name.
        family_options: those that the file needs.
        backend: the backend its network runs on; ``"auto"`` takes the most preferred that can run it here.
        device: the device it runs on.
        precision: the precision it runs in.

    The fixture ``file`` must be overridden: the path of an ONNX file of the family, of any weights, best as small as
    such a file can be. ``plugins`` (where names are looked up) may be.
    """

    record = FamilySpec
    family: ClassVar[str] = ""
    family_options: ClassVar[Mapping[str, OptionValue]] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def file(cls) -> Path:
        """An ONNX file of the family: the author must supply it."""
        fail(f"There is no file of the family '{cls.family}' to try.", fix="override the fixture file")

    @pytest.fixture(scope="class")
    @classmethod
    def config(cls, file: Path) -> Config:
        """The file as a detector."""
        return cls._config(str(file), None).replace(family=cls.family, family_options=cls.family_options)

    @pytest.fixture(scope="class")
    @classmethod
    def asked(cls, plugins: PluginManager) -> FamilySpec:
        """The record of the family."""
        return plugins.get(FamilySpec, cls.family)

    @pytest.fixture(scope="class")
    @classmethod
    def interface(cls, file: Path) -> Interface:
        """What the file says of itself."""
        return read_interface(Path(file))

    @pytest.fixture(scope="class")
    @classmethod
    def spec(cls, plugins: PluginManager, config: Config) -> DetectorSpec:
        """The record of the file."""
        with fail_where_raised(f"The family '{cls.family}' does not take its own file."):
            return find_detector(config, plugins)[0]

    def test_describe_takes_every_option(self, asked: FamilySpec, interface: Interface) -> None:
        """One that its code does not know fails for the first user who sets it."""
        with fail_where_raised(f"'{asked.describe.target}' does not take the options that the record declares."):
            inspect.signature(asked.describe.load()).bind(interface, **{p.name: p.default for p in asked.parameters})

    def test_its_file_becomes_a_plain_record(self, spec: DetectorSpec) -> None:
        """Records are listed as JSON, kept in sets, and sent to other processes."""
        with fail_where_raised(f"The record that '{self.family}' makes is not plain."):
            json.dumps(as_json(spec), allow_nan=False)
            same = {spec} == {pickle.loads(pickle.dumps(spec))}  # noqa: S301 - of our own making, just now
        if not same:
            fail(f"The record that '{self.family}' makes is another after pickle.")

    def test_a_file_that_lacks_an_output_is_refused(self, asked: FamilySpec, interface: Interface) -> None:
        """What a head does not find it asks for by an error of Python, in the midst of a job."""
        for missing in interface.outputs:
            outputs = tuple(output for output in interface.outputs if output is not missing)
            if self._is_taken(asked, attrs.evolve(interface, outputs=outputs)):
                fail(
                    f"'{self.family}' takes a file without the output {missing}.",
                    fix="raise the interface's misfit where outputs are missing",
                )

    def test_any_file_is_taken_or_refused(self, asked: FamilySpec, interface: Interface) -> None:
        """Where nobody says of which family a file is, each is asked, and a failure would look like a no."""
        for other in _odd(interface):
            self._is_taken(asked, other)

    def _is_taken(self, asked: FamilySpec, interface: Interface) -> bool:
        try:
            describe(asked, interface, self.family_options)
        except ConfigError:
            return False
        except PolyfaceError as error:
            fail(error.what, why=[*error.why, *interface.lines], fix="raise the interface's misfit")
        return True


def _odd(interface: Interface) -> Iterator[Interface]:
    """The file with outputs or inputs as no such file should have them."""
    yield attrs.evolve(interface, outputs=())
    yield attrs.evolve(interface, inputs=())
    yield attrs.evolve(interface, inputs=interface.inputs * 2)
    yield attrs.evolve(interface, outputs=tuple(attrs.evolve(o, dims=("?",) * len(o.dims)) for o in interface.outputs))
    yield attrs.evolve(interface, outputs=tuple(attrs.evolve(o, operation="") for o in interface.outputs))
    yield attrs.evolve(interface, outputs=tuple(attrs.evolve(o, dtype="int64") for o in interface.outputs))
    for dims in ODD_OUTPUTS:
        yield attrs.evolve(interface, outputs=tuple(attrs.evolve(o, dims=dims) for o in interface.outputs))
        yield attrs.evolve(interface, outputs=(*interface.outputs, GraphTensor(name="more", dims=dims)))
        yield attrs.evolve(interface, outputs=(GraphTensor(name="one", dims=dims),))
    for dims in ODD_INPUTS:
        yield attrs.evolve(interface, inputs=tuple(attrs.evolve(i, dims=dims) for i in interface.inputs))
