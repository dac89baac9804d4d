"""A detector that is a user's own ONNX file: which settings count, what lies beside it, and what is refused."""

from __future__ import annotations

import os
from types import SimpleNamespace

import attrs
import pytest

import polyface
from polyface.errors import (
    ConfigError,
    ContractError,
    Fix,
    PluginError,
    UnknownNameError,
    WeightsMismatchError,
    WeightsNotFoundError,
)
from polyface.graphs.artifacts import ArtifactKey
from polyface.graphs.families import KEYS, find_detector, settle
from polyface.plugins.manager import PluginManager
from polyface.plugins.records import DetectorSpec, GraphSource, TensorSpec
from polyface.settings.config import Config
from toy_family import FAMILY

onnx = pytest.importorskip("onnx", reason="the files are written with onnx: pip install onnx")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def plugins():
    manager = PluginManager()
    manager.register(
        SimpleNamespace(polyface_detectors=polyface.hookimpl(lambda: [FAMILY])), name="toys", distribution="toy-faces"
    )
    return manager


def write(path, *, image=("n", 3, "h", "w"), outputs=(("faces", ("n", "p", 5)),), dtype=1):
    """Write a graph of no operations, with these inputs and outputs."""
    value = onnx.helper.make_tensor_value_info
    values = [value(name, dtype, dims) for name, dims in outputs]
    graph = onnx.helper.make_graph([], "toy", [value("image", 1, image)], values)
    onnx.save(onnx.helper.make_model(graph), path)
    return path


@pytest.fixture
def mine(folder):
    return write(folder / "mine.onnx")


class TestSettings:
    def test_a_name_is_looked_up_as_ever(self):
        config = Config(detector="acme/toy.v2", weights="wider")
        assert settle(config) is config

    def test_the_path_becomes_whole_and_the_rest_stays(self, folder):
        config = settle(Config(detector="./mine.onnx", family="toys", pad_to=8))
        assert (config.detector, config.family, config.pad_to) == (str(folder / "mine.onnx"), "toys", 8)
        assert settle(config) == config

    @pytest.mark.parametrize("name", ["mine.onnx", "MINE.ONNX"])
    def test_an_ending_makes_a_file_of_it(self, name):
        assert settle(Config(detector=name)).detector.endswith(f"/{name}")

    @pytest.mark.parametrize("settings", [{"family": "toys"}, {"family_options": {"mean": [1, 2, 3]}}])
    def test_a_name_has_no_family(self, settings):
        with pytest.raises(ConfigError, match=r"^family says how an ONNX file is read, and the detector 'toy' is none"):
            settle(Config(detector="toy", **settings))

    @pytest.mark.parametrize("source", ["environment POLYFACE_FAMILY", "/home/me/polyface.toml"])
    def test_a_family_of_a_weaker_source_is_for_files_alone(self, source):
        said = {"family": "toys", "family_options": {"mean": [1, 2, 3]}}
        sources = dict.fromkeys(said, source)
        config = settle(Config(detector="toy", pad_to=8, **said, sources=sources))
        assert (config.family, config.family_options, config.pad_to) == (None, {}, 8)
        assert settle(Config(detector="mine.onnx", **said, sources=sources)).family == "toys"
        with pytest.raises(ConfigError, match=r"(?s)the detector 'toy' is none.*family is set \(option\)"):
            settle(Config(detector="toy", **said, sources={**sources, "family": "option"}))

    @pytest.mark.parametrize("name", ["weights", "artifacts"])
    def test_every_path_becomes_whole(self, folder, name):
        config = settle(Config(detector="toy", **{name: "./mine.pth"}))
        assert getattr(config, name) == str(folder / "mine.pth")
        assert settle(config) is config

    def test_a_file_takes_no_other_weights(self):
        with pytest.raises(ConfigError, match=r"^An ONNX file holds its weights, and takes no others\."):
            settle(Config(detector="mine.onnx", weights="wider"))


