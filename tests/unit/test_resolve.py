"""Exports: what is made once, what is kept apart, and what is never stored."""

from __future__ import annotations

import hashlib
import json
import sys
import types
from pathlib import Path

import attrs
import pytest

import polyface
from polyface.building import resolve
from polyface.errors import ArtifactError, PluginError, WeightsMismatchError, WeightsNotFoundError
from polyface.graphs.artifacts import MANIFEST
from polyface.graphs.plan import plan
from polyface.graphs.resolve import export, load_graph
from polyface.graphs.weights import path_of
from polyface.plugins.hookspecs import hookimpl
from polyface.plugins.manager import PluginManager
from polyface.plugins.records import DetectorSpec, GraphSource
from polyface.settings.config import Config
from polyface.storage.files import sha256_of

NAMED = b"\x3a\x12\x5a\x07\x0a\x05image\x62\x07\x0a\x05heads"
"""An ONNX file whose graph has the input and the output of the toy's, without their shapes."""


class CopyingConverter:
    """Its graph is the checkpoint's bytes, so that a graph tells which checkpoint it was made from."""

    made = 0

    def convert(self, graph, directory):
        type(self).made += 1
        (directory / "toy.onnx").write_bytes(graph.weights.read_bytes())
        return directory / "toy.onnx"

    def provenance(self):
        return {"toy": "1"}


@pytest.fixture
def converter(monkeypatch):
    """The converter's class, which a test may change."""
    fake = types.ModuleType("toy_faces")
    fake.Converter = type("Converter", (CopyingConverter,), {})
    monkeypatch.setitem(sys.modules, "toy_faces", fake)
    return fake.Converter


@pytest.fixture
def plugins(converter, detector_spec, backend_spec, converter_spec, weights_file):
    """A detector that wants weights, published as a torch module, and what takes it to a backend for ONNX."""
    graph = attrs.evolve(detector_spec.graphs[0], requires=())
    plugin = types.ModuleType("plugin")
    plugin.polyface_detectors = hookimpl(lambda: [attrs.evolve(detector_spec, graphs=[graph], weights=[weights_file])])
    plugin.polyface_backends = hookimpl(lambda: [attrs.evolve(backend_spec, requires=())])
    plugin.polyface_converters = hookimpl(lambda: [attrs.evolve(converter_spec, requires=())])
    manager = PluginManager()
    manager.register(plugin, name="toy")
    return manager


@pytest.fixture
def checkpoint(tmp_path):
    def write(name, content):
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return write


def routed(plugins, **settings):
    """The graph that a detector with these settings would give its backend."""
    selection = plan(resolve(Config(detector="toy", backend="fast", **settings), plugins)).first
    return load_graph(selection.route, selection.detector, selection.weights)


def test_an_export_says_what_it_is_and_where_it_came_from(plugins, checkpoint, home):
    mine = checkpoint("mine.pth", b"mine")
    done = export(Config(detector="toy", weights=mine), plugins, "onnx")
    assert done.new
    assert done.path.is_relative_to(home / "artifacts")
    assert done.manifest == json.loads((done.path.parent / MANIFEST).read_text())
    assert done.manifest == {
        "detector": "toy",
        "network": "toy_faces.net:build",
        "graph_version": 1,
        "weights_sha256": sha256_of(Path(mine)),
        "kind": "onnx",
        "file": done.path.name,
        "sha256": sha256_of(done.path),
        "provenance": {
            "weights": "mine.pth",
            "polyface": polyface.__version__,
            "converter": "torch-module-to-onnx",
            "toy": "1",
        },
    }


def test_what_is_stored_is_not_made_again_and_what_is_damaged_is(plugins, checkpoint, converter):
    mine = checkpoint("mine.pth", b"mine")
    first = export(Config(detector="toy", weights=mine), plugins, "onnx")
    second = export(Config(detector="toy", weights=mine), plugins, "onnx")
    assert (second.path, second.manifest, second.new) == (first.path, first.manifest, False)
    first.path.write_bytes(b"min")
    assert export(Config(detector="toy", weights=mine), plugins, "onnx").new
    assert first.path.read_bytes() == b"mine"
    assert converter.made == 2


def test_two_checkpoints_never_share_a_graph(plugins, checkpoint, tmp_path):
    one, other = checkpoint("one.pth", b"one"), checkpoint("other.pth", b"other")
    out = tmp_path / "graphs"
    for name in (one, other):
        export(Config(detector="toy", weights=name), plugins, "onnx", out)
    assert len(list(out.iterdir())) == 2
    assert routed(plugins, weights=one, artifacts=str(out)).source.read_bytes() == b"one"
    assert routed(plugins, weights=other, artifacts=str(out)).source.read_bytes() == b"other"


def test_a_checkpoint_saved_again_under_its_name_is_another(plugins, checkpoint):
    mine = checkpoint("mine.pth", b"yesterday")
    assert routed(plugins, weights=mine).source.read_bytes() == b"yesterday"
    checkpoint("mine.pth", b"today")
    assert routed(plugins, weights=mine).source.read_bytes() == b"today"


def test_a_checkpoint_that_changes_while_it_is_exported_is_refused(plugins, checkpoint, converter, monkeypatch, home):
    def convert(self, graph, directory):
        graph.weights.write_bytes(b"the next epoch")
        return CopyingConverter.convert(self, graph, directory)

    monkeypatch.setattr(converter, "convert", convert)
    with pytest.raises(WeightsMismatchError, match=r"mine\.pth changed while it was exported"):
        export(Config(detector="toy", weights=checkpoint("mine.pth", b"this epoch")), plugins, "onnx")
    assert list((home / "artifacts").iterdir()) == []


