"""What is loaded when: nothing heavy before it is used, and no runtime by core, ever."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
from pathlib import Path

import pytest
from PIL import Image

import polyface

HEAVY = ("PIL", "cv2", "numpy", "onnx", "onnxruntime", "openvino", "torch", "torchvision")
RUNTIMES = {"cv2", "onnx", "onnxruntime", "openvino", "torch", "torchvision"}
CORE = Path(polyface.__file__).parent


@pytest.fixture
def loaded(python):
    """Run code in a fresh process, and return which of these modules it had imported at its end."""

    def run(code, *names):
        report = f"import atexit, sys; atexit.register(lambda: print('#', *sorted({set(names)} & sys.modules.keys())))"
        result = python("-c", f"{report}\n{code}")
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()[-1]

    return run


def command(*arguments):
    return f"from polyface.cli import main; main({list(arguments)!r})"


def test_the_check_itself_sees_a_heavy_import(loaded):
    assert loaded("import numpy", *HEAVY) == "# numpy"


def test_importing_polyface_loads_nothing_heavy(loaded):
    assert loaded("import polyface", *HEAVY, "rich", "click", "pluggy") == "#"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in ("detect", "matrix"))])
def test_help_loads_nothing_heavy_and_no_rich(loaded, arguments):
    assert loaded(command(*arguments), *HEAVY, "rich") == "#"


@pytest.mark.parametrize("name", ["plugins", "detectors", "backends", "config"])
def test_the_listings_load_nothing_heavy(loaded, name):
    assert loaded(command(name), *HEAVY) == "#"
    assert loaded(command(name, "--json"), *HEAVY, "rich") == "#"


def test_the_matrix_loads_no_runtime_before_it_is_told_to_probe(loaded):
    assert loaded(command("matrix"), *RUNTIMES) == "#"


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("polyface_retinaface", "polyface_onnxruntime", "onnxruntime"))),
    reason="needs polyface-retinaface and polyface-onnxruntime",
)
@pytest.mark.parametrize(("quiet", "tables"), [([], " rich"), (["--quiet"], "")])
def test_detect_loads_one_runtime_and_nothing_that_only_others_use(loaded, tmp_path, quiet, tables):
    image = tmp_path / "grey.jpg"
    Image.new("RGB", (64, 64), "grey").save(image)
    chosen = ["--detector", "retinaface-mobilenet025", "--backend", "onnxruntime"]
    others = ("av", "matplotlib", "platformdirs", "pyarrow", "requests", "rich", "rich.progress", "scipy")
    run = command("detect", str(image), "--json", *chosen, *quiet)
    assert loaded(run, *HEAVY, *others) == f"# PIL numpy onnxruntime{tables}"


def test_a_command_ends_without_a_search_for_cycles_in_all_that_it_loaded(python):
    at_the_end = "import atexit, gc; atexit.register(lambda: print('#', len(gc.get_objects())))"
    result = python("-c", f"{at_the_end}\n{command('plugins')}")
    assert int(result.stdout.splitlines()[-1].removeprefix("# ")) < 1000  # of more than 50,000


PLUGINS = sorted({point.module for point in importlib.metadata.entry_points(group="polyface")})


@pytest.mark.parametrize("module", PLUGINS)
def test_the_entry_module_of_an_installed_plugin_loads_nothing_heavy(loaded, module):
    assert loaded(f"import {module}", *HEAVY) == "#"


def imported(tree):
    """The top-level modules that a file imports anywhere, by statement or by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (a.value.partition(".")[0] for a in node.args if isinstance(a, ast.Constant))


def test_the_next_check_sees_imports_in_functions_and_by_name():
    source = "def f():\n import torch.nn\n from onnx import helper\n importlib.import_module('onnxruntime.x')"
    assert set(imported(ast.parse(source))) == {"torch", "onnx", "onnxruntime"}


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda path: path.relative_to(CORE).as_posix())
def test_core_imports_no_runtime_not_even_inside_a_function(path):
    assert not set(imported(ast.parse(path.read_text(encoding="utf-8")))) & RUNTIMES
