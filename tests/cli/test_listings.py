"""``polyface plugins``, ``detectors``, ``backends`` and ``matrix``: a table for people, JSON for programs."""

from __future__ import annotations

import contextlib
import json
import types

import attrs
import pytest

from polyface.plugins.hookspecs import hookimpl
from polyface.plugins.manager import PluginManager
from polyface.plugins.protocols import Execution
from polyface.plugins.records import BackendSpec, Capability
from toy_family import FAMILY


def listed(result, *, several=None, **keys):
    """The one entry of a JSON list, or of the list of that name, that has these values."""
    assert (result.exit_code, result.stderr) == (0, "")
    entries = json.loads(result.stdout)
    [entry] = [
        e
        for e in (entries if several is None else entries[several])
        if all(e[key] == value for key, value in keys.items())
    ]
    return entry


@pytest.fixture
def rows(polyface):
    """The words of a table's lines."""

    def run(*arguments):
        result = polyface(*arguments)
        assert (result.exit_code, result.stderr) == (0, "")
        return [" ".join(line.split()) for line in result.stdout.splitlines()]

    return run


def test_plugins_gives_version_distribution_hooks_and_status(polyface, rows):
    assert listed(polyface("plugins", "--json"), name="example") == {
        "name": "example",
        "distribution": "polyface-example",
        "version": "0.2.0",
        "target": "polyface_example.plugin",
        "hooks": ["polyface_backends", "polyface_commands", "polyface_detectors", "polyface_writers"],
        "detectors": ["example-redbox"],
        "backends": ["numpy"],
        "families": [],
        "converters": [],
        "writers": ["example-counts"],
        "sources": [],
        "steps": [],
        "commands": ["new"],
        "status": "ok",
        "error": None,
        "clashes": [],
        "unreached": [],
    }
    table = rows("plugins")
    assert table[0] == "Plugins"
    at = table.index("example polyface-example 0.2.0 ok detectors: example-redbox")
    assert table[at + 1 : at + 4] == ["backends: numpy", "writers: example-counts", "commands: new"]


def test_detectors_gives_the_whole_record(polyface, rows):
    entry = listed(polyface("detectors", "--json"), several="detectors", name="example-redbox")
    assert entry["graphs"][0]["kind"] == "numpy"
    assert entry["head"] == "polyface_example.head:RedboxHead"
    assert (entry["weights"], entry["landmarks"]) == ([], [])
    table = rows("detectors")
    at = table.index("example-redbox A toy that finds bright red squares of 8 by 8 pixels")
    assert table[at + 1 : at + 4] == ["landmarks: none", "graphs: numpy, torch-module", "weights: none needed"]


def test_detectors_lists_the_families_as_well(polyface, rows):
    polyface.plugins = PluginManager()
    polyface.plugins.register(types.SimpleNamespace(polyface_detectors=hookimpl(lambda: [FAMILY])), name="toys")
    entry = listed(polyface("detectors", "--json"), several="families", name="toys")
    assert (entry["summary"], entry["describe"]) == ("Toys", "toy_family:describe")
    assert [(option["name"], option["default"]) for option in entry["parameters"]] == [
        ("mean", [0, 0, 0]),
        ("wrong", None),
    ]
    table = rows("detectors")
    at = table.index("toys Toys")
    assert table[at + 1] == "option mean (numbers, default [0,0,0]): Mean."


def test_backends_gives_the_whole_record_and_what_is_missing(polyface, rows):
    entry = listed(polyface("backends", "--json"), name="numpy")
    assert (entry["accepts"], entry["missing"]) == (["numpy"], [])
    claim = {"device": "cpu", "precisions": ["fp32"], "accepts": [], "note": "", "driver": []}
    assert entry["capabilities"] == [claim]
    table = rows("backends")
    at = table.index("numpy A toy that runs networks written in NumPy")
    assert table[at + 1 : at + 3] == ["accepts: numpy", "claims: cpu in fp32"]


TOY = {"detector": "example-redbox", "backend": "numpy"}


