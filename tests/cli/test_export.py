"""``polyface export``, and running what it wrote where nothing could have made it.

The toy's network is exported by a converter to ``written``: a file with the name of the network's builder. A backend
that accepts only such files runs it.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import attrs
import pytest

import polyface as package
from polyface.machine.drivers import is_installed
from polyface.plugins.hookspecs import hookimpl
from polyface.plugins.manager import PluginManager
from polyface.plugins.records import BackendSpec, Capability, ConverterSpec, Ref

pytestmark = pytest.mark.skipif(not is_installed("polyface_example"), reason="exports the toy of polyface-example")


class Writer:
    def convert(self, graph, directory):
        (directory / "graph.written").write_text(graph.source.target)
        return directory / "graph.written"

    def provenance(self):
        return {"ink": "blue"}


class Reader:
    def probe(self):
        from polyface.plugins.protocols import DeviceReport

        return (DeviceReport(device="cpu", precisions=("fp32",)),)

    def compile(self, graph, request):
        from polyface_example.backend import NumpyBackend

        source = Ref(graph.source.read_text())
        return NumpyBackend().compile(attrs.evolve(graph, source=source), request)


@pytest.fixture
def machine(polyface, monkeypatch):
    """Become a machine with the reader, and with the writer or without."""
    fake = types.ModuleType("written_graphs")
    fake.Writer, fake.Reader = Writer, Reader
    monkeypatch.setitem(sys.modules, "written_graphs", fake)

    def machine(*, writer):
        plugin = types.ModuleType("plugin")
        reads = BackendSpec(
            name="reader",
            summary="Reads",
            accepts=("written",),
            capabilities=(Capability(device="cpu"),),
            factory=Ref("written_graphs:Reader"),
        )
        writes = ConverterSpec(source="numpy", target="written", factory=Ref("written_graphs:Writer"))
        plugin.polyface_backends = hookimpl(lambda: [reads])
        plugin.polyface_converters = hookimpl(lambda: [writes] if writer else [])
        plugins = PluginManager.discover({"POLYFACE_PLUGINS": "polyface-example"})
        plugins.register(plugin, name="written")
        polyface.plugins = plugins

    return machine


@pytest.fixture
def exported(polyface, machine):
    """A folder with the toy's graph, now on a machine that could not have made it."""
    machine(writer=True)
    result = polyface("export", "example-redbox", "--to", "written", "--output", "graphs", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    machine(writer=False)
    return Path(json.loads(result.stdout)["path"])


def detected(result):
    assert result.exit_code == 0, result.stderr
    return [json.loads(line)["faces"] for line in result.stdout.splitlines()]


def test_json_gives_the_file_its_key_and_its_provenance(polyface, machine, folder):
    machine(writer=True)
    result = polyface("export", "example-redbox", "--to", "written", "--output", "graphs", "--json")
    entry = json.loads(result.stdout)
    path = Path(entry.pop("path"))
    assert path.parent.parent == folder / "graphs"
    assert path.read_text() == "polyface_example.graph:build"
    digest = entry.pop("sha256")
    assert len(digest) == 64
    assert entry == {
        "size": len("polyface_example.graph:build"),
        "new": True,
        "detector": "example-redbox",
        "network": "polyface_example.graph:build polyface_example.net:build",
        "graph_version": 1,
        "weights_sha256": "",
        "kind": "written",
        "file": path.name,
        "provenance": {
            "weights": "none",
            "polyface": package.__version__,
            "converter": "numpy-to-written",
            "ink": "blue",
        },
    }


def test_the_table_says_what_was_made_and_how_to_run_it(polyface, machine, folder):
    machine(writer=True)
    result = polyface("export", "example-redbox", "--to", "written", "--output", "my graphs")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert rows[0] == "example-redbox as written, exported"
    assert "size 0.0 MB" in rows
    assert "input image (n, 3, h, w)" in rows
    assert "outputs loc (n, p, 4), logits (n, p, 2)" in rows
    assert "ink blue" in rows
    assert rows[-1] == f"polyface detect IMAGE --detector example-redbox --artifacts '{folder / 'my graphs'}'"
    again = polyface("export", "example-redbox", "--to", "written", "--output", "my graphs")
    assert again.stdout.startswith("example-redbox as written, exported before\n")


def test_without_output_it_goes_to_the_cache_and_is_found_there(polyface, machine, image, folder):
    machine(writer=True)
    assert polyface("export", "example-redbox", "--to", "written").exit_code == 0
    machine(writer=False)
    [[face]] = detected(polyface("detect", image("a.png"), "--backend", "reader", "--json"))
    assert face["box"] == [16, 8, 24, 16]
    assert len(list((folder / ".home/artifacts").iterdir())) == 1


@pytest.mark.parametrize("how", ["option", "environment", "file"])
def test_a_folder_runs_where_no_converter_is(polyface, exported, image, how):
    path = image("a.png")
    if how == "file":
        Path("polyface.toml").write_text('artifacts = "graphs"')
    options = ["--artifacts", "graphs"] if how == "option" else []
    environ = {"POLYFACE_ARTIFACTS": "graphs"} if how == "environment" else {}
    [[face]] = detected(polyface("detect", path, "--backend", "reader", "--json", *options, **environ))
    assert face["box"] == [16, 8, 24, 16]


def test_a_damaged_artifact_is_refused_with_the_reason_and_the_command(polyface, exported, image, folder):
    exported.write_text("else")
    result = polyface("detect", image("a.png"), "--backend", "reader", "--artifacts", "graphs")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "error: The exported graph of 'example-redbox' cannot be used.\n"
        f"  - {exported.parent} is refused: '{exported.name}' is damaged: its sha256 is not the one in manifest.json\n"
        f"To fix it: rm -r {exported.parent} && polyface export example-redbox --to written --output {folder}/graphs\n"
    )