class TestBeside:
    TEXT = 'family = "toys"\n[family_options]\nmean = [1, 2, 3]\nwrong = "no"\n'

    def test_what_lies_beside_is_read(self, folder):
        (folder / "mine.toml").write_text(self.TEXT)
        config = settle(Config(detector="mine.onnx"))
        assert (config.family, config.family_options) == ("toys", {"mean": (1, 2, 3), "wrong": "no"})
        assert config.sources["family"] == str(folder / "mine.toml")

    def test_what_is_set_is_stronger_one_by_one(self, folder):
        (folder / "mine.toml").write_text(self.TEXT)
        config = settle(Config(detector="mine.onnx", family="toys", family_options={"mean": [4, 5, 6]}))
        assert config.family_options == {"mean": (4, 5, 6), "wrong": "no"}

    def test_options_of_another_family_do_not_count_which_is_said_once(self, folder, caplog):
        (folder / "mine.toml").write_text(self.TEXT)
        config = settle(settle(Config(detector="mine.onnx", family="ssd")))
        assert (config.family, config.family_options) == ("ssd", {})
        said = f"family_options ({folder / 'mine.toml'}) is left out: it is for the family 'toys', not 'ssd'"
        assert [record.getMessage() for record in caplog.records] == [said]

    def test_options_without_a_family_are_of_any(self, folder):
        (folder / "mine.toml").write_text("[family_options]\nmean = [1, 2, 3]")
        config = settle(Config(detector="mine.onnx", family="ssd", family_options={"std": [4, 5, 6]}))
        assert (config.family, config.family_options) == ("ssd", {"mean": (1, 2, 3), "std": (4, 5, 6)})

    def test_that_it_counts_is_said_once(self, folder, caplog):
        caplog.set_level("INFO")
        (folder / "mine.toml").write_text(self.TEXT)
        config = settle(Config(detector="mine.onnx"))
        assert settle(config) == config
        said = f"settings from {folder / 'mine.toml'}: family, family_options"
        assert [record.getMessage() for record in caplog.records] == [said]

    @pytest.mark.parametrize(
        ("text", "given", "keys"),
        [
            ('family = "toys"\n[family_options]\nmean = 3', {}, ["family", "family_options"]),
            ("[family_options]\nmean = 3", {"family": "toys"}, ["family_options"]),
            ('family = "toys"\n', {"family_options": {"mean": 3}}, ["family"]),
            ('family = "toys"\n[family_options]\nmean = 4', {"family_options": {"mean": 3}}, ["family"]),
            ('family = "toy"', {}, ["family"]),
        ],
    )
    def test_an_error_of_what_it_says_names_it(self, folder, mine, plugins, text, given, keys):  # noqa: ARG002
        (folder / "mine.toml").write_text(text)
        with pytest.raises((ConfigError, UnknownNameError)) as caught:
            find_detector(Config(detector="mine.onnx", **given), plugins)
        assert [why for why in caught.value.why if "is set" in why] == [
            f"{key} is set ({folder / 'mine.toml'})" for key in keys
        ]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("detector = 'other'", r"mine.toml may say family and family_options, not 'detector'\.$"),
            ("family = 3", r"^family must be text that is not empty, not 3 \(.*mine.toml\)\.$"),
            ("family_options = 3", r"^family_options must be a table of names and values, .*mine.toml\)\.$"),
            ("family = ", r"mine.toml is not valid TOML\."),
            ("a" + ".a" * 60_000 + " = 1", r"mine.toml is too large\."),
        ],
    )
    def test_what_is_wrong_in_it_is_refused_with_its_name(self, folder, text, message):
        (folder / "mine.toml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            settle(Config(detector="mine.onnx"))

    def test_what_anybody_may_have_written_is_left_out_with_a_word(self, folder, caplog):
        (folder / "mine.toml").write_text(self.TEXT)
        (folder / "mine.toml").chmod(0o666)
        assert settle(Config(detector="mine.onnx")).family is None
        (folder / "mine.toml").chmod(0o600)
        folder.chmod(0o777)
        assert settle(Config(detector="mine.onnx")).family is None
        folder.chmod(0o700)
        assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
            "it can be written to by everyone; to use it all the same, set what it says",
            "its folder can be written to by everyone; to use it all the same, set what it says",
        ]

    @pytest.mark.parametrize("source", ["environment POLYFACE_{}", "/home/me/polyface.toml"])
    def test_it_is_stronger_than_files_of_settings_and_the_environment(self, folder, caplog, source):
        caplog.set_level("INFO")
        (folder / "mine.toml").write_text(self.TEXT)
        sources = {key: source.format(key.upper()) for key in ("detector", "family", "family_options")}
        weaker = {"mean": [9, 9, 9], "std": [4, 5, 6]}
        both = f"{folder / 'mine.toml'} and {sources['family_options']}"
        config = settle(Config(detector="mine.onnx", family="toys", family_options=weaker, sources=sources))
        assert config.family_options == {"mean": (1, 2, 3), "std": (4, 5, 6), "wrong": "no"}
        assert [config.sources[key] for key in KEYS] == [str(folder / "mine.toml"), both]
        config = settle(Config(detector="mine.onnx", family="ssd", family_options=weaker, sources=sources))
        assert (config.family, config.family_options) == ("toys", {"mean": (1, 2, 3), "wrong": "no"})
        assert [config.sources[key] for key in KEYS] == [str(folder / "mine.toml")] * 2
        told = f"settings from {folder / 'mine.toml'}: family, family_options"
        left_out = f"family_options ({sources['family_options']}) is left out: it is for the family 'ssd', not 'toys'"
        assert [record.getMessage() for record in caplog.records] == [told, left_out, told]

    @pytest.mark.parametrize("elsewhere", ["detector", "family"])
    @pytest.mark.parametrize("source", ["environment POLYFACE_{}", "/home/me/polyface.toml"])
    def test_options_of_a_weaker_source_are_of_its_detector_and_family_alone(self, caplog, source, elsewhere):
        sources = {key: source.format(key.upper()) for key in ("detector", "family", "family_options")}
        said = {"detector": "mine.onnx", "family": "toys", "family_options": {"mean": [1, 2, 3]}}
        assert settle(Config(**said, sources=sources)).family_options == {"mean": (1, 2, 3)}
        config = settle(Config(**said, sources={**sources, elsewhere: "option"}))
        assert (config.family, config.family_options) == ("toys", {})
        assert "family_options" not in config.sources
        source = sources["family_options"]
        said = f"family_options ({source}) is left out: it counts beside the detector and the family of the same source"
        assert [record.getMessage() for record in caplog.records] == [said]

    def test_only_what_counts_of_it_is_said_to_be_from_it(self, folder, caplog):
        caplog.set_level("INFO")
        (folder / "mine.toml").write_text('family = "toys"\n[family_options]\nmean = [1, 2, 3]\n')
        config = settle(Config(detector="mine.onnx", family="toys", family_options={"mean": [4, 5, 6]}))
        assert [config.sources[key] for key in KEYS] == ["keyword", "keyword"]
        assert not caplog.records

    def test_what_lay_beside_another_file_is_of_that_one(self, folder):
        (folder / "mine.toml").write_text(self.TEXT)
        config = settle(settle(Config(detector="mine.onnx")).replace(detector="other.onnx"))
        assert (config.family, config.family_options) == (None, {})
        assert not {*KEYS} & {*config.sources}

    def test_where_there_is_none_nothing_is_said(self, folder, caplog):
        folder.chmod(0o777)
        assert settle(Config(detector="mine.onnx")).family is None
        folder.chmod(0o700)
        assert settle(Config(detector="none/mine.onnx")).family is None
        assert not caplog.records

    def test_a_pipe_is_not_waited_on(self, folder, caplog):
        os.mkfifo(folder / "mine.toml")
        assert settle(Config(detector="mine.onnx")).family is None
        assert "it is no regular file" in caplog.text


