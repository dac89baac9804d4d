"""The conformance kit on a right plugin, and on the same plugin with one line broken: exactly one check must see it."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

import polyface.testing
from polyface.plugins import installed_plugins
from polyface.testing import BackendConformance, DetectorConformance, PluginConformance

pytest_plugins = ["pytester"]

NAMES = {"polyface_example": "toy_faces", '"example-redbox"': '"toy-redbox"', 'name="numpy"': 'name="toy-runtime"'}

# Unlike the example's own, this mean tells the orders of the channels apart.
PREPROCESS = 'channels="rgb", mean=(127.5, 127.5, 127.5)', 'channels="bgr", mean=(104, 117, 123)'

TESTS = """
import numpy as np
import pytest
from polyface.testing import BackendConformance, DetectorConformance, Golden, PluginConformance


class TestPlugin(PluginConformance):
    distribution = "toy-faces"


class TestBackend(BackendConformance):
    backend = "toy-runtime"


class TestDetector(DetectorConformance):
    detector = "toy-redbox"
    backend = "numpy"

    @pytest.fixture(scope="class")
    @classmethod
    def goldens(cls):
        picture = np.random.default_rng(5).integers(0, 256, (16, 24, 3), dtype=np.uint8)
        faces = []
        for row, column in [(0, 0), (0, 8), (0, 16), (8, 0), (8, 8), (8, 16)]:
            sums = [0.0, 0.0, 0.0]
            for y in range(row, row + 8):
                for x in range(column, column + 8):
                    for channel in range(3):
                        sums[channel] += picture[y, x, channel]
            red, green, blue = (total / 64 for total in sums)
            excess = 0.5 * (blue - 104) - 0.25 * (green - 117) - 0.25 * (red - 123)
            faces.append(-4 + 8 * excess / 127.5)
        logits = np.array([[-face, face] for face in faces], np.float32)
        scores = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
        return [Golden(picture=picture, heads={"logits": logits}, scores=scores)]