def test_whatever_a_converter_raises_is_named_as_its(plugins, checkpoint, converter, monkeypatch, home):
    def convert(*_):
        raise KeyError("aten::mul")

    monkeypatch.setattr(converter, "convert", convert)
    with pytest.raises(PluginError) as caught:
        export(Config(detector="toy", weights=checkpoint("mine.pth", b"whole")), plugins, "onnx")
    assert caught.value.what == "The converter 'torch-module-to-onnx' failed on 'toy'."
    assert caught.value.why == ("KeyError: 'aten::mul'",)
    assert list((home / "artifacts").iterdir()) == []


def test_an_artifact_of_named_weights_needs_no_file_of_weights(plugins, weights_file, tmp_path, monkeypatch):
    with pytest.raises(WeightsNotFoundError):
        export(Config(detector="toy"), plugins, "onnx", tmp_path / "graphs")
    # On the machine that has them: the manifest's hash is that of the file.
    fetched = path_of(weights_file)
    fetched.parent.mkdir(parents=True)
    fetched.write_bytes(b"wider")
    monkeypatch.setattr("polyface.graphs.weights.sha256_of", lambda _: weights_file.sha256)
    export(Config(detector="toy"), plugins, "onnx", tmp_path / "graphs")
    fetched.unlink()
    assert routed(plugins, artifacts=str(tmp_path / "graphs")).source.read_bytes() == b"wider"


def test_a_folder_that_cannot_be_made_is_refused_by_name(plugins, checkpoint, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="cannot be stored in") as caught:
        export(
            Config(detector="toy", weights=checkpoint("mine.pth", b"mine")),
            plugins,
            "onnx",
            tmp_path / "file" / "below",
        )
    assert "NotADirectoryError" in caught.value.why[0]
    assert "as the output" in str(caught.value.fix)


@pytest.mark.parametrize(("named", "trusted"), [(None, True), ("home", True), ("graphs", False), ("around", False)])
def test_a_graph_from_a_named_folder_is_a_strangers(plugins, home, tmp_path, checkpoint, named, trusted):
    mine = checkpoint("mine.pth", b"mine")
    folders = {"home": home / "artifacts", "graphs": tmp_path / "graphs", "around": home / "artifacts/../../elsewhere"}
    folder = folders.get(named)
    (home / "artifacts").mkdir(exist_ok=True)
    export(Config(detector="toy", weights=mine), plugins, "onnx", folder)
    settings = {} if folder is None else {"artifacts": str(folder)}
    assert routed(plugins, weights=mine, **settings).trusted is trusted


class TestGraphsThatAreWeights:
    """The weights 'wider' are an ONNX graph, or a file that a converter makes one of."""

    @pytest.fixture(params=["onnx", "onnx-file"])
    def plugins(self, request, converter, monkeypatch, detector_spec, backend_spec, converter_spec, weights_file):
        def convert(self, graph, directory):
            assert graph.weights is None
            (directory / "toy.onnx").write_bytes(graph.source.read_bytes())
            return directory / "toy.onnx"

        monkeypatch.setattr(converter, "convert", convert)
        file = attrs.evolve(weights_file, filename="wider.onnx", sha256=hashlib.sha256(b"graph").hexdigest())
        graphs = [GraphSource(kind=request.param, weights="wider")]
        plugin = types.ModuleType("plugin")
        plugin.polyface_detectors = hookimpl(lambda: [attrs.evolve(detector_spec, graphs=graphs, weights=[file])])
        plugin.polyface_backends = hookimpl(lambda: [attrs.evolve(backend_spec, requires=())])
        made = attrs.evolve(converter_spec, source="onnx-file", requires=())
        plugin.polyface_converters = hookimpl(lambda: [made] if request.param == "onnx-file" else [])
        manager = PluginManager()
        manager.register(plugin, name="toy")
        return manager

    @pytest.fixture
    def fetched(self, plugins):
        path = path_of(plugins.get(DetectorSpec, "toy").weights[0])
        path.parent.mkdir(parents=True)
        path.write_bytes(b"graph")
        return path

    def test_what_was_fetched_is_the_graph(self, plugins, fetched):  # noqa: ARG002
        graph = routed(plugins)
        assert (graph.kind, graph.source.read_bytes(), graph.weights, graph.trusted) == ("onnx", b"graph", None, True)

    def test_the_users_own_is_the_graph_and_a_strangers(self, plugins, checkpoint):
        for _ in range(2):  # converted, and then stored
            graph = routed(plugins, weights=checkpoint("mine.onnx", NAMED))
            assert (graph.source.read_bytes(), graph.weights, graph.trusted) == (NAMED, None, False)

    def test_what_is_not_here_is_fetched_first(self, plugins):
        with pytest.raises(WeightsNotFoundError) as caught:
            routed(plugins)
        assert str(caught.value.fix) == "polyface fetch toy"

    def test_a_damaged_file_is_refused_and_nothing_is_stored(self, plugins, fetched, home):
        fetched.write_bytes(b"half a gra")
        with pytest.raises(WeightsMismatchError, match="is not the file it should be"):
            routed(plugins)
        assert list((home / "artifacts").glob("*")) == []