def test_an_artifact_of_another_detector_under_this_name_is_refused(polyface, exported, image):
    manifest = exported.parent / "manifest.json"
    manifest.write_text(manifest.read_text().replace("example-redbox", "example-bluebox"))
    result = polyface("detect", image("a.png"), "--backend", "reader", "--artifacts", "graphs")
    assert result.exit_code == 2
    assert "is refused: it is of another detector: 'example-bluebox', not 'example-redbox'" in result.stderr


def test_matrix_knows_the_folder(polyface, exported):
    def cell(*options):
        cells = json.loads(polyface("matrix", "--json", *options).stdout)
        return next(cell for cell in cells if cell["backend"] == "reader")

    assert cell()["status"] == "no"
    ready = cell("--artifacts", "graphs")
    assert (ready["status"], ready["detail"]) == ("ready", "written, from the artifact folder")


def test_a_folder_that_is_not_there_is_refused(polyface, exported, image, folder):
    result = polyface("detect", image("a.png"), "--backend", "reader", "--artifacts", "grahps")
    assert result.exit_code == 2
    assert f"artifacts must name a folder that exists, not {folder}/grahps." in result.stderr


def test_what_cannot_be_exported_says_why(polyface, machine):
    machine(writer=False)
    result = polyface("export", "example-redbox")
    assert result.exit_code == 2
    assert "error: 'example-redbox' cannot be exported to 'onnx' here.\n" in result.stderr
    assert "'polyface-torch[export]'" in result.stderr


def test_an_unknown_detector_offers_the_nearest(polyface, machine):
    machine(writer=True)
    result = polyface("export", "example-redbux")
    assert result.exit_code == 2
    assert "did you mean 'example-redbox'?" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["export", "example-redbox", "--output"], ["detect", "a.png", "--artifacts"]], ids=lambda a: a[0]
)
def test_a_folder_of_a_user_who_does_not_exist_is_refused(polyface, arguments):
    result = polyface(*arguments, "~no-such-user/graphs")
    assert result.exit_code == 2
    assert "'~no-such-user/graphs' is no path" in result.stderr