"""


class Toy:
    """polyface-example under another name, installed for one test."""

    def __init__(self, pytester, source):
        self.pytester = pytester
        self.folder = pytester.path / "toy_faces"
        shutil.copytree(source, self.folder, ignore=shutil.ignore_patterns("__pycache__"))
        for path in self.folder.glob("*.py"):
            text = path.read_text()
            for old, new in NAMES.items():
                text = text.replace(old, new)
            path.write_text(text)
        self.change("plugin.py", *PREPROCESS)
        self.change("plugin.py", 'module="torch"', 'module="absent"')  # torch may be imported once only in a process
        self.metadata("Requires-Dist: torch>=2.6; extra == 'torch'\nProvides-Extra: torch\n")
        pytester.makepyfile(test_toy=TESTS)

    def metadata(self, requirements):
        folder = self.pytester.mkdir("toy_faces-1.0.dist-info") if not self.info.exists() else self.info
        folder.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: toy-faces\nVersion: 1.0\n{requirements}")
        folder.joinpath("entry_points.txt").write_text("[polyface]\ntoy = toy_faces.plugin\n")

    @property
    def info(self):
        return self.pytester.path / "toy_faces-1.0.dist-info"

    def change(self, file, old, new):
        path = self.folder / file
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {file}"
        path.write_text(text.replace(old, new))

    def run(self, *arguments):
        """Run the kit, and return its reports by outcome: of passed, skipped and failed checks by name."""
        self.pytester.syspathinsert()
        installed_plugins.cache_clear()
        try:
            record = self.pytester.inline_run("-p", "polyface.testing.plugin", "-p", "no:cacheprovider", *arguments)
        finally:
            installed_plugins.cache_clear()
        return [{r.nodeid.rpartition("::test_")[2]: r for r in reports} for reports in record.listoutcomes()]


@pytest.fixture
def toy(require, pytester, pytestconfig, monkeypatch):
    require("polyface_example")
    monkeypatch.setenv("POLYFACE_PLUGINS", "example,toy")
    return Toy(pytester, pytestconfig.rootpath / "plugins/polyface-example/src/polyface_example")


def test_a_right_plugin_passes_every_check(toy):
    passed, skipped, failed = toy.run()
    assert not failed
    assert not skipped
    kit = [name for kind in (PluginConformance, BackendConformance, DetectorConformance) for name in kind.checks()]
    assert set(passed) == set(kit)


COPY = 'return {name: np.array(outputs[name], dtype=np.float32, order="C") for name in self._outputs}'
RUN = "outputs = network(inputs)"
DEVICE = '(request.device, request.precision) != ("cpu", "fp32")'
PRIORS = "y, x = np.mgrid[: height // STRIDE, : width // STRIDE]"

# By thread and shape, and not too many, so that nothing else is wrong with it.
BUFFERS = """import threading
        kept = vars(self.__dict__.setdefault("kept", threading.local()))
        if len(kept) > 30:
            kept.clear()
        for name, array in outputs.items():
            kept.setdefault((name, array.shape), np.empty(array.shape, np.float32))[:] = array
        return {name: kept[name, outputs[name].shape] for name in self._outputs}"""

SWAPPED = """outputs = dict(network(inputs))
        if "landms" in outputs:
            outputs["loc"], outputs["landms"] = outputs["landms"], outputs["loc"]"""

WRITTEN = """outputs = network(inputs)
        inputs["image"] *= 0"""

KEPT_OUTPUTS = """self.__dict__.setdefault("kept", {})[inputs["image"].shape] = outputs
        return {name: np.array(outputs[name], dtype=np.float32, order="C") for name in self._outputs}"""

KEPT_PRIORS = """kept = self.__dict__.setdefault("kept", {})
        if (height, width) in kept:
            return kept[height, width]
        y, x = np.mgrid[: height // STRIDE, : width // STRIDE]
        kept[height, width] = ((np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) * STRIDE).astype(np.float32)"""

BROKEN = {
    "a mean in the wrong channel order": (
        ("plugin.py", "mean=(104, 117, 123)", "mean=(123, 117, 104)"),
        ("raw_heads_are_those_of_the_original", "of 24x16 pixels the network gives other numbers than the original"),
    ),
    "channels in the wrong order": (
        ("plugin.py", 'channels="bgr"', 'channels="rgb"'),
        ("raw_heads_are_those_of_the_original", "check channels, mean and std in Preprocess"),
    ),
    "an anchor count off by one row at odd sizes": (
        ("head.py", PRIORS, "y, x = np.mgrid[: height // 16 * 2, : width // STRIDE]"),
        ("there_is_a_prior_for_each_anchor", "At 8x8 pixels there are 0 priors for scores of the shape (1, 1)"),
    ),
    "output buffers used again": (
        ("backend.py", COPY, BUFFERS),
        ("outputs_are_the_callers_own", "it shares memory with 'loc' of the next run"),
    ),
    "a device that silently becomes the CPU": (
        ("backend.py", DEVICE, 'request.precision != "fp32"'),
        ("a_device_not_found_is_refused", "compile gave a session.\n  - it says that it runs on cpu in fp32"),
    ),
    "a precision that silently becomes another": (
        ("backend.py", DEVICE, 'request.device != "cpu"'),
        ("a_precision_not_found_is_refused", "Asked for 'cpu' in 'bf16', which the probe does not find"),
    ),
    "outputs swapped": (
        ("backend.py", RUN, SWAPPED),
        ("raw_heads_are_the_networks", "The raw heads of 1x1 pixels are others.\n  - loc: up to"),
    ),
    "inputs written to": (
        ("backend.py", RUN, WRITTEN),
        ("inputs_are_not_written_to", "A run changed its input."),
    ),
    "a batch that mixes its images": (
        ("backend.py", RUN, "outputs = {name: array[::-1] for name, array in network(inputs).items()}"),
        ("a_batch_equals_singles", "Picture 0 of a batch gives other numbers than by itself"),
    ),
    "a session that survives close": (
        ("backend.py", "self._network = None", "pass"),
        ("a_closed_session_refuses_to_run", "A closed session still runs."),
    ),
    "torch imported at discovery": (
        ("plugin.py", "import polyface\n", "import polyface\nimport torch\n"),
        ("discovery_imports_nothing_heavy", "Loading toy_faces.plugin imports torch."),
    ),
    "a session's unbounded cache": (
        ("backend.py", COPY, KEPT_OUTPUTS),
        ("memory_stays_bounded", "A session of 'toy-runtime' keeps"),
    ),
    "a head's unbounded cache": (
        ("head.py", PRIORS, KEPT_PRIORS),
        ("head_memory_stays_bounded", "The head keeps"),
    ),
}


@pytest.mark.parametrize(("change", "expected"), BROKEN.values(), ids=BROKEN)
def test_exactly_the_check_that_is_about_it_sees_a_broken_plugin(toy, change, expected):
    check, says = expected
    if "import torch" in change[-1]:  # one that is heavy by its name alone
        toy.pytester.makepyfile(torch="class Tensor: ...\nclass nn:\n    Module = object")
    toy.change(*change)
    _, _, failed = toy.run()
    assert list(failed) == [check]
    assert says in failed[check].longreprtext
    [why] = [text for title, text in failed[check].sections if title == f"Why {check}"]
    assert why in {kind.checks().get(check) for kind in (PluginConformance, BackendConformance, DetectorConformance)}


@pytest.mark.parametrize(
    ("file", "old", "new", "check", "says"),
    [
        ("plugin.py", "def polyface_backends", "def polyface_backend", "hooks_are_spelt_as_hooks", "polyface_backends"),
        ("plugin.py", "toy_faces.head:RedboxHead", "toy_faces.head:Head", "refs_load", "has no attribute 'Head'"),
        ("plugin.py", 'name="toy-redbox"', 'name="example-redbox"', "names_are_its_own", "polyface-example"),
        (
            "plugin.py",
            'install="torch"',
            'install="pytorch"',
            "requirements_are_in_the_metadata",
            "pip install pytorch",
        ),
    ],
)
def test_what_else_is_wrong_with_a_package_is_named(toy, file, old, new, check, says):
    if check == "hooks_are_spelt_as_hooks":
        toy.change(file, "@polyface.hookimpl\ndef polyface_backends", "def polyface_backend")
    else:
        toy.change(file, old, new)
    _, _, failed = toy.run("-k", "TestPlugin")
    assert check in failed
    assert says in failed[check].longreprtext


@pytest.mark.parametrize(
    ("file", "old", "new", "check", "says"),
    [
        ("head.py", "return scores", "return 1 + scores", "scores_are_probabilities", "wanted: from 0 to 1"),
        ("head.py", 'outputs["loc"][image, keep]', 'outputs["loc"][0, keep]', "decode_takes_the_picture_asked_for", ""),
        ("head.py", "landmarks=None", "landmarks=centre", "decode_gives_boxes_and_landmarks", "declares 0 landmarks"),
        ("head.py", "half = np", "outputs['loc'][:] = 0; half = np", "head_writes_to_nothing", "read-only"),
        ("head.py", 'loc = outputs["loc"][image, keep]', 'keep = np.sort(keep); loc = outputs["loc"][image, keep]',
         "decode_keeps_to_keep", "boxes: up to"),
        ("plugin.py", '"p", 4)', '"p", 5)', "outputs_are_the_declared_ones", "declared: (n, p, 5)"),
        ("graph.py", "kernel, bias = parameters(weights)",
         "kernel, bias = parameters(weights)\n    bias += np.random.default_rng().random(6, np.float32)",
         "a_seed_fixes_the_network", "other numbers for the same seed"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_detector_is_named(toy, file, old, new, check, says):
    toy.change(file, old, new)
    _, _, failed = toy.run("-k", f"TestDetector and {check}")
    assert list(failed) == [check]
    assert says in failed[check].longreprtext


@pytest.mark.parametrize(
    ("old", "new", "check", "says"),
    [
        ('("fp32",), detail', '("fp32", "fp16"), detail', "probe_finds_no_more_than_is_claimed", "cpu: fp16"),
        ('device="cpu", precisions', 'device="npu:0", precisions', "probe_finds_the_device_under_test", "npu:0: fp32"),
        ('Execution(device="cpu"', 'Execution(device="cpu:0"', "execution_is_what_was_asked_for", "cpu:0 in fp32"),
        ("dtype=np.float32, order", "dtype=np.float64, order", "outputs_are_the_declared_ones", "but float64"),
        ("outputs = network(inputs)", "outputs = network({'image': inputs['image'][:1]})",
         "any_batch_height_and_width_runs", "outputs of another batch"),
        ("outputs = network(inputs)", "outputs = network(inputs)\n        inputs['image'].flags.writeable or 1 / 0",
         "inputs_are_not_written_to", "needs its input to be writeable"),
        ("outputs = network(inputs)",
         "self.n = getattr(self, 'n', 0) + 1; outputs = {k: v + self.n for k, v in network(inputs).items()}",
         "repeated_runs_are_equal", "A run again gives other numbers"),
        ('BackendUnavailableError("The session is closed."', 'RuntimeError("closed"',
         "a_closed_session_refuses_to_run", "another error than BackendUnavailableError"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_backend_is_named(toy, old, new, check, says):
    toy.change("backend.py", old, new)
    if "RuntimeError" in new:
        toy.change("backend.py", ', fix="create the detector again"', "")
    _, _, failed = toy.run("-k", f"TestBackend and {check}")
    assert list(failed) == [check]
    assert says in failed[check].longreprtext


def expecting(toy, failures):
    toy.pytester.makepyfile(
        test_toy="from polyface.testing import DetectorConformance\n"
        "class TestToy(DetectorConformance):\n"
        "    detector, backend = 'toy-redbox', 'numpy'\n"
        f"    expected_failures = {failures!r}\n"
    )


def test_an_expected_failure_is_an_xfail_with_its_reason(toy):
    expecting(toy, {"raw_heads_are_those_of_the_original": "a toy has no original"})
    passed, skipped, failed = toy.run()
    assert not failed
    assert len(passed) == len(DetectorConformance.checks()) - 1
    assert skipped["raw_heads_are_those_of_the_original"].wasxfail == "a toy has no original"


def test_without_goldens_the_check_fails_and_says_what_to_do(toy):
    expecting(toy, {})
    _, _, failed = toy.run("-k", "original")
    text = failed["raw_heads_are_those_of_the_original"].longreprtext
    assert "no numbers of the original network to compare 'toy-redbox' with" in text
    assert "To fix it: override the fixture goldens, or give the reason in expected_failures" in text


def test_a_check_that_passes_though_it_is_expected_to_fail_is_a_failure(toy):
    expecting(toy, {"head_is_a_head": "it was none once"})
    _, _, failed = toy.run("-k", "head_is_a_head")
    assert failed["head_is_a_head"].longrepr == "[XPASS(strict)] it was none once"


def test_an_expected_failure_of_no_check_is_an_error_that_names_the_nearest():
    with pytest.raises(polyface.ConfigError) as caught:
        type("TestToy", (BackendConformance,), {"expected_failures": {"a_batch_equals_single": "it rounds"}})
    assert "TestToy.expected_failures names 'a_batch_equals_single', which is no check" in caught.value.what
    assert "did you mean 'a_batch_equals_singles'?" in caught.value.what


def test_an_expected_failure_without_a_reason_is_an_error():
    with pytest.raises(polyface.ConfigError, match="gives no reason for 'head_is_a_head'"):
        type("TestToy", (DetectorConformance,), {"expected_failures": {"head_is_a_head": " "}})


def test_a_package_that_is_not_installed_is_named_with_the_nearest(toy):
    toy.pytester.makepyfile(
        test_toy="from polyface.testing import PluginConformance\n"
        "class TestToy(PluginConformance):\n"
        "    distribution = 'toy-face'\n"
    )
    _, _, failed = toy.run("-k", "refs_load")
    assert "No plugin of a distribution 'toy-face' is installed; did you mean 'toy-faces'?" in str(
        failed["refs_load"].longrepr
    )


@pytest.mark.parametrize("kind", [PluginConformance, BackendConformance, DetectorConformance])
def test_every_check_says_in_one_sentence_why_it_is_made(kind):
    assert len(kind.checks()) >= 7
    for name, why in kind.checks().items():
        assert why.endswith("."), name
        assert why.count(". ") == 0, name


def test_the_kit_is_named_without_importing_pytest():
    code = "import polyface.testing, sys; print('BackendConformance' in dir(polyface.testing), 'pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"
