"""``polyface new``: what it writes installs, passes its own tests, runs, and is clean; and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from polyface.cli import group
from polyface.machine.drivers import is_installed
from polyface.testing import BackendConformance, DetectorConformance, PluginConformance, WriterConformance
from polyface_example import new

# The longest name that is allowed, and one that is no name of Python.
NAMES = {"detector": "q-2.5g", "backend": "my-runtime", "writer": "abcdefghijklmnopqrstuvwxyzabcd"}
FACE = {"box": [16.0, 8.0, 24.0, 16.0], "score": pytest.approx(1 / (1 + np.exp(-8)), abs=1e-5)}
PIP = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]
BUILD = ["--no-index", "--no-deps", "--no-build-isolation"]

each_kind = pytest.mark.parametrize("kind", new.KINDS)


def polyface_new(*arguments):
    """Run the command in this process."""
    result = CliRunner().invoke(group, ["new", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def run(*command, path=(), cwd=None):
    """Run a Python command in a process of its own, folders in front of what is installed."""
    entries = [*map(str, path), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("POLYFACE_")}
    environ = {**variables, "PYTHONPATH": os.pathsep.join(entries)}
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False)


def read_all(folder):
    """What was written, without what Python compiled of it when its tests ran."""
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a new package of each kind, and with all of them installed in ``site``."""
    folder = tmp_path_factory.mktemp("new")
    for kind, name in NAMES.items():
        result = polyface_new(kind, name, "--folder", folder)
        assert (result.exit_code, result.stderr) == (0, "")
    packages = [str(folder / f"polyface-{name}") for name in NAMES.values()]
    done = run(*PIP, "install", *BUILD, "--target", folder / "site", *packages)
    assert done.returncode == 0, done.stderr
    for package in packages:  # what the build left there is not the command's
        shutil.rmtree(Path(package, "build"), ignore_errors=True)
    return folder


@pytest.mark.parametrize(
    ("kind", "conformance", "own"),
    [("detector", DetectorConformance, 9), ("backend", BackendConformance, 2), ("writer", WriterConformance, 1)],
)
def test_its_own_tests_pass_the_conformance_kit_among_them(made, kind, conformance, own):
    package = f"polyface-{NAMES[kind]}"
    done = run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", package, path=[made / "site"], cwd=made)
    assert done.returncode == 0, done.stdout + done.stderr
    count = own + len(PluginConformance.checks()) + len(conformance.checks())
    counts = {what: int(number) for number, what in re.findall(r"(\d+) (\w+)", done.stdout.splitlines()[-1])}
    assert counts["passed"] + counts.get("skipped", 0) == count  # one needs torch
    assert not {"failed", "errors", "xfailed", "warnings"} & {*counts}


