"""The plugins of this repository are found in their folders: a new one is a folder, and no line of configuration."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib

import pytest

from polyface import __version__

SHOW = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))"]


@pytest.fixture
def repository(pytestconfig, tmp_path):
    """A repository of four plugins: one needs pytest, one what nobody has, one that one, and one nothing."""
    (tmp_path / "tests").mkdir()
    shutil.copy(pytestconfig.rootpath / "tests/first_party.py", tmp_path / "tests")
    for name, needs in {
        "polyface-builds-on-torch": ["polyface-no-torch>=0.2"],
        "polyface-new": ["pytest>=8"],
        "polyface-no-torch": ["pytest", "not-there-at-all"],
        "polyface-plain": [],
    }.items():
        (tmp_path / "plugins" / name).mkdir(parents=True)
        text = f'[project]\nname = "{name}"\ndependencies = {json.dumps(needs)}\n'
        (tmp_path / "plugins" / name / "pyproject.toml").write_text(text)
    return tmp_path


def run(repository, *command, **environ):
    # Nothing of tox's: it may run these tests with a choice of its own.
    environ = {key: value for key, value in os.environ.items() if key != "FIRST_PARTY"} | environ
    script = repository / "tests/first_party.py"
    return subprocess.run([sys.executable, script, *command], capture_output=True, text=True, env=environ, check=False)


def test_a_command_runs_for_each_plugin_whose_dependencies_are_installed(repository):
    result = run(repository, *SHOW, "install", "@folders", "@sources", "--require", "torch,@packages")
    assert json.loads(result.stdout) == [
        "install",
        *("./plugins/polyface-new", "./plugins/polyface-plain"),
        *("./plugins/polyface-new/src", "./plugins/polyface-plain/src"),
        *("--require", "torch,polyface_new,polyface_plain"),
    ]
    assert result.stderr.splitlines() == [
        "polyface-builds-on-torch is left out: not-there-at-all not installed",
        "polyface-no-torch is left out: not-there-at-all not installed",
    ]


def test_all_of_them_or_some_by_name_can_be_asked_for(repository):
    everything = run(repository, *SHOW, "@packages", FIRST_PARTY="all")
    assert everything.stdout == '["polyface_builds_on_torch,polyface_new,polyface_no_torch,polyface_plain"]\n'
    one = run(repository, *SHOW, "@packages", FIRST_PARTY="polyface-plain")
    assert one.stdout == '["polyface_plain"]\n'


def test_an_unknown_name_is_refused_with_those_that_exist(repository):
    result = run(repository, *SHOW, FIRST_PARTY="polyface-plane")
    assert result.returncode == 1
    assert result.stderr.startswith("FIRST_PARTY: no polyface-plane below ")
    assert result.stderr.endswith(
        "there are polyface-builds-on-torch, polyface-new, polyface-no-torch, polyface-plain\n"
    )


def test_it_ends_as_the_command_ended(repository):
    assert run(repository, sys.executable, "-c", "raise SystemExit(3)").returncode == 3


def plugins(root):
    """The table ``project`` of each plugin's ``pyproject.toml``."""
    files = root.glob("plugins/*/pyproject.toml")
    return {file.parent.name: tomllib.loads(file.read_text())["project"] for file in files}


def test_the_configuration_names_a_plugin_at_most_once(pytestconfig):
    root = pytestconfig.rootpath
    text = (root / "tox.ini").read_text() + (root / "pyproject.toml").read_text()
    for name in plugins(root):
        assert text.count(name) + text.count(name.replace("-", "_")) <= 1, name


def test_all_packages_share_one_version_and_ask_for_it(pytestconfig):
    major, minor, _ = __version__.split(".")
    wanted = f">={major}.{minor},<{major}.{int(minor) + 1}"
    for name, project in plugins(pytestconfig.rootpath).items():
        assert (project["name"], project["version"]) == (name, __version__)
        extras = project.get("optional-dependencies", {}).values()
        needs = [*project["dependencies"], *(need for extra in extras for need in extra)]
        ours = [need for need in needs if need.startswith("polyface")]
        assert f"polyface{wanted}" in ours
        assert all(need.endswith(wanted) for need in ours), (name, ours)
