"""The kit on a right family, broken in one line after the other."""

from __future__ import annotations

import pytest

from polyface.testing import DetectorConformance, FamilyConformance
from run_kit import run_kit

pytest_plugins = ["pytester"]

PLUGIN = """
import polyface
from polyface.plugins.records import FamilySpec, OptionSpec, Ref


@polyface.hookimpl
def polyface_detectors():
    yield FamilySpec(
        name="toy-pixels",
        summary="Pixels",
        parameters=(
            OptionSpec(name="side", type="int", help="Of a box.", default=4),
            OptionSpec(name="hint", type="str", help="What there is to know."),
        ),
        describe=Ref("toy.code:describe"),
    )
"""

CODE = """
import numpy as np
from polyface.plugins.protocols import Candidates
from polyface.plugins.records import DetectorSpec, Preprocess, Ref


def describe(interface, *, side, hint=""):
    fields = interface.fields()
    widths = [output.dims[-1] for output in interface.outputs]
    if widths != [4, 4, 2]:
        raise interface.misfit("outputs (n, p, 4), (n, p, 4) and (n, p, 2)")
    return DetectorSpec(
        **fields,
        summary="Pixels",
        preprocess=Preprocess(channels="rgb", mean=(128, 128, 128), std=(64, 64, 64)),
        head=Ref("toy.code:Head"),
        head_options={"logits": interface.outputs[-1].name, "side": side},
    )


class Head:
    def __init__(self, *, logits, side):
        self.logits, self.side = logits, side

    def priors(self, height, width):
        y, x = np.mgrid[:height, :width]
        return np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32)

    def scores(self, outputs):
        logits = outputs[self.logits]
        return 0.5 + 0.5 * np.tanh(logits[..., 1] - logits[..., 0])

    def decode(self, outputs, priors, index, keep):
        return Candidates(boxes=np.concatenate([priors[keep], priors[keep] + self.side], axis=1), landmarks=None)
"""

TESTS = """
from pathlib import Path

import polyface.testing.conformance
import pytest
from polyface.testing import FamilyConformance


class TestPixels(FamilyConformance):
    family = "toy-pixels"
    backend = "onnxruntime"

    @pytest.fixture(scope="class")
    @classmethod
    def file(cls):
        return Path(polyface.testing.conformance.__file__).with_name("reference.onnx")
"""


@pytest.fixture
def toy(require, pytester, monkeypatch):
    """Run the kit on the family with one line of its code changed, and return the reports by the checks' names."""
    require("onnxruntime", "polyface_onnxruntime")
    monkeypatch.setenv("POLYFACE_PLUGINS", "onnxruntime,toy")

    def run(old="", new="", tests=TESTS):
        assert old in CODE
        pytester.mkpydir("toy")
        pytester.path.joinpath("toy/code.py").write_text(CODE.replace(old, new, 1))
        pytester.path.joinpath("toy/plugin.py").write_text(PLUGIN)
        info = pytester.mkdir("toy_pixels-1.dist-info")
        info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: toy-pixels\nVersion: 1\n")
        info.joinpath("entry_points.txt").write_text("[polyface]\ntoy = toy.plugin\n")
        pytester.makepyfile(test_toy=tests)
        outcomes = run_kit(pytester, "test_toy.py")
        return [{report.nodeid.rpartition("::test_")[2]: report for report in reports} for reports in outcomes]

    return run


def test_a_right_family_passes_every_check(toy):
    passed, skipped, failed = toy()
    assert not skipped
    assert not failed
    assert [*passed] == [*FamilyConformance.checks()]


BROKEN = {
    "an option that its code does not know": (
        ("side, hint", "side, hunt"),
        ("describe_takes_every_option", "got an unexpected keyword argument 'hint'"),
    ),
    "outputs that it does not look for": (
        ("widths != [4, 4, 2]", "widths[-1:] != [2]"),
        ("a_file_that_lacks_an_output_is_refused", "takes a file without the output loc ("),
    ),
    "an error of Python for other files": (
        ("output.dims[-1] for", "output.dims[2] for"),
        ("any_file_is_taken_or_refused", "The family 'toy-pixels' failed on reference.onnx."),
    ),
}


@pytest.mark.parametrize(("change", "expected"), BROKEN.values(), ids=BROKEN)
def test_exactly_the_check_that_is_about_it_sees_a_broken_family(toy, change, expected):
    check, says = expected
    _, _, failed = toy(*change)
    assert list(failed) == [check]
    assert says in failed[check].longreprtext


def test_the_head_of_a_family_is_checked_as_that_of_a_detector(toy):
    _, _, failed = toy("0.5 + 0.5", "1 + 1")
    assert "wanted: from 0 to 1" in failed["scores_are_probabilities"].longreprtext
    assert "scores_are_probabilities" in DetectorConformance.checks()


def test_without_a_file_the_author_is_told_to_name_one(toy):
    _, _, failed = toy(tests=TESTS.partition("    @pytest.fixture")[0])
    text = failed["head_is_a_head"].longreprtext
    assert "There is no file of the family 'toy-pixels' to try." in text
    assert "To fix it: override the fixture file" in text


def test_every_check_says_in_one_sentence_why_it_is_made():
    for name, why in FamilyConformance.checks().items():
        assert why.endswith("."), name
        assert why.count(". ") == 0, name
