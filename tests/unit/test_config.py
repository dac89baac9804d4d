"""Settings: the order of the sources, where a value came from, and what is refused."""

from __future__ import annotations

import json
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from polyface.errors import ConfigError
from polyface.settings.config import CONTRADICTIONS, Config
from polyface.settings.loading import RESERVED, load_config
from polyface.settings.record import as_text
from polyface.settings.record import settings as known_settings

# Text without surrogates, which no UTF-8 file can hold.
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
words = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=8)
fractions = st.floats(0, 1)
counts = st.integers(1, 10_000)
scalars = st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | texts

numbers = st.lists(st.integers(-9, 9) | st.floats(-9, 9), min_size=1, max_size=3)
tables_of_lists = st.dictionaries(texts, scalars | numbers | st.lists(numbers, min_size=1, max_size=2), max_size=3)

VALUES = {
    "detector": texts,
    "family": texts,
    "family_options": tables_of_lists,
    "weights": texts,
    "backend": texts,
    "device": texts,
    "precision": texts,
    "score_threshold": fractions,
    "iou_threshold": fractions,
    "max_side": counts,
    "draft": st.booleans(),
    "formats": st.lists(st.sampled_from(["EPS", "SGI", "ICO"]), min_size=1, max_size=2, unique=True),
    "max_pixels": counts,
    "damaged": st.sampled_from(["refuse", "read"]),
    "infer_size": st.lists(counts, min_size=2, max_size=2),
    "fit": st.sampled_from(["letterbox", "stretch"]),
    "pad_to": counts,
    "view": st.sampled_from(["auto", "plain"]),
    "run_pixels": st.integers(65_536, 2**29),
    "preset": words,
    "scales": st.lists(st.floats(0, 8, exclude_min=True), min_size=1, max_size=3),
    "flip": st.booleans(),
    "tile": counts,
    "tile_overlap": st.floats(0, 0.9),
    "merge": st.sampled_from(["nms", "vote", "blend"]),
    "clip": st.booleans(),
    "batch_size": counts,
    "threads": st.integers(1, 1024),
    "runs": st.integers(1, 1024),
    "workers": st.integers(0, 1024),
    "backend_options": tables_of_lists,
    "artifacts": texts,
    "timing": st.booleans(),
    "trim": st.booleans(),
}
PLAIN = {**VALUES, **dict.fromkeys(("detector", "family", "weights", "backend", "device", "precision"), words)}
PLAIN["backend_options"] = st.dictionaries(words, st.booleans() | st.integers(0, 99), max_size=2)
PLAIN["family_options"] = st.dictionaries(
    words, st.integers(0, 99) | numbers | st.lists(numbers, max_size=2), max_size=2
)
# A file that is found anchors paths, and cannot set what guards against images.
for name in ("artifacts", "formats", "max_pixels"):
    del PLAIN[name]

layers = st.fixed_dictionaries({}, optional=PLAIN)


def agrees(table):
    """Whether no two settings contradict each other."""
    given_names = {name for name, value in table.items() if value != Config().as_dict()[name]}
    return not any({first, second} <= given_names for first, second in CONTRADICTIONS)


tables = st.fixed_dictionaries({}, optional=VALUES).filter(agrees)


def as_toml(table, *, section=""):
    """TOML by hand: inline tables, so that the section is one block."""

    def value(thing):
        if isinstance(thing, dict):
            return "{" + ", ".join(f"{json.dumps(k)} = {value(v)}" for k, v in thing.items()) + "}"
        return json.dumps(thing)

    return "\n".join([section, *(f"{name} = {value(thing)}" for name, thing in table.items())])


def as_environment(table):
    def text(value):
        if isinstance(value, dict):
            return ",".join(f"{name}={text(i) if isinstance(i, bool) else i}" for name, i in value.items())
        if isinstance(value, list):
            return ("x" if isinstance(value[0], int) else ",").join(map(str, value))
        return str(value).lower() if isinstance(value, bool) else str(value)

    return {f"POLYFACE_{name.upper()}": text(value) for name, value in table.items()}


def test_the_values_drawn_here_cover_every_setting():
    assert set(VALUES) == {key.name for key in known_settings(Config)}


