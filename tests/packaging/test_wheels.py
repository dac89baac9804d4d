"""What a user gets: the files in the wheels, and the weight and kind of what comes with them."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PLUGINS = sorted(path.name for path in Path(__file__).parents[2].glob("plugins/polyface-*"))
CORE_NEEDS = {"attrs", "click", "numpy", "pillow", "platformdirs", "pluggy", "requests", "rich"}


@pytest.fixture(scope="module")
def wheel(pytestconfig, tmp_path_factory):
    """Build the wheel of a folder of the repository from a copy of it, and open it."""

    def build(folder):
        copy = tmp_path_factory.mktemp("source") / "copy"
        ignored = shutil.ignore_patterns(".*", "plugins" if folder == "." else "", "benchmarks", "__pycache__", "out")
        shutil.copytree(pytestconfig.rootpath / folder, copy, ignore=ignored)
        target = tmp_path_factory.mktemp("wheel")
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--no-index"]
        subprocess.run([*pip, "--wheel-dir", str(target), str(copy)], check=True)
        return zipfile.ZipFile(next(target.glob("*.whl")))

    return build


def metadata(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return wheel.read(name).decode()


def test_the_core_wheel_is_typed_licensed_and_small_and_needs_only_what_the_design_lists(wheel):
    core = wheel(".")
    assert "polyface/py.typed" in core.namelist()
    assert any(name.endswith("licenses/LICENSE") for name in core.namelist())
    assert all(name.startswith(("polyface/", "polyface-0.2.0.dist-info/")) for name in core.namelist())
    needs = re.findall(r"^Requires-Dist: ([A-Za-z0-9_-]+)(.*)", metadata(core), flags=re.MULTILINE)
    assert {name for name, rest in needs if "extra ==" not in rest} == CORE_NEEDS
    assert {name for name, rest in needs if "extra == 'evaluate'" in rest} == {"matplotlib"}
    assert {name for name, rest in needs if "extra == 'fast-jpeg'" in rest} == {"simplejpeg"}
    assert sum(entry.file_size for entry in core.infolist()) < 1_000_000


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_wheel_holds_its_typed_package_alone_and_asks_for_a_range_of_core(wheel, name):
    plugin = wheel(f"plugins/{name}")
    names = plugin.namelist()
    package = name.replace("-", "_")
    assert {f"{package}/py.typed", f"{package}-0.2.0.dist-info/licenses/LICENSE"} <= {*names}
    assert all(entry.startswith((f"{package}/", f"{package}-0.2.0.dist-info/")) for entry in names)
    assert re.search(r"^Requires-Dist: polyface<0\.3,>=0\.2$", metadata(plugin), flags=re.MULTILINE)


def test_the_retinaface_wheel_ships_its_weights_with_their_licence(wheel):
    names = wheel("plugins/polyface-retinaface").namelist()
    for file in (
        "retinaface-mobilenet025.onnx",
        "retinaface-mobilenet025.int8.onnx",
        "retinaface-mobilenet025.safetensors",
        "NOTICE.md",
    ):
        assert f"polyface_retinaface/weights/{file}" in names


def test_the_centerface_wheel_ships_its_weights_with_their_licence(wheel):
    names = wheel("plugins/polyface-centerface").namelist()
    assert {f"polyface_centerface/weights/{file}" for file in ("centerface.onnx", "NOTICE.md")} <= {*names}
    licences = "polyface_centerface-0.2.0.dist-info/licenses"
    assert f"{licences}/src/polyface_centerface/weights/NOTICE.md" in names


def closure(*names):
    """The installed distributions that ``names`` need, extras left out."""
    found, waiting = {}, list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        found[name] = importlib.metadata.distribution(name)
        waiting += [
            re.match(r"[A-Za-z0-9._-]+", need).group()
            for need in found[name].requires or []
            if "extra ==" not in need and "sys_platform" not in need and "python_version" not in need
        ]
    return found


def test_retinaface_on_onnxruntime_installs_under_300_megabytes_without_torch_or_opencv(require):
    require("onnxruntime", "polyface_onnxruntime", "polyface_retinaface")
    needed = closure("polyface-retinaface", "polyface-onnxruntime", "onnxruntime")
    assert not [name for name in needed if name.startswith(("opencv", "torch", "nvidia"))]
    files = [file.locate() for dist in needed.values() for file in dist.files or ()]
    assert sum(file.stat().st_size for file in files if file.is_file()) < 300e6
