"""The table of the kinds of record, and the hooks that yield them: a kind stands in both, or it is half a kind."""

from __future__ import annotations

import collections.abc
import typing

from polyface.plugins import hookspecs
from polyface.plugins.kinds import KINDS, PREFIX, kind_of
from polyface.plugins.records import BackendSpec, CommandSpec, ConverterSpec, DetectorSpec, SourceSpec, WriterSpec


def test_every_kind_is_in_the_table():
    assert [(hook, kind.record, kind.label) for hook, kind in KINDS.items()] == [
        ("polyface_detectors", DetectorSpec, "detector"),
        ("polyface_backends", BackendSpec, "backend"),
        ("polyface_converters", ConverterSpec, "converter"),
        ("polyface_writers", WriterSpec, "writer"),
        ("polyface_sources", SourceSpec, "source"),
        ("polyface_commands", CommandSpec, "command"),
    ]


def test_every_hook_is_in_the_table_and_yields_its_record():
    hooks = {name: value for name, value in vars(hookspecs).items() if name.startswith("polyface_")}
    assert hooks.keys() == KINDS.keys()
    for name, hook in hooks.items():
        assert typing.get_type_hints(hook)["return"] == collections.abc.Iterable[KINDS[name].record]


def test_a_hook_is_called_by_what_several_are_called():
    assert {hook.removeprefix(PREFIX) for hook in KINDS} == {f"{kind.label}s" for kind in KINDS.values()}


def test_the_kind_of_a_record_is_that_of_its_class_and_of_classes_made_from_it():
    class Mine(WriterSpec):
        pass

    assert kind_of(WriterSpec) is kind_of(Mine) is KINDS["polyface_writers"]