@each_kind
def test_polyface_detect_runs_it_by_the_command_that_it_names(made, tmp_path, kind):
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[8:16, 16:24] = 255, 0, 0
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels).save(tmp_path / "photos/one face.png")
    names = new.Names(NAMES[kind])
    _, detect, _ = new.next_steps(kind, names, names.package)
    done = run(sys.executable, "-m", *detect.split(), path=[made / "site"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if kind == "writer":
        assert (tmp_path / f"faces.{NAMES[kind]}.txt").read_text() == '1 "photos/one face.png"\n'
    else:
        [line] = map(json.loads, (tmp_path / "out/faces.jsonl").read_text().splitlines())
        assert line["faces"] == [FACE]


@each_kind
def test_what_it_writes_is_clean_for_ruff(made, kind, require):
    require("ruff")
    package = made / f"polyface-{NAMES[kind]}"
    for check in (["check", "--extend-select", "B,C4,E,I,N,RUF,SIM,UP"], ["format", "--check"]):
        done = run(sys.executable, "-m", "ruff", *check, "--no-cache", ".", cwd=package)
        assert done.returncode == 0, done.stdout


def test_what_it_writes_is_clean_for_mypy(made, require):
    require("mypy")
    without = [] if is_installed("torch") else ["--exclude", "net.py"]
    sources = [f"polyface-{name}/src" for name in NAMES.values()]
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull, *without, *sources]
    done = run(*command, cwd=made)
    assert (done.returncode, done.stdout.startswith("Success")) == (0, True), done.stdout


@each_kind
def test_the_shortest_name_is_formatted_as_well(tmp_path, kind, require):
    require("ruff")
    polyface_new(kind, "a", "--folder", tmp_path)
    done = run(sys.executable, "-m", "ruff", "format", "--no-cache", "--check", ".", cwd=tmp_path / "polyface-a")
    assert done.returncode == 0, done.stdout


def test_its_package_names_its_licence_and_no_author_and_asks_for_a_range_of_polyface(made):
    wanted = {
        "detector": ["polyface>=0.2,<0.3", "numpy>=1.26"],
        "backend": ["polyface>=0.2,<0.3", "numpy>=1.26"],
        "writer": ["polyface>=0.2,<0.3"],
    }
    for kind, name in NAMES.items():
        folder = made / f"polyface-{name}"
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        assert (project["name"], project["version"], project["license"]) == (f"polyface-{name}", "0.1.0", "MIT")
        assert project["dependencies"] == wanted[kind]
        assert list(project["entry-points"]["polyface"].values()) == [f"{new.Names(name).module}.plugin"]
        assert not {"authors", "maintainers", "urls"} & {*project}
        assert "The polyface developers" not in (folder / "LICENSE").read_text()


def test_nothing_in_it_is_called_as_in_the_example(made):
    for name in NAMES.values():
        for path, content in read_all(made / f"polyface-{name}").items():
            # The commands in the README try a backend or a writer with the example's detector.
            text = content.decode().replace("--detector example-redbox", "").lower()
            assert not re.findall("polyface_example|redbox|numpybackend|example-counts", text), path


def test_its_readme_and_its_comments_say_what_to_replace_where(made):
    for kind, name in NAMES.items():
        folder = made / f"polyface-{name}"
        readme = (folder / "README.md").read_text()
        rows = [line.split("`")[1] for line in readme.splitlines() if line.startswith("| `")]
        tests = [f"tests/{path.name}" for path in folder.glob("tests/*.py")]
        modules = [path.name for path in folder.glob("src/*/*.py") if path.name != "__init__.py"]
        assert sorted(rows) == sorted([*tests, *modules])
        for module in modules:
            assert "# Replace: " in next(folder.glob(f"src/*/{module}")).read_text(), (kind, module)


def test_it_prints_what_it_wrote_and_what_comes_next(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert polyface_new("writer", "my-faces").stdout == (
        "polyface-my-faces/\n"
        "  LICENSE\n"
        "  README.md\n"
        "  pyproject.toml\n"
        "  src/\n"
        "    polyface_my_faces/\n"
        "      __init__.py\n"
        "      plugin.py\n"
        "      py.typed\n"
        "      writer.py\n"
        "  tests/\n"
        "    test_package.py\n"
        "    test_writer.py\n"
        "\n"
        "It runs as it is. Install it, try it, and test it:\n"
        "\n"
        "  pip install -e 'polyface-my-faces[test]'\n"
        "  polyface detect photos/ --detector example-redbox --backend numpy --output faces.myfaces.txt\n"
        "  pytest polyface-my-faces\n"
        "\n"
        'Then replace the toy: comments with "Replace:" say by what, and polyface-my-faces/README.md where.\n'
    )


@each_kind
@pytest.mark.parametrize("name", ["Mine", "3d", "a--b", "-a", "a.", "a/b", "é", "", "a b", "polyface-a", "a" * 31])
def test_a_name_of_which_no_package_can_be_made_is_refused_with_one_that_can(tmp_path, kind, name):
    result = polyface_new("--folder", tmp_path, kind, "--", name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"No {kind} can be called {name!r}." in result.stderr
    fix = result.stderr.rpartition(f"To fix it: polyface new {kind} ")[2].strip()
    assert polyface_new(kind, fix, "--folder", tmp_path).exit_code == 0


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [
        ("detector", "example-redbox", "a detector of polyface-example has it"),
        ("detector", "numpy", "a backend of polyface-example has it"),
        ("backend", "csv", "a writer of polyface has it"),
        ("writer", "w.ider", "its files would end with .wider.txt, as those of the writer 'wider' do"),
        ("detector", "example", "a package polyface_example is installed"),
        ("backend", "auto", "with it polyface chooses by itself"),
    ],
)
def test_a_name_that_is_taken_is_refused(tmp_path, kind, name, why):
    result = polyface_new(kind, name, "--folder", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"The name '{name}' is taken.\n  - {why}\n" in result.stderr
    assert f"polyface new {kind} my-{name}\n" in result.stderr
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["lambda", "class", "none"])
def test_a_word_of_python_is_a_name_like_any_other(tmp_path, name):
    assert polyface_new("detector", name, "--folder", tmp_path).exit_code == 0
    for path in tmp_path.rglob("*.py"):
        compile(path.read_text(), str(path), "exec")


@pytest.mark.parametrize("there", ["a file", "an empty folder", "a link to nothing"])
def test_nothing_that_is_there_is_written_over(tmp_path, there):
    target = tmp_path / "polyface-mine"
    if there == "a file":
        target.write_text("mine")
    elif there == "an empty folder":
        target.mkdir()
    else:
        target.symlink_to("nothing")
    before = target.lstat()
    result = polyface_new("detector", "mine", "--folder", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "polyface-mine is there already.\n  - nothing of yours is written over\n" in result.stderr
    assert (target.lstat(), [*tmp_path.iterdir()]) == (before, [target])


def test_where_it_fails_half_way_nothing_is_left(tmp_path, monkeypatch):
    write = Path.write_text

    def fill_the_disk(path, *arguments, **options):
        if path.name == "plugin.py":
            raise OSError(28, "No space left on device", str(path))
        return write(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", fill_the_disk)
    result = polyface_new("detector", "mine", "--folder", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "No space left on device" in result.stderr
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("name", "words"), [("my-net", "My"), ("net", "Net"), ("q-2.5g", "Q25g"), ("a_writer", "A")])
def test_the_names_of_classes_do_not_say_twice_what_they_end_with(name, words):
    assert new.Names(name).words == words


def test_the_wheel_of_the_example_writes_the_same(made, tmp_path, pytestconfig):
    source = pytestconfig.rootpath / "plugins/polyface-example"
    shutil.copytree(source, tmp_path / "source", ignore=shutil.ignore_patterns(".*", "__pycache__", "build"))
    done = run(*PIP, "install", *BUILD, "--target", tmp_path / "site", tmp_path / "source")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "source")
    for kind, name in NAMES.items():
        command = [sys.executable, "-m", "polyface", "new", kind, name, "--folder", tmp_path]
        done = run(*command, path=[tmp_path / "site"])
        assert done.returncode == 0, done.stderr
        assert read_all(tmp_path / f"polyface-{name}") == read_all(made / f"polyface-{name}")
