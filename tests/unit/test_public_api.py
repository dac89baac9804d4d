"""The public names: one list, lazily imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import polyface


def test_all_is_what_type_checkers_see():
    tree = ast.parse(Path(polyface.__file__).read_text(encoding="utf-8"))
    [guarded] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = {
        alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert sorted(polyface.__all__) == sorted(["__version__", *imports])
    for name, module in imports.items():
        assert getattr(polyface, name) is getattr(sys.modules[module], name)


@pytest.mark.parametrize("name", polyface.__all__)
def test_every_public_name_is_there_and_in_dir(name):
    assert getattr(polyface, name) is not None
    assert name in dir(polyface)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'polyface' has no attribute 'Detector'$"):
        polyface.Detector  # noqa: B018


@pytest.mark.parametrize("module", ["polyface", "polyface.hookspecs", "polyface.specs", "polyface.cli"])
def test_importing_what_plugins_and_the_command_line_import_first_loads_nothing_heavy(module):
    heavy = "{'numpy', 'PIL', 'torch', 'torchvision', 'onnx', 'onnxruntime'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
