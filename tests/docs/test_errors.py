"""The page of errors: each message on it is what the error really says."""

from __future__ import annotations

import doctest
import re
import sys
import types

import attrs
import numpy as np
import pytest

import polyface
from polyface.errors import PolyfaceError
from polyface.plugins import manager
from polyface.plugins.records import DetectorSpec, GraphSource, Ref

HOME = "/home/ann"
"""The current folder on the page."""


@pytest.fixture(scope="module")
def sections(pytestconfig):
    """What stands on the page under the name of each error."""
    text = (pytestconfig.rootpath / "docs/reference/errors.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^## (\w+)\n(.*?)(?=^## )", text, flags=re.DOTALL | re.MULTILINE))


@pytest.fixture
def example(monkeypatch, require, tmp_path):
    """The toy's record, where its package is the one plugin; the current folder has two damaged files."""
    require("polyface_example")
    find = manager._found
    monkeypatch.setattr(
        manager, "_found", lambda: [pair for pair in find() if pair[0].distribution in ("polyface", "polyface-example")]
    )
    for name in ("POLYFACE_PLUGINS", "POLYFACE_DISABLE_PLUGINS", "POLYFACE_STRICT_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    manager.installed_plugins.cache_clear()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.pth").write_bytes(b"x")
    (tmp_path / "mine.onnx").write_bytes(b"x")
    yield manager.installed_plugins().get(DetectorSpec, "example-redbox")
    manager.installed_plugins.cache_clear()


def shown(sections, name):
    [text] = re.findall(r"```text\n(.*?)\n```", sections[name], flags=re.DOTALL)
    return text


def test_each_error_has_a_message_and_what_to_do(sections):
    names = {name for name in polyface.__all__ if isinstance(getattr(polyface, name), type)}
    errors = {name for name in names if issubclass(getattr(polyface, name), PolyfaceError)}
    assert set(sections) == errors - {"PolyfaceError"}
    for text in sections.values():
        assert re.search(r"^```(pycon|text)\n.+?^\*\*What to do:\*\* [a-z]", text, flags=re.DOTALL | re.MULTILINE)


def test_the_table_says_which_errors_of_python_they_are(pytestconfig, monkeypatch):
    monkeypatch.syspath_prepend(pytestconfig.rootpath / "docs")
    import generated

    cells = [row.split(" | ") for row in generated.WRITERS["errors"]()]
    kinds = {re.search(r"\w+(?=`)", cell[0])[0]: cell[1] for cell in cells if len(cell) > 2 and "`" in cell[0]}
    assert kinds["PolyfaceError"] == ""
    assert kinds["OutOfMemoryError"] == "`RuntimeError`, `MemoryError`"
    assert kinds["WeightsNotFoundError"] == "`FileNotFoundError`"


def test_each_session_says_what_is_printed(sections, example, tmp_path):
    parser, count = doctest.DocTestParser(), 0
    for name, text in sections.items():
        for block in re.findall(r"```pycon\n(.*?)```", text, flags=re.DOTALL):
            values = {"polyface": polyface, "np": np}
            for step in parser.get_examples(block):
                code = compile(step.source, "<stdin>", "exec")
                if step.exc_msg is None:
                    exec(code, values)  # noqa: S102 - that is the point
                    continue
                with pytest.raises(getattr(polyface, name)) as raised:
                    exec(code, values)  # noqa: S102
                assert type(raised.value).__name__ == name
                printed = f"polyface.errors.{name}: {raised.value}\n".replace(str(tmp_path), HOME)
                assert doctest.OutputChecker().check_output(step.exc_msg, printed, doctest.ELLIPSIS), printed
                count += 1
    assert count == 11


def register(plugins, distribution, version="", **hooks):
    """Add a plugin, as one that is installed is added."""
    info = manager.PluginInfo(name=distribution.partition("-")[0], distribution=distribution, version=version)
    plugins._add(info, type("Plugin", (), hooks), strict=True)
    return plugins


def hook(yields):
    return polyface.hookimpl(lambda _: yields)


def test_a_name_of_two_distributions(sections, example):
    record, plugins = attrs.evolve(example, name="my-net"), polyface.PluginManager()
    for distribution in ("acme-faces", "polyface-my-net"):
        register(plugins, distribution, polyface_detectors=hook([record]))
    with pytest.raises(polyface.AmbiguousNameError) as raised:
        polyface.create_detector("my-net", plugins=plugins)
    assert str(raised.value) == shown(sections, "AmbiguousNameError")


PLUGIN = """
import polyface

@polyface.hookimpl
def polyface_backends(self):
    raise OSError("libacme.so: cannot open shared object file")
"""


def test_a_plugin_that_raises_or_yields_what_is_no_record(sections):
    values = {}
    exec(compile(PLUGIN, "acme_faces/plugin.py", "exec"), values)  # noqa: S102
    for name, function in (
        ("PluginError", values["polyface_backends"]),
        ("ContractError", hook([{"name": "acme"}])),
    ):
        with pytest.raises(polyface.PluginError) as raised:
            register(polyface.PluginManager(), "acme-faces", "1.0.0", polyface_backends=function)
        assert type(raised.value).__name__ == name
        assert str(raised.value) == shown(sections, name)


def test_a_run_that_finds_no_memory(sections):
    from polyface.plugins.toolkit import failed_run

    error = failed_run("ONNX Runtime", (8, 3, 960, 1280), "cpu", "std::bad_alloc", memory=True)
    assert isinstance(error, polyface.OutOfMemoryError)
    assert str(error) == shown(sections, "OutOfMemoryError")


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of the toy's head
def test_a_network_of_damaged_weights(sections, example, monkeypatch):
    module = types.ModuleType("my_net")
    graph = example.graphs[0].ref.load()

    def build(weights=None, *, seed=None):
        network = graph()
        return lambda inputs: {name: array * np.float32("nan") for name, array in network(inputs).items()}

    module.build = build
    monkeypatch.setitem(sys.modules, "my_net", module)
    source = GraphSource(kind="numpy", ref=Ref("my_net:build"))
    plugins = manager.PluginManager.discover()
    register(plugins, "my-net", polyface_detectors=hook([attrs.evolve(example, name="my-net", graphs=(source,))]))
    detector = polyface.create_detector("my-net", backend="numpy", plugins=plugins)
    with detector, pytest.raises(polyface.NumericalError) as raised:
        detector.detect(np.zeros((48, 64, 3), np.uint8))
    assert str(raised.value) == shown(sections, "NumericalError")


def test_a_stored_graph_without_its_manifest(sections, example, tmp_path):
    from polyface.graphs.artifacts import ArtifactKey

    key = ArtifactKey.of(example, "", "numpy").digest
    (tmp_path / "graphs" / key).mkdir(parents=True)
    with pytest.raises(polyface.ArtifactError) as raised:
        polyface.create_detector("example-redbox", backend="numpy", artifacts="graphs")
    text = str(raised.value).replace(key, "KEY").replace(f"{tmp_path}/", "")
    assert text == shown(sections, "ArtifactError")
