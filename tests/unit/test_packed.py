"""A program packed into one: what it is told to do for what it lacks, and what PyInstaller takes along."""

from __future__ import annotations

import importlib
import importlib.metadata
import runpy
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest

import polyface
from polyface.errors import UnknownNameError, UnsupportedError
from polyface.optional import install, needs
from polyface.plugins.manager import PluginManager
from polyface.plugins.records import BackendSpec


def hook_folder():
    """The folder that the entry point of the source tree names: an installation of it may be another."""
    from polyface import __pyinstaller as ours

    [folder] = ours.hook_folders()
    return Path(folder)


class TestWhatAProgramLacks:
    def test_is_installed_where_packages_can_be(self):
        assert str(install("polyface-a", "polyface-b[cpu]", "polyface-a")) == "pip install polyface-a 'polyface-b[cpu]'"

    def test_is_built_into_a_frozen_program(self, monkeypatch):
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        said = str(install("polyface-a"))
        assert said.startswith("pip install polyface-a where this program is built, and build it again")
        with pytest.raises(UnknownNameError) as caught:
            PluginManager().get(BackendSpec, "openvino")
        assert "where this program is built" in str(caught.value.fix)

    def test_is_put_beside_a_zip_archive(self, tmp_path):
        source = Path(polyface.__file__).parent
        archive = tmp_path / "program.pyz"
        with zipfile.ZipFile(archive, "w") as files:
            for path in source.rglob("*.py"):
                files.write(path, Path("polyface") / path.relative_to(source))
            files.writestr("__main__.py", "from polyface.optional import install\nprint(install('polyface-a'))")
        done = subprocess.run([sys.executable, archive], capture_output=True, text=True, check=True, cwd=tmp_path)
        assert done.stdout.startswith("pip install --target DIR polyface-a, and PYTHONPATH=DIR: a zip archive holds no")


class TestAModuleOfAnExtra:
    def test_is_returned_where_it_is_installed(self):
        assert needs("zipfile", "polyface[evaluate]") is zipfile

    def test_is_missed_with_the_command_that_brings_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(UnsupportedError) as caught:
            needs("matplotlib.figure", "polyface[evaluate]")
        assert str(caught.value) == (
            "This needs matplotlib, which cannot be imported.\n"
            "  - matplotlib: import of matplotlib.figure halted; None in sys.modules\n"
            "To fix it: pip install 'polyface[evaluate]'"
        )


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Two distributions with plugins, one of two packages, and one that has nothing to do with polyface."""
    for name, points in {
        "acme-faces": "[polyface]\none = acme_faces.plugin\ntwo = acme_more.plugin:records\n",
        "acme-runtime": "[polyface]\nruntime = acme_runtime\n",
        "other": "[console_scripts]\nother = other:main\n",
    }.items():
        folder = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(points)
    # Without what is installed here, but with Python's own modules.
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(path for path in sys.path if "site-packages" not in path)])
    importlib.invalidate_caches()


def test_pyinstallers_hook_takes_metadata_modules_and_files_of_every_plugin(site, monkeypatch):
    folder = hook_folder()
    hooks = types.ModuleType("PyInstaller.utils.hooks")
    every = ["polyface", "polyface.cli.detect", "polyface.testing.plugin", "polyface.__pyinstaller"]
    hooks.copy_metadata = lambda name: [(f"{name}.dist-info", f"{name}.dist-info")]
    hooks.collect_data_files = lambda package: [(f"{package}/weights.onnx", package)]
    hooks.collect_submodules = lambda package, **wanted: (
        list(filter(wanted["filter"], every)) if package == "polyface" else [package, f"{package}.plugin"]
    )
    for name in ("PyInstaller", "PyInstaller.utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, hooks.__name__, hooks)
    taken = runpy.run_path(str(folder / "hook-polyface.py"))
    packages = ["acme_faces", "acme_more", "acme_runtime"]
    assert taken["hiddenimports"] == [
        "polyface",
        "polyface.cli.detect",
        *(name for package in packages for name in (package, f"{package}.plugin")),
    ]
    assert taken["datas"] == [
        ("polyface.dist-info", "polyface.dist-info"),
        ("acme-faces.dist-info", "acme-faces.dist-info"),
        ("acme_faces/weights.onnx", "acme_faces"),
        ("acme_more/weights.onnx", "acme_more"),
        ("acme-runtime.dist-info", "acme-runtime.dist-info"),
        ("acme_runtime/weights.onnx", "acme_runtime"),
    ]


def test_pyinstaller_finds_the_hook_by_the_entry_point_of_the_project(pytestconfig):
    import tomllib

    project = tomllib.loads((pytestconfig.rootpath / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [target] = project["entry-points"]["pyinstaller40"].values()
    point = importlib.metadata.EntryPoint(name="hook-dirs", value=target, group="pyinstaller40")
    assert [Path(folder) / "hook-polyface.py" for folder in point.load()()] == [hook_folder() / "hook-polyface.py"]
    assert (hook_folder() / "hook-polyface.py").is_file()