def test_matrix_says_what_is_ready_and_how(polyface, rows):
    cell = listed(polyface("matrix", "--json"), **TOY)
    del cell["auto"]  # others may be installed; see TestAuto
    assert cell == {**TOY, "status": "ready", "detail": "numpy", "fix": ""}
    assert "example-redbox numpy ready numpy" in rows("matrix")


def test_matrix_says_why_not_and_prints_the_command_that_mends_it_whole(polyface, rows):
    assert listed(polyface("matrix", "--json", "--device", "cuda"), **TOY) == {
        **TOY,
        "status": "no",
        "detail": "backend 'numpy': has no device 'cuda' (it has cpu)",
        "fix": "--device cpu",
        "auto": "",
    }
    table = rows("matrix", "--precision", "fp16")
    assert any(row.startswith("example-redbox numpy no backend 'numpy': does not run in 'fp16'") for row in table)
    assert "--precision fp32" in table


def test_matrix_takes_device_and_precision_from_the_settings(polyface):
    assert listed(polyface("matrix", "--json", POLYFACE_PRECISION="bf16"), **TOY)["status"] == "no"


class TestAuto:
    """Which backend ``auto`` would pick, and why, beside it."""

    WHY = "of the backends that could run it, it has the highest preference (7)"

    @pytest.fixture(autouse=True)
    def three(self, polyface):
        """The toy's backend, one that is preferred to it, and one for a GPU, whose driver is not here."""
        gpu = Capability(device="cuda", driver=["libno-such-driver.so"])
        plugins = PluginManager.discover({"POLYFACE_PLUGINS": "example"})
        toy = plugins.get(BackendSpec, "numpy")
        plugin = types.ModuleType("plugin")
        plugin.polyface_backends = hookimpl(
            lambda: [
                attrs.evolve(toy, name="preferred", preference=7),
                attrs.evolve(toy, name="gpu", preference=3, capabilities=[gpu]),
            ]
        )
        plugins.register(plugin, name="three")
        polyface.plugins = plugins

    @pytest.mark.parametrize("options", [[], ["--probe"]])
    def test_the_one_it_picks_has_the_reason_and_no_other(self, polyface, options):
        result = polyface("matrix", "--json", *options)
        assert {cell["backend"]: cell["auto"] for cell in json.loads(result.stdout)} == {
            "numpy": "",
            "preferred": self.WHY,
            "gpu": "",
        }

    def test_the_table_says_it_below_how_it_runs(self, rows):
        table = rows("matrix")
        assert table[table.index("example-redbox preferred ready numpy") + 1] == f"auto picks it: {self.WHY}"

    def test_a_gpu_comes_first_where_its_driver_is_here(self, polyface, monkeypatch):
        monkeypatch.setattr("polyface.graphs.plan.has_driver", lambda libraries: "libno-such-driver.so" in libraries)
        assert listed(polyface("matrix", "--json"), backend="preferred")["auto"] == ""
        why = "of the backends with cuda, whose driver is here, it has the highest preference (3)"
        assert listed(polyface("matrix", "--json"), backend="gpu")["auto"] == why
        # Named, no device comes before another.
        cpu = polyface("matrix", "--json", "--device", "cpu")
        assert listed(cpu, backend="preferred")["auto"] == self.WHY

    def test_where_nothing_runs_it_nothing_is_picked(self, polyface):
        result = polyface("matrix", "--json", "--precision", "bf16")
        assert {cell["auto"] for cell in json.loads(result.stdout)} == {""}


class TestNotes:
    """What to know before relying on a device stands beside it: on a backend that works and on one that is refused."""

    @pytest.fixture(autouse=True)
    def noted(self, polyface):
        """Backends like the toy's: on a GPU alone, and on either."""
        gpu, cpu = Capability(device="cuda", note="never tried"), Capability(device="cpu")
        plugins = PluginManager.discover({"POLYFACE_PLUGINS": "example"})
        toy = plugins.get(BackendSpec, "numpy")
        plugin = types.ModuleType("plugin")
        plugin.polyface_backends = hookimpl(
            lambda: [
                attrs.evolve(toy, name="gpu", capabilities=[gpu]),
                attrs.evolve(toy, name="either", capabilities=[gpu, cpu]),
            ]
        )
        plugins.register(plugin, name="noted")
        polyface.plugins = plugins

    @pytest.mark.parametrize(
        ("backend", "device", "shown"),
        [
            ("gpu", "auto", True),
            ("gpu", "cuda:1", True),
            ("gpu", "cpu", False),
            ("either", "auto", False),
            ("either", "cuda", True),
            ("either", "cpu", False),
        ],
    )
    def test_matrix_shows_the_note_on_the_device_asked_for(self, polyface, backend, device, shown):
        cell = listed(polyface("matrix", "--json", "--device", device), backend=backend)
        assert cell["detail"].endswith("\nnever tried") is shown

    def test_backends_shows_it_beside_the_claim(self, rows):
        assert "claims: cuda in fp32 (never tried); cpu in fp32" in rows("backends")


