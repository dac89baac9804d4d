"""What an error says, and that it survives the way to another process."""

from __future__ import annotations

import copy
import pickle

import pytest

from polyface import errors
from polyface.planning import Reason

BASES = {
    "ConfigError": ("PolyfaceError", ValueError),
    "UnknownNameError": ("PolyfaceError", LookupError),
    "AmbiguousNameError": ("PolyfaceError", LookupError),
    "PluginError": ("PolyfaceError", None),
    "ContractError": ("PluginError", None),
    "UnsupportedError": ("PolyfaceError", None),
    "BackendUnavailableError": ("PolyfaceError", RuntimeError),
    "ArtifactError": ("PolyfaceError", ValueError),
    "WeightsError": ("PolyfaceError", None),
    "WeightsNotFoundError": ("WeightsError", FileNotFoundError),
    "WeightsMismatchError": ("WeightsError", ValueError),
    "ImageError": ("PolyfaceError", ValueError),
    "EvaluationError": ("PolyfaceError", ValueError),
}
PLAIN = sorted({"PolyfaceError", *BASES} - {"UnsupportedError"})


def test_the_tree_is_the_documented_one():
    found = {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception) and name != "PolyfaceError"
    }
    actual = {}
    for name, cls in found.items():
        ours, *builtin = (base for base in cls.__bases__)
        actual[name] = (ours.__name__, *(builtin or [None]))
    assert actual == BASES


def test_the_message_says_what_happened_then_each_reason_then_the_fix():
    error = errors.ConfigError("It broke.", why=["too old", "too big"], fix="make it smaller")
    assert str(error) == "It broke.\n  - too old\n  - too big\nTo fix it: make it smaller"


@pytest.mark.parametrize("name", PLAIN)
def test_the_message_is_one_line_when_there_is_nothing_more_to_say(name):
    assert str(getattr(errors, name)("It broke.")) == "It broke."


@pytest.mark.parametrize("duplicate", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy], ids=["pickle", "copy"])  # noqa: S301
@pytest.mark.parametrize("name", PLAIN)
def test_every_error_pickles_whole(name, duplicate):
    error = getattr(errors, name)("It broke.", why=["a", "b"], fix="mend it")
    again = duplicate(error)
    assert type(again) is type(error)
    assert (again.what, again.why, again.fix, again.args) == ("It broke.", ("a", "b"), "mend it", ("It broke.",))
    assert str(again) == str(error)


def test_an_unsupported_error_pickles_with_its_reasons():
    reasons = [Reason(subject="onnx", why="absent", fix="pip install onnx"), Reason(subject="cuda", why="no driver")]
    error = errors.UnsupportedError("No way.", reasons)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert again.reasons == tuple(reasons)
    assert str(again) == str(error)


def test_an_unsupported_error_lists_each_reason_and_each_fix_once():
    error = errors.UnsupportedError(
        "No way.",
        [
            Reason(subject="onnx graph", why="onnx is not installed", fix="pip install onnx"),
            Reason(subject="artifact", why="none is stored"),
            Reason(subject="converter", why="onnx is not installed", fix="pip install onnx"),
            Reason(subject="weights", why="of another set", fix="--weights wider"),
        ],
    )
    assert str(error) == (
        "No way.\n"
        "  - onnx graph: onnx is not installed\n"
        "  - artifact: none is stored\n"
        "  - converter: onnx is not installed\n"
        "  - weights: of another set\n"
        "To fix it: pip install onnx; or: --weights wider"
    )


def test_nearest_offers_close_names_and_is_silent_about_far_ones():
    assert errors.nearest("devicee", ["detector", "device", "json"]) == "; did you mean 'device'?"
    assert errors.nearest("abc1", ["abc2", "abc3"]) in (
        "; did you mean 'abc2' or 'abc3'?",
        "; did you mean 'abc3' or 'abc2'?",
    )
    assert errors.nearest("zzz", ["device"]) == ""
