"""Packages of strangers, installed by pip: found, run with each other and with ours, and survived when broken."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from polyface.plugins.manager import installed_plugins


def out(result):
    assert result.returncode == 0, result.stderr
    return result.stdout


def plugins_of(result):
    return {entry["name"]: entry for entry in json.loads(out(result))}


class TestFound:
    def test_a_strangers_detector_and_backend_are_listed_beside_ours(self, python):
        entries = plugins_of(python("-m", "polyface", "plugins", "--json", groups=["acme"]))
        assert entries["acme-detector"] == {
            "name": "acme-detector",
            "distribution": "acme-detector",
            "version": "1.0.0",
            "target": "acme_detector.plugin",
            "hooks": ["polyface_detectors"],
            "detectors": ["acme-stripes"],
            "families": [],
            "backends": [],
            "converters": [],
            "writers": [],
            "sources": [],
            "steps": [],
            "commands": [],
            "status": "ok",
            "error": None,
            "clashes": [],
            "unreached": [],
        }
        assert (entries["acme-backend"]["status"], entries["acme-backend"]["backends"]) == ("ok", ["acme-runtime"])
        assert entries["example"]["status"] == "ok"

    def test_the_api_names_them(self, python):
        code = "import polyface; print(polyface.available_detectors(), polyface.available_backends())"
        without, within = out(python("-c", code)), out(python("-c", code, groups=["acme"]))
        assert "acme" not in without
        assert "'acme-stripes'" in within
        assert "'acme-runtime'" in within

    @pytest.mark.parametrize("backend", ["acme-runtime", "numpy"])
    def test_their_detector_runs_on_their_backend_and_on_ours(self, python, tmp_path, backend):
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[16:32] = 255  # one bright stripe, of the second 16 rows
        Image.fromarray(pixels).save(tmp_path / "stripe.png")
        command = ["detect", "stripe.png", "--detector", "acme-stripes", "--backend", backend, "--json"]
        face = {"box": [0, 16, 64, 32], "score": 1, "landmarks": [[0, 24], [64, 24]]}
        line = json.loads(out(python("-m", "polyface", *command, groups=["acme"], cwd=tmp_path)))
        whole = {"image": "stripe.png", "width": 64, "height": 48, "faces": [face]}
        assert line == {**whole, "truncated": False, "error": None}

    def test_our_detector_runs_on_their_backend(self, python):
        code = """if True:
            import numpy, polyface
            image = numpy.zeros((16, 16, 3), "uint8")
            image[8:, 8:, 0] = 255
            with polyface.create_detector("example-redbox", backend="acme-runtime") as detector:
                print(detector, detector.detect(image).boxes.tolist())
        """
        expected = "<FaceDetector example-redbox on acme-runtime, cpu, fp32> [[8.0, 8.0, 16.0, 16.0]]\n"
        assert out(python("-c", code, groups=["acme"])) == expected

    def test_the_matrix_has_them(self, python):
        cells = json.loads(out(python("-m", "polyface", "matrix", "--json", groups=["acme"])))
        ready = {(cell["detector"], cell["backend"]) for cell in cells if cell["status"] == "ready"}
        assert {
            (detector, backend)
            for detector in ("acme-stripes", "example-redbox")
            for backend in ("acme-runtime", "numpy")
        } <= ready


REASONS = {
    "dies-half-way": "RuntimeError: this plugin dies half-way (dies_half_way.py, line 16)",
    "exits-at-import": "SystemExit: this plugin exits at import",
    "forgets-the-marker": "'polyface_detectors' is not marked as a hook implementation.",
    "misspells-a-hook": "'polyface_detector' is no hook of polyface; did you mean 'polyface_detectors'",
    "raises-at-import": "RuntimeError: this plugin raises at import (raises_at_import.py, line 3)",
    "wants-an-argument": "Argument(s) {'settings'}",
    "wrong-record": "polyface_detectors must yield DetectorSpec or FamilySpec records, not {'name': 'wrong-record'}.",
}


class TestBroken:
    def test_each_is_named_with_its_reason_in_json(self, python):
        entries = plugins_of(python("-m", "polyface", "plugins", "--json", groups=["broken"]))
        failed = {name: entry for name, entry in entries.items() if entry["status"] == "failed"}
        assert sorted(failed) == sorted(REASONS)
        for name, entry in failed.items():
            assert REASONS[name] in entry["error"]
            assert f"`pip uninstall {name}`" in entry["error"]
            assert f"POLYFACE_DISABLE_PLUGINS={name}" in entry["error"]
            assert (entry["hooks"], entry["detectors"], entry["backends"]) == ([], [], [])

    def test_each_is_named_with_its_reason_in_the_table(self, python):
        result = python("-m", "polyface", "plugins", groups=["broken"])
        rows = [" ".join(line.split()) for line in out(result).splitlines()]
        for name, reason in REASONS.items():
            assert any(row.startswith(f"{name} {name} 1.0.0 failed ") for row in rows)
            assert any(reason in row for row in rows)
        assert f"note: could not be loaded: {', '.join(sorted(REASONS))}; " in result.stderr

    def test_everything_else_keeps_working(self, python):
        code = """if True:
            import numpy, polyface
            assert "half-way" not in polyface.available_backends()
            image = numpy.full((16, 32, 3), 255, "uint8")
            with polyface.create_detector("acme-stripes", backend="acme-runtime") as detector:
                print(detector.detect(image).boxes.tolist())
            with polyface.create_detector("example-redbox", backend="numpy") as detector:
                print(len(detector.detect(image)))
        """
        assert out(python("-c", code, groups=["acme", "broken"])) == "[[0.0, 0.0, 32.0, 16.0]]\n0\n"
        entries = plugins_of(python("-m", "polyface", "plugins", "--json", groups=["acme", "broken"]))
        assert {entries[name]["status"] for name in ("acme-backend", "acme-detector", "example")} == {"ok"}

    def test_an_unknown_name_says_that_a_broken_plugin_may_provide_it(self, python):
        result = python("-m", "polyface", "detect", "a.png", "--backend", "half-way", groups=["broken"])
        assert result.returncode == 2
        assert "plugin 'dies-half-way' of dies-half-way, which may provide it: failed" in result.stderr

    def test_in_strict_mode_the_first_ends_the_command_with_its_reason(self, python):
        result = python("-m", "polyface", "plugins", groups=["broken"], POLYFACE_STRICT_PLUGINS="1")
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith("error: The plugin 'dies-half-way' of dies-half-way 1.0.0 could not be loaded.")
        assert "Traceback" not in result.stderr

    def test_when_switched_off_they_disturb_not_even_strict_mode(self, python):
        environ = {"POLYFACE_STRICT_PLUGINS": "1", "POLYFACE_DISABLE_PLUGINS": ", ".join(REASONS)}
        entries = plugins_of(python("-m", "polyface", "plugins", "--json", groups=["broken"], **environ))
        assert {entries[name]["status"] for name in REASONS} == {"disabled"}
        assert entries["example"]["status"] == "ok"


class TestClash:
    def test_both_are_kept_under_the_names_of_their_distributions(self, python):
        detectors = json.loads(out(python("-m", "polyface", "detectors", "--json", groups=["clash"])))
        clashing = {entry["name"]: entry["summary"] for entry in detectors["detectors"] if "clash" in entry["name"]}
        assert clashing == {
            "clash-one/clash": "The 'clash' of clash-one",
            "clash-two/clash": "The 'clash' of clash-two",
        }

    def test_the_bare_name_is_refused_with_who_claims_it(self, python):
        result = python("-m", "polyface", "detect", "a.png", "--detector", "clash", groups=["clash"])
        assert result.returncode == 2
        assert result.stderr == (
            "error: The detector name 'clash' is ambiguous.\n"
            "  - 'clash' provided by: clash-one, clash-two\n"
            "To fix it: name one of clash-one/clash, clash-two/clash\n"
        )

    def test_the_full_name_selects_one(self, python):
        code = (
            "from polyface.plugins.manager import installed_plugins; "
            "from polyface.plugins.records import DetectorSpec; "
            "print(installed_plugins().get(DetectorSpec, '{}').head.target)"
        )
        assert out(python("-c", code.format("clash-one/clash"), groups=["clash"])) == "clash_one:Head\n"
        assert out(python("-c", code.format("clash-two/clash"), groups=["clash"])) == "clash_two:Head\n"

    def test_the_table_and_json_say_so_and_the_rest_is_undisturbed(self, python):
        table = out(python("-m", "polyface", "plugins", groups=["clash"]))
        rows = [" ".join(line.split()) for line in table.splitlines()]
        at = rows.index("clash-one clash-one 1.0.0 clash detectors: clash")
        assert rows[at + 1] == "detector 'clash' is also provided by clash-two"
        entries = plugins_of(python("-m", "polyface", "plugins", "--json", groups=["clash"]))
        assert entries["clash-two"]["clashes"] == ["detector 'clash' is also provided by clash-one"]
        assert entries["example"]["status"] == "ok"


def test_the_packages_of_these_tests_are_not_installed_where_the_tests_run():
    assert not {info.distribution for info in installed_plugins().plugins} & {"acme-detector", *REASONS}