class TestProbe:
    @pytest.fixture(autouse=True)
    def only_the_toy(self, polyface):
        """Probing runs what it probes; the other plugins are no concern of these tests."""
        plugins = PluginManager.discover({"POLYFACE_PLUGINS": "example"})
        polyface.plugins = plugins

    def test_a_pair_that_ran_says_on_what(self, polyface):
        entry = listed(polyface("matrix", "--probe", "--json"), **TOY)
        assert entry["status"] == "ready"
        assert entry["detail"].startswith("cpu, fp32; numpy; numpy ")

    def test_the_table_says_that_it_was_run(self, polyface):
        assert "each built and run" in polyface("matrix", "--probe").stdout

    def test_whatever_a_backend_raises_is_a_reason_and_no_traceback(self, polyface, monkeypatch):
        def probe(self):
            raise RuntimeError("the driver is too old")

        monkeypatch.setattr("polyface_example.backend.NumpyBackend.probe", probe)
        entry = listed(polyface("matrix", "--probe", "--json"), **TOY)
        assert entry["status"] == "no"
        assert entry["detail"] == "The backend 'numpy' does not load.\nRuntimeError: the driver is too old"

    @pytest.mark.parametrize(("cost", "said"), [(0.02, True), (0.005, False)])
    def test_a_precision_that_is_slower_than_fp32_is_said_to_be(self, polyface, monkeypatch, cost, said):
        now = [0.0]

        def build(config, plugins):
            def raw_heads(images):
                now[0] += 0.01 if config.precision == "fp32" else cost

            run = Execution(device="cpu", precision=config.precision)
            spec = plugins.get(BackendSpec, "numpy")
            found = {"detect": len, "raw_heads": raw_heads, "route": "numpy", "backend": spec}
            made = types.SimpleNamespace(config=config, execution=run, **found)
            return contextlib.nullcontext(made)

        monkeypatch.setattr("polyface.building.build", build)
        monkeypatch.setattr("polyface.measure.rounds.time.perf_counter", lambda: now[0])
        entry = listed(polyface("matrix", "--probe", "--precision", "fp16", "--json"), **TOY)
        slower = "\nslower than fp32: 20.0 ms against 10.0 ms for the network at 480x640"
        assert entry["detail"] == "cpu, fp16; numpy; " + (slower if said else "")


@pytest.mark.parametrize("command", ["plugins", "detectors", "backends", "matrix"])
def test_where_nothing_is_installed_the_way_to_have_something_is_shown(polyface, command):
    polyface.plugins = PluginManager()
    result = polyface(command)
    assert result.exit_code == 0
    assert "pip install polyface-retinaface 'polyface-onnxruntime[cpu]'" in result.stderr
    none = {"detectors": {"detectors": [], "families": []}}
    assert json.loads(polyface(command, "--json").stdout) == none.get(command, [])


def test_a_narrow_terminal_folds_descriptions_and_nothing_else(polyface):
    table = polyface("plugins", COLUMNS="70").stdout.splitlines()
    assert max(map(len, table)) <= 70
    assert any(line.startswith(" example ") and "polyface-example 0.2.0" in line for line in table)


@pytest.mark.parametrize("command", ["plugins", "detectors", "backends", "matrix", "config"])
def test_an_unknown_option_is_a_usage_error(polyface, command):
    result = polyface(command, "--jsn")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--json" in result.stderr
