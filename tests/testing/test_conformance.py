"""The conformance kit on a right plugin, and on the same plugin with one line broken: exactly one check must see it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

import polyface.testing
from polyface.testing import BackendConformance, DetectorConformance, PluginConformance
from polyface.testing.conformance.networks import differences
from run_kit import run_kit

pytest_plugins = ["pytester"]

NAMES = {
    "polyface_example": "toy_faces",
    '"example-redbox"': '"toy-redbox"',
    'name="numpy"': 'name="toy-runtime"',
    '"example-counts"': '"toy-counts"',
    'name="new"': 'name="toy-new"',
}

# Unlike the example's own, this mean tells the orders of the channels apart.
PREPROCESS = 'channels="rgb", mean=(127.5, 127.5, 127.5)', 'channels="bgr", mean=(104, 117, 123)'

METADATA = """Metadata-Version: 2.1
Name: toy-faces
Version: 1.0
Requires-Dist: torch>=2.6; extra == 'torch'
Provides-Extra: torch
"""

TESTS = """
import numpy as np
import pytest
from polyface.testing import BackendConformance, DetectorConformance, Golden, PluginConformance


class TestPlugin(PluginConformance):
    distribution = "toy-faces"


class TestBackend(BackendConformance):
    backend = "toy-runtime"
    child_seconds = 5


class TestDetector(DetectorConformance):
    detector = "toy-redbox"
    backend = "numpy"

    @pytest.fixture(scope="class")
    @classmethod
    def goldens(cls):
        image = np.random.default_rng(5).integers(0, 256, (16, 24, 3), dtype=np.uint8)
        image[:8, 8:16] = 0, 0, 255  # a face
        faces = []
        for row, column in [(0, 0), (0, 8), (0, 16), (8, 0), (8, 8), (8, 16)]:
            sums = [0.0, 0.0, 0.0]
            for y in range(row, row + 8):
                for x in range(column, column + 8):
                    for channel in range(3):
                        sums[channel] += image[y, x, channel]
            red, green, blue = (total / 64 for total in sums)
            excess = 0.5 * (blue - 104) - 0.25 * (green - 117) - 0.25 * (red - 123)
            faces.append(-4 + 8 * excess / 127.5)
        logits = np.array([[-face, face] for face in faces], np.float32)
        scores = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
        return [Golden(image=image, heads={"logits": logits}, scores=scores)]
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
        self.info = pytester.mkdir("toy_faces-1.0.dist-info")
        self.info.joinpath("METADATA").write_text(METADATA)
        self.info.joinpath("entry_points.txt").write_text("[polyface]\ntoy = toy_faces.plugin\n")
        pytester.makepyfile(test_toy=TESTS)

    def change(self, file, old, new):
        path = self.folder / file
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {file}"
        path.write_text(text.replace(old, new))

    def run(self, *arguments):
        """Run the kit, and return its reports by outcome: of passed, skipped and failed checks by name."""
        outcomes = run_kit(self.pytester, *arguments)
        return [{r.nodeid.rpartition("::test_")[2]: r for r in reports} for reports in outcomes]


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


def test_a_plugin_of_a_fixed_batch_height_and_width_passes_as_well(toy, pytester):
    toy.change("plugin.py", '("n", 3, "h", "w")', "(2, 3, 16, 24)")
    for last in ("4", "2"):
        toy.change("plugin.py", f'("n", "p", {last})', f'(2, "p", {last})')
    shape = "n, channels, height, width = image.shape\n"
    toy.change("graph.py", shape, shape + "        assert image.shape == (2, 3, 16, 24)\n")
    pytester.makepyfile(test_toy=TESTS.replace('    backend = "toy', '    detector = "toy-redbox"\n    backend = "toy'))
    passed, _, failed = toy.run()
    assert not failed
    assert {*BackendConformance.checks(), *DetectorConformance.checks()} <= passed.keys()


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

# A runtime's own memory, as Python's sees none of it.
KEPT_NATIVE = """import mmap
        kept = self.__dict__.setdefault("kept", {})
        if inputs["image"].shape not in kept:
            kept[inputs["image"].shape] = mmap.mmap(-1, 2**20)
            kept[inputs["image"].shape].write(bytes(2**20))
        return {name: np.array(outputs[name], dtype=np.float32, order="C") for name in self._outputs}"""

KEPT_PRIORS = """kept = self.__dict__.setdefault("kept", {})
        if (height, width) in kept:
            return kept[height, width]
        y, x = np.mgrid[: height // STRIDE, : width // STRIDE]
        kept[height, width] = ((np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) * STRIDE).astype(np.float32)"""