# Four layers of all settings seldom agree.
@settings(deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(layers, layers, layers, layers)
def test_a_stronger_source_wins_and_every_value_remembers_its_own(in_file, in_project, in_environment, keywords):
    # An empty variable counts as unset, so no options are no variable.
    in_environment = {name: value for name, value in in_environment.items() if value != {}}
    assume(agrees({**in_file, **in_project, **in_environment, **keywords}))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "polyface.toml").write_text(as_toml(in_file), encoding="utf-8")
        (folder / "pyproject.toml").write_text(as_toml(in_project, section="[tool.polyface]"), encoding="utf-8")
        config = load_config(directory=folder, environ=as_environment(in_environment), **keywords)
    origins = (
        (in_file, lambda _: f"{folder / 'polyface.toml'}"),
        (in_project, lambda _: f"{folder / 'pyproject.toml'} [tool.polyface]"),
        (in_environment, lambda setting: f"environment POLYFACE_{setting.upper()}"),
        (keywords, lambda _: "keyword"),
    )
    expected, sources = Config().as_dict(), {}
    for table, origin in origins:
        expected |= table
        sources |= {setting: origin(setting) for setting in table}
    assert config.as_dict() == expected
    assert config.sources == sources


@given(tables)
def test_a_config_equals_one_made_of_its_dictionary(values):
    config = Config(**values)
    assert Config(**config.as_dict()) == config
    assert config.as_dict() == {**Config().as_dict(), **values}


@given(tables)
def test_a_config_survives_pickling(values):
    config = Config().replace(**values)
    again = pickle.loads(pickle.dumps(config))  # noqa: S301
    assert again == config
    assert again.sources == config.sources == dict.fromkeys(values, "keyword")


class TestFiles:
    def test_the_nearest_folder_with_settings_is_taken_and_no_other(self, tmp_path):
        (tmp_path / "polyface.toml").write_text("pad_to = 64\nclip = true\n")
        middle = tmp_path / "middle"
        inner = middle / "inner"
        inner.mkdir(parents=True)
        (middle / "polyface.toml").write_text("pad_to = 16\n")
        (inner / "pyproject.toml").write_text("[tool.other]\n")
        config = load_config(directory=inner, environ={})
        assert (config.pad_to, config.clip) == (16, False)

    def test_without_any_file_the_defaults_hold(self, tmp_path):
        assert load_config(directory=tmp_path, environ={}) == Config()

    def test_a_named_file_is_read_instead_of_the_one_found(self, tmp_path):
        (tmp_path / "polyface.toml").write_text("pad_to = 64\nclip = true\n")
        other = tmp_path / "other.toml"
        other.write_text("pad_to = 16\n")
        for config in (
            load_config(other, directory=tmp_path, environ={}),
            load_config(directory=tmp_path, environ={"POLYFACE_CONFIG": str(other)}),
        ):
            assert (config.pad_to, config.clip) == (16, False)

    def test_paths_in_a_file_are_meant_from_the_file(self, tmp_path):
        (tmp_path / "polyface.toml").write_text('weights = "nets/mine.pth"\nartifacts = "graphs"\n')
        inner = tmp_path / "inner"
        inner.mkdir()
        config = load_config(directory=inner, environ={})
        assert config.weights == str(tmp_path / "nets" / "mine.pth")
        assert config.artifacts == str(tmp_path / "graphs")

    def test_names_absolute_paths_and_keywords_stay_as_they_are(self, tmp_path):
        path = tmp_path / "polyface.toml"
        path.write_text('artifacts = "/graphs"\nweights = "wider"\n')
        config = load_config(path, environ={})
        assert (config.artifacts, config.weights) == ("/graphs", "wider")
        assert load_config(path, environ={}, artifacts="here").artifacts == "here"

    def test_a_home_folder_in_a_file_is_expanded(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path / "me"))
        (tmp_path / "polyface.toml").write_text('weights = "~/mine.pth"\n')
        assert load_config(directory=tmp_path, environ={}).weights == str(tmp_path / "me" / "mine.pth")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"pad_to = \n", "is not valid TOML."),
            (b"\xff\xfe", "cannot be read."),
            (b"pad_to = 1\npad_to = 2\n", "is not valid TOML."),
        ],
    )
    def test_a_file_that_is_no_toml_is_named(self, tmp_path, content, message):
        path = tmp_path / "polyface.toml"
        path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            load_config(directory=tmp_path, environ={})
        assert caught.value.what == f"{path} {message}"

    def test_a_named_file_that_is_missing_is_named(self, tmp_path):
        with pytest.raises(ConfigError) as caught:
            load_config(tmp_path / "gone.toml", environ={})
        assert caught.value.what == f"{tmp_path / 'gone.toml'} cannot be read."

    def test_a_tool_section_that_is_no_table_is_refused(self, tmp_path):
        (tmp_path / "pyproject.toml").write_text("[tool]\npolyface = 3\n")
        with pytest.raises(ConfigError, match=r"pyproject.toml \[tool.polyface\] must be a table"):
            load_config(directory=tmp_path, environ={})


