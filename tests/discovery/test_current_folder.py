"""A stranger's current folder: nothing in it is imported, however polyface is started."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from polyface import __main__

OURS = Path(__main__.__file__).parents[1]
"""The folder that makes polyface importable."""


@pytest.fixture
def strange(tmp_path):
    """A folder with a distribution whose entry point leaves a file behind when it is imported."""
    info = tmp_path / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[polyface]\nstranger = stranger\n")
    (tmp_path / "stranger.py").write_text("open('was-run', 'w')")
    return tmp_path


def test_python_m_imports_nothing_of_it(python, strange):
    result = python("-m", "polyface", "plugins", cwd=strange, PYTHONPATH=str(OURS))
    assert result.returncode == 0, result.stderr
    assert "stranger" not in result.stdout
    assert not (strange / "was-run").exists()


def test_a_folder_of_pythonpath_counts_where_it_is_the_current_one_too(python, strange):
    result = python("-m", "polyface", "plugins", cwd=strange, PYTHONPATH=os.pathsep.join([str(OURS), str(strange)]))
    assert result.returncode == 0, result.stderr
    assert (strange / "was-run").exists()


def test_a_checkout_runs_from_its_own_folder(python, tmp_path):
    shutil.copytree(OURS / "polyface", tmp_path / "polyface", ignore=shutil.ignore_patterns("__pycache__"))
    result = python("-m", "polyface", "--version", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert result.stdout == "polyface, version 0.2.0\n", result.stderr


@pytest.mark.parametrize(
    ("path", "left"),
    [(["", "/lib"], ["/lib"]), (["HERE", "/lib"], ["/lib"]), (["/lib", "HERE"], ["/lib", "HERE"]), ([], [])],
)
def test_only_the_first_entry_goes_and_only_where_it_is_the_current_folder(monkeypatch, path, left):
    here = str(Path.cwd())
    monkeypatch.setattr("sys.path", [here if entry == "HERE" else entry for entry in path])
    __main__.leave_out_current_folder()
    assert sys.path == [here if entry == "HERE" else entry for entry in left]


def test_a_deleted_current_folder_is_no_reason_to_stop(monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    __main__.leave_out_current_folder()


def test_processes_that_a_command_starts_import_nothing_of_it_either(python, tmp_path, tmp_path_factory):
    for name in ("multiprocessing", "selectors", "struct", "tempfile"):
        (tmp_path / f"{name}.py").write_text("open('was-run', 'w')")
    command = tmp_path_factory.mktemp("bin") / "polyface"  # as pip writes it
    command.write_text("from polyface.cli import main\nif __name__ == '__main__':\n    main()\n")
    arguments = ["example-redbox", "--backends", "numpy", "--sizes", "64x96", "--rounds", "1"]
    result = python(command, "bench", *arguments, cwd=tmp_path, PYTHONPATH=str(OURS))
    assert not (tmp_path / "was-run").exists()
    assert result.returncode == 0, result.stderr