IN_A_CHILD = """import os
        if os.getpid() != self.__dict__.setdefault("process", os.getpid()):
            {}
        outputs = network(inputs)"""

WAITING = IN_A_CHILD.format('__import__("threading").Event().wait()')
GARBLED = IN_A_CHILD.format("inputs = {name: -array for name, array in inputs.items()}")
SILENT = IN_A_CHILD.format('raise BackendUnavailableError("no")')
CRASHING = IN_A_CHILD.format("os.abort()")

CLOSE_WAITING = """self._held.close()
        import os, threading
        if os.getpid() != PROCESS:
            threading.Event().wait()


PROCESS = __import__("os").getpid()


"""

CHILD_CHECK = "a_child_of_a_fork_runs_or_is_refused"

BROKEN = {
    "a session that waits for ever in a child of a fork": (
        ("backend.py", RUN, WAITING),
        (CHILD_CHECK, "In a child of a fork, a session that ran before waits for ever."),
    ),
    "a session that crashes in a child of a fork": (
        ("backend.py", RUN, CRASHING),
        (CHILD_CHECK, "In a child of a fork, a session that ran before ends with status -6."),
    ),
    "a session that gives other numbers in a child of a fork": (
        ("backend.py", RUN, GARBLED),
        (CHILD_CHECK, "neither runs as in the parent nor is refused with its reason.\n  - loc: up to"),
    ),
    "a session that is refused in a child of a fork without a reason": (
        ("backend.py", RUN, SILENT),
        (CHILD_CHECK, "it does not say why, or what to do: no"),
    ),
    "a session whose close waits for ever in a child of a fork": (
        ("backend.py", "self._held.close()\n\n\n", CLOSE_WAITING),
        (CHILD_CHECK, "In a child of a fork, a session that ran before waits for ever."),
    ),
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
        ("a_batch_equals_singles", "Image 0 of a batch gives other numbers than by itself"),
    ),
    "a session that survives close": (
        ("backend.py", "self._held.close()", "pass"),
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
    "a session's unbounded cache outside Python": (
        ("backend.py", COPY, KEPT_NATIVE),
        ("memory_stays_bounded", " KiB outside Python for each new shape."),
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


PACKAGES = [
    (
        ("@polyface.hookimpl\ndef polyface_backends", "def polyface_backend"),
        ("hooks_are_spelt_as_hooks", "is no hook of polyface; did you mean 'polyface_backends'"),
    ),
    (
        ("    yield DetectorSpec(", "    raise RuntimeError('no')\n    yield DetectorSpec("),
        ("every_entry_point_loads_and_provides_something", "RuntimeError: no (plugin.py, line"),
    ),
    (
        ("import polyface\n", "import sys, polyface\nif 'pytest' not in sys.modules: raise RuntimeError('no')\n"),
        (
            "discovery_imports_nothing_heavy",
            "does not load in a process of its own.\n  - RuntimeError: no",
        ),
    ),
    (
        ("yield BackendSpec(", "yield type('Mine', (BackendSpec,), {'__hash__': None})("),
        ("records_are_plain", "The record 'toy-runtime' is not plain.\n  - TypeError: unhashable"),
    ),
    (
        ("yield BackendSpec(", "yield type('Mine', (BackendSpec,), {'__reduce__': lambda self: (str, ('other',))})("),
        ("records_are_plain", "The record 'toy-runtime' is another after pickle."),
    ),
    (('name="toy-redbox"', 'name="example-redbox"'), ("names_are_its_own", "is also provided by polyface-example")),
    (("toy_faces.head:RedboxHead", "toy_faces.head:Head"), ("refs_load", "has no attribute 'Head'")),
    (("toy_faces.backend:NumpyBackend", "toy_faces.head:RedboxHead"), ("refs_load", "a RedboxHead, and no Backend.")),
    (("toy_faces.new:command", "toy_faces.head:RedboxHead"), ("refs_load", "a type, and no Command.")),
    (('name="toy-new"', 'name="detect"'), ("names_are_its_own", "The command 'detect' is polyface's own.")),
    (('install="torch"', 'install="pytorch"'), ("requirements_are_in_the_metadata", "pip install pytorch")),
    (('install="torch"', 'install="toy_faces[gpu]"'), ("requirements_are_in_the_metadata", "install toy_faces[gpu]")),
]


@pytest.mark.parametrize(("change", "expected"), PACKAGES)
def test_what_is_wrong_with_a_package_is_named(toy, change, expected):
    toy.change("plugin.py", *change)
    _, _, failed = toy.run("-k", f"TestPlugin and {expected[0]}")
    assert list(failed) == [expected[0]]
    assert expected[1] in failed[expected[0]].longreprtext


def test_an_entry_point_without_hooks_is_named(toy):
    toy.info.joinpath("entry_points.txt").write_text("[polyface]\ntoy = toy_faces\n")
    _, _, failed = toy.run("-k", "TestPlugin and every_entry_point")
    [report] = failed.values()
    assert "The plugin 'toy' (toy_faces) provides nothing: no hook of it yields a record." in report.longreprtext


LOC = 'loc = outputs["loc"][index, keep]'
CHILD = "__import__('multiprocessing').parent_process()"

DETECTORS = [
    (("head.py", "def decode(", "def decoded("), ("head_is_a_head", "which has no priors, scores and decode")),
    (("plugin.py", "graph:build", "graph:built"), ("graphs_load", "The graph of kind 'numpy' does not load.")),
    (("plugin.py", "graph:build", "graph:STRIDE"), ("graphs_load", "is no builder, but of type int")),
    (
        (
            "graph.py",
            "parameters(weights)\n",
            "parameters(weights)\n    bias += np.random.default_rng().random(6, 'f4')\n",
        ),
        ("a_seed_fixes_the_network", "other numbers for the same seed"),
    ),
    (("graph.py", "-8 * mean", "-8e4 * mean"), ("a_seed_fixes_the_network", "they must stay within 1000")),
    (("plugin.py", '"p", 4)', '"p", 5)'), ("outputs_are_the_declared_ones", "declared: (n, p, 5), where n = 2")),
    (("head.py", "return scores", "return 1 + scores"), ("scores_are_probabilities", "wanted: from 0 to 1")),
    (("head.py", "return scores", "return scores.astype(float)"), ("scores_are_probabilities", "float64 (2, 48)")),
    (("head.py", "landmarks=None", "landmarks=centre"), ("decode_gives_boxes_and_landmarks", "declares 0 landmarks")),
    (
        ("plugin.py", "min_side=8,", "min_side=8, landmarks=('left', 'right'),"),
        ("decode_gives_boxes_and_landmarks", "decode gives none; the record declares 2 landmarks"),
    ),
    (
        ("head.py", "axis=1), landmarks", "axis=1).astype(float), landmarks"),
        ("decode_gives_boxes_and_landmarks", "the boxes are float64 (7, 4); wanted: float32 (7, 4)"),
    ),
    (("head.py", "half = ", "half = np.nan * "), ("decode_gives_boxes_and_landmarks", "The boxes are not finite.")),
    (("head.py", LOC, f"keep = np.sort(keep); {LOC}"), ("decode_keeps_to_keep", "boxes: up to")),
    (
        ("head.py", LOC, 'loc = outputs["loc"][0, keep]'),
        ("decode_takes_the_image_asked_for", "Image 1 of a batch decodes otherwise"),
    ),
    (
        ("head.py", 'logits = outputs["logits"]', 'logits = outputs["logits"][::-1]'),
        ("decode_takes_the_image_asked_for", "Image 0 of a batch scores otherwise than by itself"),
    ),
    (("head.py", LOC, f"outputs['loc'][:] = 0; {LOC}"), ("head_writes_to_nothing", "read-only")),
    (
        ("head.py", "half = ", "self.runs = getattr(self, 'runs', 0) + 1; half = self.runs * "),
        ("head_keeps_no_state", "A head decodes otherwise after priors of another size."),
    ),
    (
        ("plugin.py", "import polyface\n", f"import polyface\nif {CHILD}: raise RuntimeError\n"),
        (
            "a_spawned_process_rebuilds_it",
            "A spawned process cannot rebuild 'toy-redbox'.\n  - There is no detector named",
        ),
    ),
    (
        ("head.py", "return scores", f"return scores if {CHILD} is None else 0 * scores + 1"),
        ("a_spawned_process_rebuilds_it", "'toy-redbox' finds other faces in a spawned process: 64, not 0."),
    ),
]


@pytest.mark.parametrize("right", [False, True])
def test_landmarks_that_do_not_change_places_as_declared_are_named(toy, right):
    pairs = "()" if not right else "(('west', 'east'),)"
    toy.change("plugin.py", "min_side=8,", f"min_side=8, landmarks=('west', 'east'), mirrored={pairs},")
    toy.change("head.py", "landmarks=None", "landmarks=centre[:, None] + half[:, None] * np.float32([[-1, 0], [1, 0]])")
    _, _, failed = toy.run("-k", "TestDetector and landmarks")
    assert list(failed) == ([] if right else ["landmarks_change_places_in_a_mirror"])
    if not right:
        [report] = failed.values()
        assert "In a mirror 'east' takes the place of 'west', not 'west'." in report.longreprtext


@pytest.mark.parametrize(("change", "expected"), DETECTORS)
def test_what_is_wrong_with_a_detector_is_named(toy, change, expected):
    toy.change(*change)
    _, _, failed = toy.run("-k", f"TestDetector and {expected[0]}")
    assert list(failed) == [expected[0]]
    assert expected[1] in failed[expected[0]].longreprtext


@pytest.mark.parametrize(("sha256", "size", "says"), [("0" * 64, 5, "is not the file"), (None, 5, "; declared: 5.")])
def test_a_packaged_file_that_is_not_the_one_of_its_record_is_named(toy, sha256, size, says):
    file = toy.folder / "weights.bin"
    file.write_bytes(b"numbers")
    sha256 = sha256 or hashlib.sha256(b"numbers").hexdigest()
    weights = f"name='w', filename='w.bin', sha256='{sha256}', size={size}, license='MIT'"
    ref = "ref=polyface.plugins.records.FileRef('toy_faces:weights.bin')"
    toy.change(
        "plugin.py", "min_side=8,", f"min_side=8, weights=[polyface.plugins.records.WeightsFile({weights}, {ref})],"
    )
    _, _, failed = toy.run("-k", "TestDetector and packaged_files_are_whole")
    assert says in failed["packaged_files_are_whole"].longreprtext


# A session that normalises by itself, as the kit's own network wants it.
PIXELS = """    def run_pixels(self, pixels):
        image = (pixels.astype(np.float32) - 128) / 64
        return self.run({"image": np.ascontiguousarray(image.transpose(0, 3, 1, 2))})

"""

BACKENDS = [
    (("def probe(", "def prove("), ("factory_gives_a_backend", "a NumpyBackend, which has no probe and compile")),
    (('device="cpu", precisions', 'device="npu:0", precisions'), ("probe_finds_the_device_under_test", "npu:0: fp32")),
    (('("fp32",), detail', '("fp32", "fp16"), detail'), ("probe_finds_no_more_than_is_claimed", "cpu: fp16")),
    ((DEVICE, "True"), ("every_device_found_compiles_and_runs", "finds 'cpu' with 'fp32', which does not work")),
    (('Execution(device="cpu"', 'Execution(device="cpu:0"'), ("execution_is_what_was_asked_for", "cpu:0 in fp32")),
    (('Execution(device="cpu"', 'Execution(threads=2, device="cpu"'), ("no_more_threads_than_asked_for", "runs on 2.")),
    (
        (DEVICE, '1 / (request.device == "cpu") > 1'),
        ("a_device_not_found_is_refused", "compile raised ZeroDivisionError"),
    ),
    (("dtype=np.float32, order", "dtype=np.float64, order"), ("outputs_are_the_declared_ones", "but float64")),
    (
        ("{name: np.array", "{name + '_0': np.array"),
        ("outputs_are_the_declared_ones", "The outputs are loc_0, landms_0"),
    ),
    (("{name: np.array", "{name + '_0': np.array"), ("raw_heads_are_the_networks", "loc: nothing in the place of")),
    (
        (RUN, f"1 / (len(inputs['image']) < 3); {RUN}"),
        ("any_batch_height_and_width_runs", "A batch of 3 of 1x1 pixels"),
    ),
    (
        (RUN, "outputs = network({'image': inputs['image'][:1]})"),
        ("any_batch_height_and_width_runs", "gives outputs of another batch"),
    ),
    (
        (RUN, "self.n = getattr(self, 'n', 0) + 1; outputs = {k: v + self.n for k, v in network(inputs).items()}"),
        ("repeated_runs_are_equal", "A run again gives other numbers"),
    ),
    (
        (RUN, f"1 / inputs['image'].flags.writeable; {RUN}"),
        ("inputs_are_not_written_to", "A run needs its input to be writeable"),
    ),
    (
        ("    def close(self)", f"{PIXELS.replace('(pixels', '(pixels[..., ::-1]')}    def close(self)"),
        ("pixels_give_what_floats_give", "Pixels of 1x1 give other numbers than floats.\n  - loc: up to"),
    ),
    (
        (
            "network = self._held.get()",
            "try: network = self._held.get()\n        except Exception: raise RuntimeError from None",
        ),
        ("a_closed_session_refuses_to_run", "another error than ClosedError"),
    ),
]


@pytest.mark.parametrize(("change", "expected"), BACKENDS)
def test_what_is_wrong_with_a_backend_is_named(toy, change, expected):
    toy.change("backend.py", *change)
    _, _, failed = toy.run("-k", f"TestBackend and {expected[0]}")
    assert list(failed) == [expected[0]]
    assert expected[1] in failed[expected[0]].longreprtext


def test_a_session_that_takes_pixels_is_right_where_they_give_what_floats_give(toy):
    toy.change("backend.py", "    def close(self)", f"{PIXELS}    def close(self)")
    passed, _, failed = toy.run("-k", "TestBackend and pixels_give_what_floats_give")
    assert (list(passed), list(failed)) == (["pixels_give_what_floats_give"], [])


def test_a_backend_of_another_kind_must_name_a_detector(toy):
    toy.change("plugin.py", 'accepts=("numpy",)', 'accepts=("other",)')
    _, _, failed = toy.run("-k", "TestBackend and repeated_runs_are_equal")
    text = failed["repeated_runs_are_equal"].longreprtext
    assert "The kit's own network cannot run on 'toy-runtime'." in text
    assert 'To fix it: name an installed detector that can: detector = "..."' in text


def test_a_detector_that_says_no_numbers_is_no_reference(toy):
    toy.pytester.makepyfile(
        test_toy="from polyface.testing import BackendConformance\n"
        "class TestToy(BackendConformance):\n"
        "    backend, detector = 'toy-runtime', 'toy-redbox'\n"
    )
    for file in ("plugin.py", "backend.py"):
        path = toy.folder / file
        path.write_text(path.read_text().replace('kind="numpy"', 'kind="array"').replace('("numpy",)', '("array",)'))
    passed, _, failed = toy.run()
    assert list(failed) == ["raw_heads_are_the_networks"]
    assert len(passed) == len(BackendConformance.checks()) - 1
    assert "Nothing says which numbers of 'toy-redbox' are right." in failed["raw_heads_are_the_networks"].longreprtext


def test_a_network_that_nothing_here_builds_is_skipped_with_the_reason(toy):
    toy.change("plugin.py", 'GraphSource(kind="numpy"', 'GraphSource(kind="array"')
    _, skipped, _ = toy.run("-k", "TestDetector and a_seed_fixes_the_network")
    assert "no backend that is installed runs what a builder" in skipped["a_seed_fixes_the_network"].longreprtext


def expecting(toy, failures, backend="numpy"):
    toy.pytester.makepyfile(
        test_toy="from polyface.testing import DetectorConformance\n"
        "class TestToy(DetectorConformance):\n"
        f"    detector, backend = 'toy-redbox', {backend!r}\n"
        f"    expected_failures = {failures!r}\n"
    )


def test_an_expected_failure_is_an_xfail_with_its_reason(toy):
    expecting(toy, {"raw_heads_are_those_of_the_original": "a toy has no original"})
    passed, skipped, failed = toy.run()
    assert not failed
    assert len(passed) == len(DetectorConformance.checks()) - 1
    assert skipped["raw_heads_are_those_of_the_original"].wasxfail == "a toy has no original"


def test_a_mistake_in_the_test_is_no_expected_failure(toy):
    expecting(toy, {"outputs_are_the_declared_ones": "they are not"}, backend="nothing-there")
    passed, skipped, failed = toy.run("-k", "outputs_are_the_declared_ones")
    assert not passed
    assert not skipped
    assert "nothing-there" in failed["outputs_are_the_declared_ones"].longreprtext


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
    assert "No plugin of a distribution 'toy-face' is installed; did you mean 'toy-faces'" in str(
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


def test_raw_heads_are_measured_by_their_magnitude_and_all_else_as_it_is():
    wanted = {"loc": np.float32([0, 64])}
    got = {"loc": np.float32([0.32, 64])}
    assert differences(got, wanted, 0.006, heads=True) == []
    assert differences(got, wanted, 0.004, heads=True) == ["loc: up to 0.005 apart; allowed: 0.004"]
    assert differences(got, wanted, 0.006) == ["loc: up to 0.32 apart; allowed: 0.006"]
