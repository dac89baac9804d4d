"""What an error says, and that it survives the way to another process."""

from __future__ import annotations

import copy
import pickle

import pytest

from polyface import errors
from polyface.errors import Reason

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


class TestQuoting:
    def test_a_short_value_is_written_as_python_writes_it(self):
        assert errors.quoted("a b") == "'a b'"
        assert errors.quoted("it's \x1b\n\u202e") == '"it\'s \\x1b\\n\\u202e"'
        assert (errors.quoted(3), errors.quoted([1, "a"]), errors.quoted(None)) == ("3", "[1, 'a']", "None")

    def test_a_long_one_is_its_beginning_and_its_length(self):
        assert errors.quoted("x" * 200_000) == f"'{'x' * 100}'... (200,000 characters)"
        assert errors.quoted([1] * 1000) == f"{'[' + '1, ' * 33}... (3,000 characters)"

    def test_what_cannot_be_written_out_is_named_by_its_type(self):
        class Odd:
            def __repr__(self):
                raise RuntimeError

        assert errors.quoted(Odd()) == "a value of type Odd that cannot be written out"
        assert errors.quoted(10**5000) == "a value of type int that cannot be written out"

    def test_no_part_of_a_message_is_longer_than_a_screen(self):
        error = errors.PolyfaceError("w" * 200_000, why=["y" * 200_000], fix="f" * 200_000)
        assert len(str(error)) < 3 * errors.LONGEST_PART + 200
        assert "(200,000 characters)" in error.why[0]

    def test_further_lines_of_a_reason_are_indented(self):
        error = errors.PolyfaceError("It broke.", why=["said:\nTo fix it: rm -r /"])
        assert str(error) == "It broke.\n  - said:\n    To fix it: rm -r /"

    def test_nearest_does_not_compare_texts_without_end(self):
        assert errors.nearest("x" * 3_000_000, ["x" * 3_000_000]) == ""