class TestFind:
    def find(self, plugins, **settings):
        return find_detector(Config(detector="mine.onnx", **{"family": "toys", **settings}), plugins)

    def test_the_family_makes_the_record(self, plugins, mine):
        spec, weights = self.find(plugins, family_options={"mean": [1, 2, 3]})
        assert (spec.name, spec.preprocess.mean, spec.outputs[0].name) == ("mine", (1, 2, 3), "faces")
        assert (weights.own, weights.sha256, weights.detector) == (mine, spec.weights[0].sha256, str(mine))
        assert weights.own_graph
        assert weights.options == ["--family", "toys", "--family-options", "mean=[1,2,3]"]
        assert self.find(plugins)[1].options == ["--family", "toys"]

    @pytest.mark.parametrize(
        ("name", "called"),
        [
            ("Mine v2.onnx", "mine-v2"),
            ("-.onnx", "onnx-file"),
            ("ß" * 9 + ".onnx", "onnx-file"),
            ("a" * 200 + ".onnx", "a" * 100),
        ],
    )
    def test_the_detector_is_called_like_the_file(self, plugins, folder, name, called):
        write(folder / name)
        assert find_detector(Config(detector=name, family="toys"), plugins)[0].name == called

    @pytest.mark.parametrize(
        ("image", "outputs", "kind", "input_dims", "output_dims"),
        [
            (("n", 3, "h", "w"), ("n", "p", 5), "onnx", ("n", 3, "h", "w"), ("n", "p0", 5)),
            ((None, 3, None, None), (None, None, 5), "onnx", ("n", 3, "h", "w"), ("n", "p0", 5)),
            ((2, 3, 64, 96), (2, 24, 5), "onnx", (2, 3, 64, 96), (2, 24, 5)),
            (("b", 3, 64, 96), ("b", 24, 5), "onnx", ("n", 3, 64, 96), ("n", 24, 5)),
            ((1, 3, "h", "w"), (1, 12800, 5), "onnx", (1, 3, "h", "w"), (1, "p0", 5)),
            ((1, 3, "h", "w"), (12800, 5), "onnx-file", ("n", 3, "h", "w"), ("n", "p0", 5)),
            ((1, 3, 64, "w"), (1, 12, 5), "onnx-file", ("n", 3, "h", "w"), ("n", "p0", 5)),
        ],
    )
    def test_free_and_fixed_sides_are_those_of_the_file(
        self, plugins, folder, image, outputs, kind, input_dims, output_dims
    ):
        write(folder / "mine.onnx", image=image, outputs=[("faces", outputs)])
        spec, _ = self.find(plugins)
        assert (spec.graphs[0].kind, spec.input.dims, spec.outputs[0].dims) == (kind, input_dims, output_dims)

    @pytest.mark.parametrize(
        "file",
        [
            {"image": ("n", "h", "w", 3)},
            {"image": ("n", 3, 64)},
            {"dtype": 10},
            {"image": (1, 1, 64, 64)},
            {"outputs": [("faces", None)]},
        ],
    )
    def test_another_input_or_type_is_refused(self, plugins, folder, file):
        write(folder / "mine.onnx", **file)
        for settings in ({}, {"family": None}):
            with pytest.raises(ConfigError, match=r"^mine.onnx holds a network that no family takes\.") as caught:
                self.find(plugins, **settings)
            assert str(caught.value.fix).startswith("export it as NCHW, with three channels")

    def test_what_is_made_of_a_file_is_stored_by_what_its_record_declares(self, plugins, folder):
        write(folder / "mine.onnx", image=(1, 3, 64, 96), outputs=[("faces", (1, 24, 5))])
        fixed, weights = self.find(plugins)
        freed = attrs.evolve(
            fixed,
            input=TensorSpec(name="image", dims=("n", 3, "h", "w")),
            outputs=[TensorSpec(name="faces", dims=("n", "p", 5))],
        )
        keys = [ArtifactKey.of(spec, weights.sha256, "onnx-int8") for spec in (fixed, freed)]
        assert keys[0].digest != keys[1].digest

    def test_what_was_calibrated_on_input_prepared_otherwise_is_another_graph(self, plugins, mine):  # noqa: ARG002
        keys = [
            ArtifactKey.of(*self.key(plugins, mean), "onnx-int8").digest
            for mean in ([0, 0, 0], [0.0, 0.0, 0.0], [127.5, 127.5, 127.5])
        ]
        assert keys[0] == keys[1] != keys[2]

    def key(self, plugins, mean):
        spec, weights = self.find(plugins, family_options={"mean": mean})
        return spec, weights.sha256

    def test_in_another_process_the_file_beside_counts_no_more(self, plugins, mine):
        beside = mine.with_suffix(".toml")
        beside.write_text('family = "toys"\n')
        config = settle(Config(detector="mine.onnx"))
        _, weights = find_detector(config, plugins)
        beside.write_text('family = "toys"\nfamily_options = {mean = [9, 9, 9]}\n')
        assert find_detector(config, plugins, weights.sha256)[0].preprocess.mean == (0, 0, 0)

    def test_in_another_process_the_file_must_be_the_same(self, plugins, mine):
        config = settle(Config(detector="mine.onnx", family="toys"))
        _, weights = find_detector(config, plugins)
        mine.write_bytes(mine.read_bytes() + b"\x3a\x00")
        with pytest.raises(WeightsMismatchError, match="is not the file it should be") as caught:
            find_detector(config, plugins, weights.sha256)
        assert str(caught.value.fix) == "make the detector again, of the file that is there now"
        mine.unlink()
        with pytest.raises(WeightsNotFoundError):
            find_detector(config, plugins, weights.sha256)

    def test_what_is_no_file_is_refused(self, plugins):
        with pytest.raises(WeightsNotFoundError, match=r"^There is no file at .*mine.onnx"):
            self.find(plugins)

    def test_a_family_that_is_not_installed_says_what_brings_it(self, plugins, mine):  # noqa: ARG002
        with pytest.raises(UnknownNameError, match=r"(?s)no family named 'yunet'.*pip install polyface-yunet$"):
            self.find(plugins, family="yunet")
        with pytest.raises(UnknownNameError, match=r"no family named 'toy'; did you mean 'toys'\?"):
            self.find(plugins, family="toy")

    def test_without_a_family_the_error_shows_the_file_and_the_families(self, plugins, mine):  # noqa: ARG002
        with pytest.raises(ConfigError) as caught:
            self.find(plugins, family=None)
        assert caught.value.why[1:] == (
            "mine.onnx has the outputs faces (n, p, 5)",
            "families: toys (Toys)",
            "by its shapes it may be of: toys",
        )
        assert str(caught.value.fix).startswith('family="toys"; or: choose one as family; or: to keep it, write ')

    def test_where_none_that_is_there_fits_it_says_what_brings_others(self, plugins, folder):
        plugin = SimpleNamespace(polyface_detectors=polyface.hookimpl(lambda: [attrs.evolve(FAMILY, name="scrfd")]))
        plugins.register(plugin, name="scrfd", distribution="polyface-scrfd")
        write(folder / "mine.onnx", outputs=[("faces", ("n", "p", 4))])
        with pytest.raises(ConfigError) as caught:
            self.find(plugins, family=None)
        assert caught.value.why[3:] == (
            "by its shapes it may be of: none of them",
            "families that are not here: centerface (of polyface-centerface), retinaface (of polyface-retinaface), "
            "ssd (of polyface-retinaface), yunet (of polyface-yunet)",
        )
        install = "pip install polyface-centerface polyface-retinaface polyface-yunet"
        assert str(caught.value.fix).startswith(f"{install}; or: to keep it, write ")

    def test_without_any_family_it_says_what_brings_some(self, mine):  # noqa: ARG002
        with pytest.raises(ConfigError, match=r"(?s)families: none is installed.*pip install .*polyface-retinaface"):
            self.find(PluginManager(), family=None)

    @pytest.mark.parametrize(
        ("wrong", "error", "message"),
        [
            ("raises", PluginError, "The family 'toys' failed on mine.onnx.*ZeroDivisionError: by zero"),
            ("contract", ConfigError, "makes no detector of mine.onnx with these options.*A record is wrong"),
            ("none", ContractError, "The family 'toys' made no DetectorSpec of mine.onnx with its weights"),
        ],
    )
    def test_what_a_familys_code_does_wrong_is_told_with_its_name(self, plugins, mine, wrong, error, message):  # noqa: ARG002
        with pytest.raises(error, match=f"(?s){message}"):
            self.find(plugins, family_options={"wrong": wrong})

    def test_names_in_a_file_are_shown_so_that_nothing_is_hidden(self, plugins, folder):
        write(folder / "mine.onnx", outputs=[("fa\u202ece\n\x1b[2J", ("n", "p", 4))])
        with pytest.raises(ConfigError) as caught:
            self.find(plugins)
        assert all(line.isprintable() for line in caught.value.why)

    def test_names_are_found_by_name(self, detector_spec):
        manager = PluginManager()
        manager.register(
            SimpleNamespace(polyface_detectors=polyface.hookimpl(lambda: [detector_spec])), name="t", distribution="t"
        )
        assert find_detector(Config(detector="toy"), manager)[0] is manager.get(DetectorSpec, "toy")


