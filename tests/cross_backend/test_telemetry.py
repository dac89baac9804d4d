"""What runs below polyface tells nobody: no command leaves a file outside its home, and none looks up a host."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import BackendSpec, DetectorSpec

KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "SYSTEMROOT")
"""All that is left of the environment: a variable such as CI, of any name, keeps a runtime silent by itself."""

AT_HAND = ("retinaface-mobilenet025", "example-redbox")
"""Detectors that run without anything fetched, where they are installed."""

BACKENDS = sorted(
    name
    for name, spec in installed_plugins().by_name(BackendSpec).items()
    if any(c.device == "cpu" for c in spec.capabilities)
)

# ONNX Runtime 1.32 looks up its maker's host 8.5 seconds after its import. So the process has to live for longer.
STAYS = """
import contextlib, socket, sys, time
import polyface
began = time.monotonic()
for backend in sys.argv[2:]:
    for name in {detectors}:
        with contextlib.suppress(polyface.PolyfaceError):
            polyface.create_detector(name, backend=backend, device="cpu").detect(sys.argv[1])
            break
while time.monotonic() - began < 12:
    time.sleep(1)
with contextlib.suppress(OSError):
    socket.getaddrinfo("control.invalid", 80)
"""


@pytest.fixture
def home(tmp_path):
    """The home of a user who has run nothing yet, polyface's own within it."""
    folder = tmp_path / "user"
    folder.mkdir()
    return folder


def environment(home, **more):
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return kept | {"HOME": str(home), "USERPROFILE": str(home), "POLYFACE_HOME": str(home / "polyface"), **more}


def run(home, *command, **more):
    return subprocess.run(
        [sys.executable, "-m", "polyface", *map(str, command)],
        env=environment(home, **more),
        cwd=home.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def left_outside(home):
    """The files that are not polyface's own."""
    files = (path.relative_to(home) for path in home.rglob("*") if not path.is_dir())
    return sorted(str(path) for path in files if path.parts[0] != "polyface")


def detector_for(backend):
    """The detectors to try a backend with; only our example has a graph for NumPy."""
    installed = [name for name in AT_HAND if name in installed_plugins().by_name(DetectorSpec)]
    return installed[-1:] if backend == "numpy" else installed[:1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_detecting_leaves_nothing_outside_polyfaces_home(backend, home, examples):
    for name in detector_for(backend):
        done = run(home, "detect", examples[0], "--detector", name, "--backend", backend, "--device", "cpu")
        if done.returncode == 2 and "To fix it:" in done.stderr:
            pytest.skip(f"refused: {done.stderr.splitlines()[0]}")
        assert done.returncode == 0, done.stderr
        assert left_outside(home) == []


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        (["quantize", "retinaface-mobilenet025", "--images", "EXAMPLES"], ["polyface_onnxruntime", "onnxruntime"]),
        (["export", "retinaface-mobilenet025", "--to", "onnx"], ["polyface_torch", "torch", "onnxscript"]),
        (["matrix", "--probe"], ["polyface_onnxruntime", "onnxruntime"]),
    ],
    ids=["quantize", "export", "matrix"],
)
def test_what_makes_a_graph_leaves_nothing_outside_polyfaces_home(command, needed, home, examples, require):
    require("polyface_retinaface", "onnx", *needed)
    done = run(home, *[str(examples[0].parent) if part == "EXAMPLES" else part for part in command])
    assert done.returncode == 0, done.stderr
    assert left_outside(home) == []


def test_a_users_own_setting_of_onnx_runtimes_telemetry_wins(home, require):
    require("onnxruntime", "polyface_onnxruntime")
    code = "import polyface_onnxruntime.session, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    for given, there in (({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")):
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment(home, **given), capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == there


def test_no_host_is_looked_up_while_every_backend_detects(home, examples):
    space = [shutil.which("unshare") or "unshare", "--user", "--map-root-user", "--net", "--mount"]
    try:
        subprocess.run([*space, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"look-ups are watched in a network namespace of Linux, which this machine does not give: {error}")
    code = STAYS.format(detectors=AT_HAND)
    watcher = Path(__file__).with_name("lookups.py")
    done = subprocess.run(
        [*space, sys.executable, watcher, sys.executable, "-c", code, examples[0], *BACKENDS],
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
    )
    seen = done.stdout.split()
    if "control.invalid" not in seen:
        pytest.skip(f"the look-up made on purpose was not seen: {done.stderr[-300:]}")
    assert (done.returncode, set(seen)) == (0, {"control.invalid"}), done.stderr
