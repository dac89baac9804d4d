"""The table of the kinds of record, and the hooks that yield them: a kind stands in both, or it is half a kind."""

from __future__ import annotations

import collections.abc
import functools
import operator
import typing

from polyface.plugins import hookspecs
from polyface.plugins.kinds import HOOKS, KINDS, PREFIX, kind_of
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


def test_every_kind_is_in_the_table():
    assert [(name, kind.record, kind.label) for name, kind in KINDS.items()] == [
        ("detectors", DetectorSpec, "detector"),
        ("families", FamilySpec, "family"),
        ("backends", BackendSpec, "backend"),
        ("converters", ConverterSpec, "converter"),
        ("writers", WriterSpec, "writer"),
        ("sources", SourceSpec, "source"),
        ("steps", StepSpec, "step"),
        ("commands", CommandSpec, "command"),
    ]


def test_every_hook_is_in_the_table_and_yields_its_record():
    hooks = {name: value for name, value in vars(hookspecs).items() if name.startswith("polyface_")}
    assert hooks.keys() == HOOKS.keys()
    for name, hook in hooks.items():
        yielded = functools.reduce(operator.or_, HOOKS[name])
        assert typing.get_type_hints(hook)["return"] == collections.abc.Iterable[yielded]


def test_each_kind_is_yielded_by_the_hook_of_its_name_or_by_that_beside_which_it_stands():
    for name, kind in KINDS.items():
        assert kind.record in HOOKS[f"{PREFIX}{kind.beside or name}"]
    assert sum(map(len, HOOKS.values())) == len(KINDS)


def test_the_kind_of_a_record_is_that_of_its_class_and_of_classes_made_from_it():
    class Mine(WriterSpec):
        pass

    assert kind_of(WriterSpec) is kind_of(Mine) is KINDS["writers"]