class TestUnknownNames:
    def test_a_key_in_a_file_names_the_file_and_the_nearest(self, tmp_path):
        (tmp_path / "polyface.toml").write_text("devicee = 'cpu'\n")
        with pytest.raises(ConfigError) as caught:
            load_config(directory=tmp_path, environ={})
        place = tmp_path / "polyface.toml"
        assert caught.value.what == f"There is no setting 'devicee' ({place}); did you mean 'device'?"
        assert "pad_to" in caught.value.why[0]

    def test_a_keyword_names_the_nearest_even_where_its_value_is_none(self, tmp_path):
        with pytest.raises(ConfigError, match=r"^There is no setting 'scorethreshold' \(keyword\)"):
            load_config(directory=tmp_path, environ={}, scorethreshold=None)
        with pytest.raises(ConfigError, match=r"'batchsize' \(keyword\); did you mean 'batch_size'\?"):
            Config().replace(batchsize=2)

    def test_a_variable_names_the_nearest_variable(self, tmp_path):
        with pytest.raises(ConfigError) as caught:
            load_config(directory=tmp_path, environ={"POLYFACE_BACKNED": "torch"})
        assert str(caught.value).startswith("There is no setting POLYFACE_BACKNED (environment); did you mean ")
        assert "'POLYFACE_BACKEND'" in str(caught.value)

    def test_a_name_like_no_other_ends_the_sentence(self, tmp_path):
        with pytest.raises(ConfigError, match=r"^There is no setting 'zzz' \(keyword\)\.\n"):
            load_config(directory=tmp_path, environ={}, zzz=1)

    def test_reserved_and_foreign_and_empty_variables_are_no_settings(self, tmp_path):
        environ = {
            **{f"POLYFACE_{name}": "x" for name in RESERVED if name != "CONFIG"},
            "PATH": "/bin",
            "XPOLYFACE_PAD_TO": "3",
            "POLYFACE_PAD_TO": "",
        }
        assert load_config(directory=tmp_path, environ=environ) == Config()


