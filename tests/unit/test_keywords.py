"""The keywords that editors know are the settings of a detector, with their types; each is described once."""

from __future__ import annotations

import typing

import pytest

import polyface
from polyface.settings.config import Config
from polyface.settings.keywords import AllSettings, Settings
from polyface.settings.loading import SETTINGS_RECORDS
from polyface.settings.record import describe, settings


def test_the_keywords_are_the_settings_in_their_order_and_each_may_be_left_open():
    types = typing.get_type_hints(Config)
    expected = {key.name: types[key.name] | None for key in settings(Config)}
    assert typing.get_type_hints(AllSettings) == expected
    del expected["detector"]
    assert list(typing.get_type_hints(Settings).items()) == list(expected.items())


@pytest.mark.parametrize("record", SETTINGS_RECORDS)
def test_the_docstring_of_a_record_describes_each_setting(record):
    assert all(describe(record).values())


def test_a_description_of_several_lines_is_one_text():
    assert describe(Config)["trim"].endswith("from growing and takes time; by default as the backend needs it.")


@pytest.mark.parametrize(
    ("function", "name", "record"),
    [
        (polyface.create_detector, "settings", Settings),
        (polyface.load_config, "overrides", AllSettings),
        (Config.replace, "changes", AllSettings),
    ],
)
def test_what_takes_settings_names_them(function, name, record):
    assert typing.get_type_hints(function)[name] == typing.Unpack[record]
