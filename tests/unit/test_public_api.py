"""The public names: one list, lazily imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import polyface
import polyface.testing

MODULES = [polyface, polyface.testing]


@pytest.mark.parametrize("module", MODULES)
def test_all_is_what_type_checkers_see(module):
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    [guarded] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = {
        alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert sorted(module.__all__) == sorted({*imports, *({"__version__"} & set(module.__all__))})
    for name, home in imports.items():
        assert getattr(module, name) is getattr(sys.modules[home], name)


@pytest.mark.parametrize(("module", "name"), [(module, name) for module in MODULES for name in module.__all__])
def test_every_public_name_is_there_and_in_dir(module, name):
    assert getattr(module, name) is not None
    assert name in dir(module)


@pytest.mark.parametrize("module", MODULES)
def test_another_name_is_an_attribute_error(module):
    with pytest.raises(AttributeError, match=rf"^module '{module.__name__}' has no attribute 'Detector'$"):
        module.Detector  # noqa: B018


@pytest.mark.parametrize(
    "module", ["polyface", "polyface.testing", "polyface.plugins.hookspecs", "polyface.plugins.records", "polyface.cli"]
)
def test_importing_what_plugins_and_the_command_line_import_first_loads_nothing_heavy(module):
    heavy = "{'numpy', 'PIL', 'torch', 'torchvision', 'onnx', 'onnxruntime'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
