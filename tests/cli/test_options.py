"""How the command line writes a fix: what it says can be typed as it stands."""

from __future__ import annotations

import shlex
import tomllib
from unittest import mock

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyface.cli.options import config_options, in_options
from polyface.cli.tables import say_error
from polyface.errors import ConfigError, Fix
from polyface.settings.config import Config, Job
from polyface.settings.loading import load
from polyface.settings.record import settings

TEXT = st.text(st.characters(exclude_characters=",\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
BARE = TEXT.filter(
    lambda text: (
        text == text.strip() and not {"[", "]"} & {*text} and not isinstance(read_scalar(text), bool | int | float)
    )
)
"""An option has no other text in a table."""
NAMES = st.from_regex("[a-z][a-z_]{0,9}", fullmatch=True)
SIDES = st.integers(1, 65_536)
FRACTIONS = st.floats(0, 1)
FLAGS = st.booleans()
NUMBERS = st.lists(st.integers(0, 999) | st.floats(0, 9), min_size=1, max_size=3).map(tuple)
VALUES = {
    "detector": TEXT,
    "family": TEXT,
    # A part of a message is cut where it is too long, so there are a few options, of a few numbers each.
    "family_options": st.dictionaries(
        NAMES, NUMBERS | st.lists(NUMBERS, min_size=1, max_size=4).map(tuple), min_size=1, max_size=4
    ),
    "weights": TEXT,
    "artifacts": TEXT,
    "backend": TEXT,
    "device": TEXT,
    "precision": TEXT,
    "score_threshold": FRACTIONS,
    "iou_threshold": FRACTIONS,
    "max_side": SIDES,
    "draft": FLAGS,
    "formats": st.lists(st.sampled_from(["SGI", "ICO", "EPS"]), unique=True, min_size=1).map(tuple),
    "max_pixels": st.integers(1, 999_999_999),
    "damaged": st.sampled_from(["refuse", "read"]),
    "infer_size": st.tuples(SIDES, SIDES),
    "fit": st.sampled_from(["letterbox", "stretch"]),
    "pad_to": SIDES,
    "view": st.sampled_from(["auto", "plain"]),
    "preset": TEXT,
    "scales": st.lists(st.floats(0.001, 9) | st.integers(1, 9), min_size=1, max_size=3).map(tuple),
    "flip": FLAGS,
    "tile": SIDES,
    "tile_overlap": st.floats(0, 0.9),
    "merge": st.sampled_from(["nms", "vote", "blend"]),
    "clip": FLAGS,
    "batch_size": SIDES,
    "run_pixels": st.integers(256 * 256, 2**29),
    "threads": st.integers(1, 1024),
    "runs": st.integers(1, 1024),
    "workers": st.integers(0, 1024),
    "trim": FLAGS,
    "backend_options": st.dictionaries(
        NAMES, FLAGS | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | BARE, min_size=1, max_size=3
    ),
    "timing": FLAGS,
    "output": st.lists(TEXT, min_size=1, max_size=3).map(tuple),
    "json": FLAGS,
    "resume": FLAGS,
    "follow_links": FLAGS,
    "max_errors": st.integers(0, 999_999_999),
}


def read_scalar(text):
    """What TOML makes of it, or None."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        return None


def parsed(text):
    """The settings that a command gets of options, of the detector and of the job."""

    @click.command()
    @config_options()
    def command(config_file, **overrides):
        return load(Config, Job, path=config_file, environ={}, overrides=overrides)

    with mock.patch("polyface.settings.loading.find_sources", return_value=[]):
        return command.main(shlex.split(text), standalone_mode=False)


@pytest.mark.parametrize("name", [key.name for key in settings(Config, Job)])
def test_the_options_of_a_fix_give_the_settings_it_has(name):
    @given(VALUES[name])
    def check(value):
        table = {name: value}
        expected = (Config(), Job(**table)) if hasattr(Job(), name) else (Config(**table), Job())
        assert parsed(in_options(Fix(settings=table))) == expected

    check()


def test_settings_that_belong_together_stand_in_one_line():
    fix = Fix("in floats", settings={"precision": "fp32", "infer_size": (480, 640), "clip": False, "scales": (0.5, 1)})
    assert in_options(fix) == "in floats: --precision fp32 --infer-size 480x640 --no-clip --scales 0.5,1"


def test_an_option_that_is_no_setting_and_one_given_several_times_are_written_as_they_are_typed():
    fix = Fix("if it is yours", settings={"config": "/a b/polyface.toml", "output": ("out", "faces.jsonl")})
    assert in_options(fix) == "if it is yours: --config '/a b/polyface.toml' --output out --output faces.jsonl"


def test_names_of_settings_are_options_in_every_alternative():
    fix = Fix("lower", names=("max_side", "pad_to")) | Fix("keep fewer", settings={"backend_options": {"graphs": 0}})
    assert in_options(fix) == "lower --max-side or --pad-to; or: keep fewer: --backend-options graphs=0"


def test_an_error_is_told_in_options_and_raised_in_keywords(capsys):
    error = ConfigError("It broke.", why=["too old"], fix=Fix(settings={"device": "cpu"}))
    say_error(error)
    assert capsys.readouterr().err == "error: It broke.\n  - too old\nTo fix it: --device cpu\n"
    assert str(error) == 'It broke.\n  - too old\nTo fix it: device="cpu"'
