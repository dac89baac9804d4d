"""The keywords that editors and type checkers know are the settings of a detector, with their types and help."""

from __future__ import annotations

import inspect
import re
import typing

import pytest

import polyface
from polyface.settings import keywords
from polyface.settings.config import Config
from polyface.settings.keywords import AllSettings, Settings
from polyface.settings.record import settings


def test_the_keywords_are_the_settings_in_their_order_and_each_may_be_left_open():
    types = typing.get_type_hints(Config)
    expected = {key.name: types[key.name] | None for key in settings(Config)}
    assert typing.get_type_hints(AllSettings) == expected
    del expected["detector"]
    assert list(typing.get_type_hints(Settings).items()) == list(expected.items())


def test_each_keyword_is_documented_by_the_help_of_its_option():
    lines = re.findall(r"^    (\w+): .*?  #: (.*)$", inspect.getsource(keywords), flags=re.MULTILINE)
    assert dict(lines) == {key.name: key.metadata["help"] for key in settings(Config)}


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