class TestValues:
    @pytest.mark.parametrize(
        ("name", "value", "wanted"),
        [
            ("detector", 3, "text that is not empty"),
            ("detector", "", "text that is not empty"),
            ("detector", None, "text that is not empty"),
            ("score_threshold", 1.01, "a number from 0 to 1"),
            ("score_threshold", -0.1, "a number from 0 to 1"),
            ("score_threshold", float("nan"), "a number from 0 to 1"),
            ("score_threshold", "half", "a number from 0 to 1"),
            ("score_threshold", True, "a number from 0 to 1"),
            ("max_side", 0, "a whole number from 1 to 65536"),
            ("max_side", 2.0, "a whole number from 1 to 65536"),
            ("max_side", "2.5", "a whole number from 1 to 65536"),
            ("infer_size", 640, "a height and a width from 1 to 65536, such as [480, 640] or 480x640"),
            ("infer_size", [480], "a height and a width from 1 to 65536, such as [480, 640] or 480x640"),
            ("infer_size", "480x65537", "a height and a width from 1 to 65536, such as [480, 640] or 480x640"),
            ("infer_size", (480, 0), "a height and a width from 1 to 65536, such as [480, 640] or 480x640"),
            ("infer_size", (480, 640.0), "a height and a width from 1 to 65536, such as [480, 640] or 480x640"),
            ("infer_size", (True, 640), "a height and a width from 1 to 65536, such as [480, 640] or 480x640"),
            ("infer_size", "480", "a height and a width from 1 to 65536, such as [480, 640] or 480x640"),
            ("infer_size", "480x-640", "a height and a width from 1 to 65536, such as [480, 640] or 480x640"),
            ("infer_size", "480x640x3", "a height and a width from 1 to 65536, such as [480, 640] or 480x640"),
            ("scales", [1, 65537], "numbers greater than 0 and at most 65536, such as [0.5, 1, 2] or 0.5,1,2"),
            ("scales", [], "numbers greater than 0 and at most 65536, such as [0.5, 1, 2] or 0.5,1,2"),
            ("scales", [1, 0], "numbers greater than 0 and at most 65536, such as [0.5, 1, 2] or 0.5,1,2"),
            ("scales", "1,x", "numbers greater than 0 and at most 65536, such as [0.5, 1, 2] or 0.5,1,2"),
            ("scales", float("inf"), "numbers greater than 0 and at most 65536, such as [0.5, 1, 2] or 0.5,1,2"),
            ("scales", [True], "numbers greater than 0 and at most 65536, such as [0.5, 1, 2] or 0.5,1,2"),
            ("scales", None, "numbers greater than 0 and at most 65536, such as [0.5, 1, 2] or 0.5,1,2"),
            ("tile_overlap", 0.91, "a number from 0 to 0.9"),
            ("tile_overlap", -0.1, "a number from 0 to 0.9"),
            ("merge", "soft", "'nms' or 'vote' or 'blend'"),
            ("fit", "crop", "'letterbox' or 'stretch'"),
            ("fit", None, "'letterbox' or 'stretch'"),
            ("pad_to", True, "a whole number from 1 to 65536"),
            ("pad_to", None, "a whole number from 1 to 65536"),
            ("clip", 1, "true or false"),
            ("clip", "maybe", "true or false"),
            ("backend_options", [1], "a table of names and values, as in streams = 2 or mean = [104, 117, 123]"),
            (
                "backend_options",
                {"a": {"b": 1}},
                "a table of names and values, as in streams = 2 or mean = [104, 117, 123]",
            ),
            ("backend_options", {1: 2}, "a table of names and values, as in streams = 2 or mean = [104, 117, 123]"),
            ("backend_options", "threads", "of the form name=value,name=value"),
            ("backend_options", "=2", "of the form name=value,name=value"),
        ],
    )
    def test_a_wrong_value_says_what_is_wanted_what_was_given_and_where(self, name, value, wanted):
        with pytest.raises(ConfigError) as caught:
            Config(**{name: value})
        assert str(caught.value) == f"{name} must be {wanted}, not {value!r} (keyword)."

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("infer_size", "9" * 200_000 + "x480"),
            ("pad_to", 10**200_000),
            ("score_threshold", 10**5000),
            ("scales", [10**5000]),
            ("backend_options", {"threads": 10**5000}),
            ("backend_options", "a" * 200_000),
            ("fit", "x" * 200_000),
        ],
        ids=map(str, range(7)),
    )
    def test_a_wrong_value_of_any_length_is_shortened(self, name, value):
        with pytest.raises(ConfigError, match=f"^{name} must be ") as caught:
            Config(**{name: value})
        assert len(str(caught.value)) < 300

    def test_nested_values_are_refused_however_deep(self):
        nested = []
        for _ in range(100_000):
            nested = [nested]
        with pytest.raises(ConfigError, match=r"pad_to must be .* not a value of type list that cannot be written out"):
            Config(pad_to=nested)
        assert Config(backend_options="a=" + "[" * 100_000).backend_options == {"a": "[" * 100_000}
        assert Config(backend_options="a=1" + "0" * 5000).backend_options == {"a": "1" + "0" * 5000}
        assert Config(backend_options="a=[[[1]]],b=[1,x]").backend_options == {"a": "[[[1]]]", "b": "[1,x]"}
        with pytest.raises(ConfigError, match=r"^backend_options must be a table"):
            Config(backend_options={"a": nested})

    def test_a_wrong_value_in_a_file_or_variable_says_so(self, tmp_path):
        (tmp_path / "polyface.toml").write_text("pad_to = 'wide'\n")
        with pytest.raises(ConfigError, match=r"not 'wide' \(.*polyface.toml\)\.$"):
            load_config(directory=tmp_path, environ={})
        with pytest.raises(ConfigError, match=r"not '0' \(environment POLYFACE_PAD_TO\)\.$"):
            load_config(directory=tmp_path, environ={"POLYFACE_PAD_TO": "0"})

    def test_a_wrong_option_says_that_it_is_one(self, tmp_path):
        with pytest.raises(ConfigError, match=r"not 'x' \(command line\)\.$"):
            load_config(directory=tmp_path, environ={}, source="command line", pad_to="x")

    @pytest.mark.parametrize(
        ("text", "value"),
        [("1", True), ("TRUE", True), ("yes", True), ("on", True), ("0", False), ("no", False), ("Off", False)],
    )
    def test_text_becomes_a_flag(self, text, value):
        assert Config(clip=text).clip is value

    def test_text_becomes_the_type_of_the_setting(self):
        config = Config(score_threshold="0.25", max_side=" 640 ", weights=Path("a/b.pth"))
        assert (config.score_threshold, config.max_side, config.weights) == (0.25, 640, "a/b.pth")

    @pytest.mark.parametrize("size", [(480, 640), [480, 640], "480x640", " 480 X 640 "])
    def test_a_size_is_a_pair_or_a_text_height_first(self, size):
        assert Config(infer_size=size).infer_size == (480, 640)

    @pytest.mark.parametrize("scales", [(0.5, 2), [0.5, 2.0], "0.5,2", " 0.5 , 2 "])
    def test_scales_are_numbers_or_a_text_with_commas(self, scales):
        assert Config(scales=scales).scales == (0.5, 2.0)

    @pytest.mark.parametrize("scale", [2, 2.0, "2"])
    def test_one_scale_needs_no_list(self, scale):
        assert Config(scales=scale).scales == (2.0,)

    def test_text_becomes_a_table_of_typed_options(self):
        config = Config(backend_options="threads=2, spin=false,scale=0.5,mode=fast,path=a=b,")
        assert config.backend_options == {"threads": 2, "spin": False, "scale": 0.5, "mode": "fast", "path": "a=b"}

    def test_lists_of_numbers_stand_in_brackets_as_in_toml(self):
        text = "mean=[104,117.5, 123],anchors=[[16,32],[64]],order=rgb,"
        config = Config(family_options=text)
        assert config.family_options == {"mean": (104, 117.5, 123), "anchors": ((16, 32), (64,)), "order": "rgb"}
        assert config == Config(family_options={"mean": [104, 117.5, 123], "anchors": [[16, 32], [64]], "order": "rgb"})
        assert Config(family_options=as_text(None, config.family_options)) == config

    def test_the_options_cannot_be_changed_from_outside(self):
        given_options = {"threads": 2}
        config = Config(backend_options=given_options)
        given_options["threads"] = 3
        assert config.backend_options == {"threads": 2}
        with pytest.raises(TypeError):
            config.backend_options["threads"] = 4

    def test_replace_changes_what_it_names_and_nothing_else(self):
        config = Config(pad_to=8).replace(clip=True)
        assert (config.pad_to, config.clip, config.sources) == (8, True, {"clip": "keyword"})


