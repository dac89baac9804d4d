"""Strangers' packages, really installed: pip puts each group in a folder of its own, offline."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parent / "packages"
GROUPS = {
    "acme": ["acme-detector", "acme-backend"],
    "clash": ["clash-one", "clash-two"],
    "broken": [f"broken/{path.name}" for path in sorted((PACKAGES / "broken").iterdir())],
}


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """Install a group once, and return the folder that makes it importable."""
    done = {}

    def install(group):
        if group not in done:
            # Copies, so that no build leaves anything in the repository.
            copies = [tmp_path_factory.mktemp("source") / "copy" for _ in GROUPS[group]]
            for name, copy in zip(GROUPS[group], copies, strict=True):
                shutil.copytree(PACKAGES / name, copy, ignore=shutil.ignore_patterns("__pycache__"))
            target = tmp_path_factory.mktemp(group)
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--no-index"]
            result = subprocess.run([*pip, "--target", target, *copies], capture_output=True, text=True, check=False)
            assert result.returncode == 0, result.stderr
            done[group] = target
        return done[group]

    return install


@pytest.fixture(scope="session")
def python(installed, tmp_path_factory):
    """Run Python in a process of its own, in an empty folder, with these groups installed beside everything else."""
    folder = tmp_path_factory.mktemp("empty")
    ours = ("POLYFACE_", "COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}

    def run(*arguments, groups=(), cwd=folder, **environ):
        path = os.pathsep.join(str(installed(group)) for group in groups)
        environ = {**clean, "PYTHONPATH": path, "POLYFACE_HOME": str(folder / "home"), **environ}
        return subprocess.run(
            [sys.executable, *map(str, arguments)], cwd=cwd, env=environ, capture_output=True, text=True, check=False
        )

    return run