class TestAsWeightsOfADetector:
    """Each detector of the plugin that has the family: one whose weights are a graph, and one that is built."""

    FREE = ("n", 3, "h", "w")

    @pytest.fixture
    def plugins(self, detector_spec, weights_file):
        built = attrs.evolve(detector_spec, weights=[weights_file], landmarks=())
        graphs = [GraphSource(kind="onnx", weights="wider")]
        made = [FAMILY, built, attrs.evolve(built, name="graph", graphs=graphs)]
        made.append(attrs.evolve(built, name="freed", graphs=[attrs.evolve(graphs[0], kind="onnx-file")]))
        size = TensorSpec(name="image", dims=("n", 3, 64, 96)), [TensorSpec(name="heads", dims=("n", 24, 5))]
        made.append(attrs.evolve(made[2], name="fixed", input=size[0], outputs=size[1]))
        manager = PluginManager()
        others = [attrs.evolve(FAMILY, name="others")]
        for owner, records in (
            ("toy-faces", made),
            ("others", others),
            ("lone-faces", [attrs.evolve(built, name="lone")]),
        ):
            plugin = SimpleNamespace(polyface_detectors=polyface.hookimpl(lambda records=records: records))
            manager.register(plugin, name=owner, distribution=owner)
        return manager

    @pytest.mark.parametrize(
        ("detector", "image", "heads"),
        [
            ("graph", FREE, ("n", "p", 5)),
            ("graph", (None, 3, None, None), (1, 24, 5)),
            ("freed", (1, 3, 64, 96), (24, 5)),
            ("fixed", ("n", 3, 64, 96), ("n", 24, 5)),
            ("fixed", FREE, ("n", "p", 5)),
        ],
    )
    def test_a_file_that_takes_what_the_detector_gives_is_taken(self, plugins, folder, detector, image, heads):
        path = write(folder / "mine.onnx", image=image, outputs=[("heads", heads)])
        assert find_detector(Config(detector=detector, weights="mine.onnx"), plugins)[1].own == path

    @pytest.mark.parametrize(
        ("detector", "image", "heads", "why"),
        [
            ("graph", (1, 3, 64, 96), ("n", "p", 5), "image (n, 3, h, w); the file has image (1, 3, 64, 96)"),
            ("graph", (1, 3, "h", "w"), ("n", "p", 5), "image (n, 3, h, w); the file has image (1, 3, h, w)"),
            ("graph", FREE, ("n", "p", 4), "heads (n, p, 5); the file has heads (n, p, 4)"),
            ("graph", FREE, ("p", 5), "heads (n, p, 5); the file has heads (p, 5)"),
            ("fixed", ("n", 3, 64, 64), ("n", 24, 5), "image (n, 3, 64, 96); the file has image (n, 3, 64, 64)"),
        ],
    )
    def test_another_network_or_size_is_refused(self, plugins, folder, detector, image, heads, why):
        write(folder / "mine.onnx", image=image, outputs=[("heads", heads)])
        with pytest.raises(WeightsMismatchError, match=f"^'{detector}' cannot take mine.onnx as its weights") as caught:
            find_detector(Config(detector=detector, weights="mine.onnx"), plugins)
        assert caught.value.why == (f"wanted: {why}",)

    def test_a_detector_that_is_built_takes_none_and_the_family_of_its_plugin_is_named(self, plugins, mine):
        with pytest.raises(WeightsMismatchError) as caught:
            find_detector(Config(detector="toy", weights="mine.onnx"), plugins)
        assert caught.value.why == ("its network is built by code, and loads checkpoints",)
        assert caught.value.fix == Fix(settings={"detector": str(mine), "family": "toys"})

    def test_where_its_plugin_has_none_every_family_that_fits_is_named(self, plugins, mine):
        with pytest.raises(WeightsMismatchError) as caught:
            find_detector(Config(detector="lone", weights="mine.onnx"), plugins)
        ways = [Fix(settings={"detector": str(mine), "family": name}) for name in ("others", "toys")]
        assert caught.value.fix == ways[0] | ways[1]

    def test_a_file_that_no_family_takes_has_no_such_fix(self, plugins, folder):
        write(folder / "mine.onnx", outputs=[("heads", ("n", "p", 4))])
        with pytest.raises(WeightsMismatchError) as caught:
            find_detector(Config(detector="toy", weights="mine.onnx"), plugins)
        assert str(caught.value.fix) == "choose others, or none, as weights"