def test_numbers_of_numpy_are_numbers():
    config = Config(max_side=np.int64(640), score_threshold=np.float32(0.5))
    assert (config.max_side, config.score_threshold) == (640, 0.5)
    assert (type(config.max_side), type(config.score_threshold)) == (int, float)


def test_a_deleted_current_folder_has_no_settings(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load_config(environ={}) == Config()


def test_a_file_may_begin_with_a_byte_order_mark_and_a_tool_may_be_no_table(tmp_path):
    (tmp_path / "polyface.toml").write_bytes(b"\xef\xbb\xbfclip = true\n")
    (tmp_path / "pyproject.toml").write_text("tool = 3\n")
    assert load_config(environ={}, directory=tmp_path).clip is True


def test_a_home_of_nobody_is_no_path(tmp_path):
    (tmp_path / "polyface.toml").write_text('artifacts = "~no-such-user/graphs"\n')
    with pytest.raises(ConfigError, match="'~no-such-user/graphs' is no path"):
        load_config(environ={}, directory=tmp_path)


class TestContradictions:
    @pytest.mark.parametrize("pair", CONTRADICTIONS, ids=" and ".join)
    def test_settings_that_contradict_each_other_are_refused_with_their_sources(self, tmp_path, pair):
        examples = {"infer_size": [480, 640], "max_side": 1024, "preset": "widerface-1600", "scales": [1, 2]}
        examples |= {"flip": True, "tile": 640, "merge": "vote"}
        first, second = pair
        (tmp_path / "polyface.toml").write_text(as_toml({second: examples[second]}))
        with pytest.raises(ConfigError) as caught:
            load_config(directory=tmp_path, environ={}, **{first: examples[first]})
        assert caught.value.what == f"{first} and {second} contradict each other."
        assert caught.value.why == (
            f"{first} is set (keyword)",
            f"{second} is set ({tmp_path / 'polyface.toml'})",
        )

    def test_one_can_take_the_place_of_the_other(self):
        config = Config(max_side=1024).replace(max_side=None, infer_size=(480, 640))
        assert (config.max_side, config.infer_size) == (None, (480, 640))
