"""What an error says, and that it survives the way to another process."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyface import errors
from polyface.errors import Fix, Reason

BASES = {
    "ConfigError": ("PolyfaceError", ValueError),
    "UnknownNameError": ("PolyfaceError", LookupError),
    "AmbiguousNameError": ("PolyfaceError", LookupError),
    "PluginError": ("PolyfaceError", None),
    "ContractError": ("PluginError", None),
    "UnsupportedError": ("PolyfaceError", None),
    "BackendUnavailableError": ("PolyfaceError", RuntimeError),
    "ClosedError": ("BackendUnavailableError", None),
    "OutOfMemoryError": ("BackendUnavailableError", MemoryError),
    "NumericalError": ("BackendUnavailableError", None),
    "ArtifactError": ("PolyfaceError", ValueError),
    "WeightsError": ("PolyfaceError", None),
    "WeightsNotFoundError": ("WeightsError", FileNotFoundError),
    "WeightsMismatchError": ("WeightsError", ValueError),
    "ImageError": ("PolyfaceError", ValueError),
    "EvaluationError": ("PolyfaceError", ValueError),
}
SCALARS = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
VALUES = SCALARS | st.tuples(SCALARS, SCALARS) | st.dictionaries(st.text(max_size=9), SCALARS, max_size=3)
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
    assert (again.what, again.why, again.fix, again.args) == ("It broke.", ("a", "b"), Fix("mend it"), ("It broke.",))
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
            Reason(subject="weights", why="of another set", fix=Fix(settings={"weights": "wider"})),
            Reason(subject="artifact", why="none is stored", fix="pip install another"),  # of another backend
        ],
    )
    assert str(error) == (
        "No way.\n"
        "  - onnx graph: onnx is not installed\n"
        "  - artifact: none is stored\n"
        "  - converter: onnx is not installed\n"
        "  - weights: of another set\n"
        'To fix it: pip install onnx; or: weights="wider"; or: pip install another'
    )
    assert len(error.reasons) == 5


class TestFixing:
    def test_settings_are_keywords_in_python(self):
        fix = Fix("an engine for that size", settings={"infer_size": (480, 640), "device": "cpu", "clip": False})
        assert str(fix) == 'an engine for that size: infer_size=(480, 640), device="cpu", clip=False'

    def test_names_of_settings_complete_the_words(self):
        assert str(Fix("choose another", names=("backend",))) == "choose another backend"
        assert str(Fix("lower", names=("scales", "max_side", "pad_to"))) == "lower scales, max_side or pad_to"

    def test_a_command_follows_what_it_is_for(self):
        fix = Fix("mend the connection and repeat", command="polyface fetch toy")
        assert str(fix) == "mend the connection and repeat: polyface fetch toy"

    def test_alternatives_follow_each_other_each_once(self):
        first, second, third = Fix("mend it"), Fix(settings={"device": "cpu"}), Fix(command="nvidia-smi")
        assert str(first | second | third) == 'mend it; or: device="cpu"; or: nvidia-smi'
        assert (first | second) | (second | first) == first | second
        assert first | "mend it" == first

    def test_nothing_adds_nothing(self):
        nothing, fix = Fix(), Fix("mend it")
        assert not nothing
        assert not nothing | nothing
        assert str(nothing) == ""
        assert nothing | fix == fix | nothing == fix

    def test_as_plain_values_it_survives_json(self):
        fix = Fix("it runs at", settings={"infer_size": (480, 640)}) | Fix("choose another", names=("backend",))
        assert json.loads(json.dumps(fix.to_dict())) == {
            "words": "it runs at",
            "names": [],
            "settings": {"infer_size": [480, 640]},
            "command": "",
            "alternatives": [
                {
                    "words": "choose another",
                    "names": ["backend"],
                    "settings": {},
                    "command": "",
                    "alternatives": [],
                }
            ],
        }

    def test_it_pickles_with_its_error(self):
        fix = Fix(settings={"backend_options": {"graphs": 0}}) | Fix("lower", names=("max_side",))
        again = pickle.loads(pickle.dumps(errors.ConfigError("It broke.", fix=fix)))  # noqa: S301
        assert again.fix == fix
        assert hash(again.fix) == hash(fix)

    def test_a_text_is_its_words(self):
        assert errors.ConfigError("It broke.", fix="mend it").fix == Fix("mend it")
        assert Reason(subject="it", why="broke", fix="mend it").fix == Fix("mend it")

    @given(st.dictionaries(st.from_regex(r"[a-z]{3}_[a-z]{3}", fullmatch=True), VALUES))
    def test_python_reads_the_keywords_as_they_were_meant(self, table):
        assert eval(f"dict({Fix(settings=table)})", {}) == table  # noqa: S307


def test_nearest_offers_close_names_and_is_silent_about_far_ones():
    assert errors.nearest("devicee", ["detector", "device", "json"]) == "; did you mean 'device'?"
    assert errors.nearest("abc1", ["abc2", "abc3"]) in (
        "; did you mean 'abc2' or 'abc3'?",
        "; did you mean 'abc3' or 'abc2'?",
    )
    assert errors.nearest("zzz", ["device"]) == ""
    assert errors.nearest("DEVICE", ["Device"]) == "; did you mean 'Device'?"


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
