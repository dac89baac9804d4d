"""The command line in a folder of its own, with the toy detector and no settings from outside."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from polyface.cli import group

TOY = {"POLYFACE_DETECTOR": "example-redbox", "POLYFACE_BACKEND": "numpy"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, empty; example-redbox on numpy unless a test says otherwise."""
    for variable in os.environ:
        if variable.startswith("POLYFACE_") or variable in {"COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"}:
            monkeypatch.delenv(variable)
    for variable, value in {**TOY, "POLYFACE_HOME": str(tmp_path / ".home")}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def polyface():
    """Run a command in this process; its ``exit_code``, ``stdout`` and ``stderr`` come back.

    A test that wants other plugins than the installed ones sets ``polyface.plugins``.
    """

    def run(*arguments, **environ):
        result = CliRunner().invoke(group, [str(argument) for argument in arguments], env=environ, obj=run.plugins)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    run.plugins = None
    return run


@pytest.fixture
def image(folder):
    """Write a black image with one bright red square of 8 pixels at (16, 8), whose face is ``FACE``."""

    def write(name, width=64, height=48, **options):
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[8:16, 16:24] = 255, 0, 0
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, **options)
        return path

    return write
