"""``polyface fetch`` and ``polyface weights``, and the command in the place of weights that are missing."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys

import attrs
import pytest

import polyface as package
import polyface.sources.plugin
from polyface.plugins.manager import PluginManager, installed_plugins
from polyface.plugins.records import DetectorSpec, FileRef, WeightsFile

CONTENT = b"twelve bytes"


@pytest.fixture(autouse=True)
def folder_of_weights(folder):
    return folder / ".home" / "weights" / hashlib.sha256(CONTENT).hexdigest()[:16]


def weights(name, *urls, **changes):
    values = {
        "name": name,
        "filename": f"{name}.pth",
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "size": len(CONTENT),
        "license": "MIT",
        "origin": "the moon",
        "urls": urls,
    }
    return WeightsFile(**{**values, **changes})


@pytest.fixture
def install(polyface):
    """Have nothing installed but the toy's backend and these detectors, with weights by the detector's name."""

    def install(**detectors):
        (example,) = (info for info in installed_plugins().plugins if info.name == "example")
        (toy,) = (record for record in example.records if record.name == "example-redbox")
        specs = [attrs.evolve(toy, name=name, weights=files) for name, files in detectors.items()]

        class Plugin:
            @staticmethod
            @package.hookimpl
            def polyface_detectors():
                return specs

            @staticmethod
            @package.hookimpl
            def polyface_backends():
                return [record for record in example.records if record.name == "numpy"]

        plugins = PluginManager()
        plugins.register(Plugin, name="toys")
        plugins.register(package.sources.plugin, name="sources", distribution="polyface")
        polyface.plugins = plugins

    return install


def test_fetch_says_where_the_checked_file_lies(polyface, install, server, answer, folder_of_weights):
    install(toy=[weights("wider", server.url("/w", answer.whole(CONTENT)))])
    result = polyface("fetch", "toy")
    path = folder_of_weights / "wider.pth"
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"toy: wider, verified: {path}\n"
    assert path.read_bytes() == CONTENT
    assert polyface("fetch", "toy").stdout == result.stdout
    assert server.asked == ["/w"]


def test_fetch_takes_other_weights_by_name(polyface, install, server, answer, folder_of_weights):
    url = server.url("/w", answer.whole(CONTENT))
    install(toy=[weights("wider", url), weights("crowd", url)])
    assert polyface("fetch", "toy", "--weights", "crowd").exit_code == 0
    assert [path.name for path in folder_of_weights.iterdir()] == ["crowd.pth"]


def test_one_that_fails_does_not_keep_the_others_from_being_fetched(
    polyface, install, server, answer, folder_of_weights
):
    first, second = server.url("/a", answer.status(404)), server.url("/b", answer.status(500))
    install(lost=[weights("gone", first, second)], toy=[weights("wider", server.url("/w", answer.whole(CONTENT)))])
    result = polyface("fetch", "lost", "toy")
    assert result.exit_code == 1
    assert [path.name for path in folder_of_weights.iterdir()] == ["wider.pth"]
    assert result.stdout.startswith("toy: wider, verified: ")
    assert result.stderr.splitlines() == [
        "error: The weights 'gone' of 'lost' could not be fetched.",
        f"  - {first}: answers 404 Not Found",
        f"  - {second}: answers 500 Internal Server Error",
        "To fix it: mend the connection and repeat: polyface fetch lost; "
        f"or: put the file at {folder_of_weights / 'gone.pth'} by other means",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument"),
        (["toy", "tyo"], "There is no detector named 'tyo'; did you mean 'toy'?"),
        (["toy", "--weights", "widr"], "'toy' has no weights named 'widr'; did you mean 'wider'?"),
        (["toy", "--weights", "gone.pth"], "There is no file of weights at "),
    ],
)
def test_wrong_usage_is_status_2_before_any_transfer(polyface, install, server, answer, arguments, message):
    install(toy=[weights("wider", server.url("/w", answer.whole(CONTENT)))])
    result = polyface("fetch", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert server.asked == []


@pytest.mark.parametrize(("arguments", "environ"), [(["--offline"], {}), ([], {"POLYFACE_OFFLINE": "1"})])
def test_offline_fetches_nothing_and_says_so(polyface, install, server, answer, arguments, environ):
    install(toy=[weights("wider", server.url("/w", answer.whole(CONTENT)))])
    result = polyface("fetch", "toy", *arguments, **environ)
    assert result.exit_code == 1
    assert "  - offline: nothing is fetched\n" in result.stderr
    assert server.asked == []


def test_the_licence_of_research_only_weights_is_shown_once(polyface, install, server, answer):
    good, bad = server.url("/w", answer.whole(CONTENT)), server.url("/gone", answer.status(404))
    install(toy=[weights("wider", bad, good, license="Only for science [1]", research_only=True)])
    note = "note: The weights 'wider' of 'toy' are for research only. Licence: Only for science [1]\n"
    assert polyface("fetch", "toy").stderr == note
    assert polyface("fetch", "toy").stderr == ""


def test_a_terminal_gets_a_progress_bar_on_standard_error(polyface, install, server, answer):
    install(toy=[weights("wider", server.url("/w", answer.whole(CONTENT)))])
    result = polyface("fetch", "toy", FORCE_COLOR="1", TERM="xterm", COLUMNS="100")
    assert "toy: wider" in result.stderr
    assert "12/12 bytes" in result.stderr
    assert "\x1b" not in result.stdout


def test_nothing_is_fetched_for_a_detector_without_weights_and_for_those_of_a_plugin(polyface, install):
    packed = weights("packed", ref=FileRef("click:py.typed"), sha256=hashlib.sha256(b"").hexdigest())
    install(bare=[], toy=[packed])
    result = polyface("fetch", "bare", "toy")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "bare: needs no weights",
        f"toy: packed, ships with the plugin, verified: {packed.ref.path()}",
    ]


def test_the_command_that_detect_and_matrix_print_is_the_one_that_helps(polyface, install, server, answer, image):
    url = server.url("/w", answer.whole(CONTENT))
    install(toy=[weights("wider", url), weights("crowd", url)])
    refused = polyface("detect", image("a.png"), "--detector", "toy", "--weights", "crowd")
    assert refused.exit_code == 2
    assert refused.stderr.endswith("To fix it: polyface fetch toy --weights crowd\n")
    (cell,) = json.loads(polyface("matrix", "--json").stdout)
    assert (cell["status"], cell["fix"]) == ("no", "polyface fetch toy")
    assert "For toy on numpy:\n  polyface fetch toy\n" in polyface("matrix").stdout
    assert polyface(*shlex.split(cell["fix"])[1:]).exit_code == 0
    (cell,) = json.loads(polyface("matrix", "--json").stdout)
    assert (cell["status"], cell["fix"]) == ("ready", "")


@pytest.fixture
def four(install, folder_of_weights):
    """Weights in each state there is, and a detector that needs none."""
    folder_of_weights.mkdir(parents=True)
    (folder_of_weights / "whole.pth").write_bytes(CONTENT)
    (folder_of_weights / "torn.pth").write_bytes(CONTENT[:5])
    packed = weights("packed", ref=FileRef("click:py.typed"), sha256=hashlib.sha256(b"").hexdigest())
    lost = weights("lost", ref=FileRef("click:lost.pth"))
    url = "https://example.org/w"
    install(
        toy=[weights("whole", url), weights("torn", url), weights("absent", url, license="L", research_only=True)],
        other=[packed, lost],
        bare=[],
    )
    return folder_of_weights


def test_weights_are_verified_damaged_or_not_fetched_each_with_what_mends_it(polyface, four):
    result = polyface("weights", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    entries = json.loads(result.stdout)
    assert [(e["detector"], e["name"], e["status"], e["path"], e["fix"]) for e in entries] == [
        ("other", "packed", "verified", str(FileRef("click:py.typed").path()), ""),
        ("other", "lost", "damaged", "click:lost.pth", "reinstall click"),
        ("toy", "whole", "verified", str(four / "whole.pth"), ""),
        ("toy", "torn", "damaged", str(four / "torn.pth"), "polyface fetch toy --weights torn"),
        ("toy", "absent", "not fetched", str(four / "absent.pth"), "polyface fetch toy --weights absent"),
    ]
    assert (
        entries[-1].items()
        >= {
            "size": 12,
            "license": "L",
            "research_only": True,
            "origin": "the moon",
            "urls": ["https://example.org/w"],
            "sha256": hashlib.sha256(CONTENT).hexdigest(),
        }.items()
    )


def test_the_table_shows_the_same_with_the_commands_below_it(polyface, four):
    result = polyface("weights", "toy", "bare")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    at = lines.index("toy not fetched absent, 0.0 MB")
    assert lines[at + 1 : at + 4] == [
        "licence, research only: L",
        "origin: the moon",
        f"to be fetched to {four / 'absent.pth'}",
    ]
    assert "toy verified whole, 0.0 MB" in lines
    assert lines[-5:] == [
        "For torn of toy:",
        "polyface fetch toy --weights torn",
        "For absent of toy:",
        "polyface fetch toy --weights absent",
        "No weights are needed for bare.",
    ]
    assert not any(line.startswith("other") for line in lines)


def test_weights_of_an_unknown_detector_are_refused(polyface, four):
    result = polyface("weights", "tyo")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "There is no detector named 'tyo'; did you mean 'toy'?" in result.stderr


@pytest.mark.parametrize("arguments", [["weights", "--json"], ["weights", "--help"], ["fetch", "--help"]])
def test_the_listing_and_the_help_load_nothing_of_the_network(arguments):
    report = (
        "import atexit, sys; atexit.register(lambda: print({'requests', 'urllib3', 'numpy', 'rich'} & {*sys.modules}))"
    )
    code = f"{report}\nfrom polyface.cli import main; main({arguments!r})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "set()"


@pytest.mark.shared
def test_a_real_checkpoint_is_fetched_past_a_mirror_that_has_lost_it(
    polyface, install, server, answer, shared, require, folder
):
    require("polyface_retinaface")
    content = (shared / "weights" / "RetinaFace_mobilenet025.pth").read_bytes()
    urls = server.url("/cut", answer.cut(content)), server.url("/w", answer.whole(content))
    listed = installed_plugins().get(DetectorSpec, "retinaface-mobilenet025").weights
    (real,) = (attrs.evolve(file, urls=urls) for file in listed if file.name == "pytorch-retinaface")
    install(face=[real])
    result = polyface("fetch", "face")
    assert (result.exit_code, result.stderr) == (0, "")
    (fetched,) = (folder / ".home" / "weights").rglob("*.*")
    assert (fetched.name, fetched.read_bytes()) == ("RetinaFace_mobilenet025.pth", content)
    (entry,) = json.loads(polyface("weights", "--json").stdout)
    assert (entry["status"], entry["size"]) == ("verified", 1_789_735)
