"""``benchmarks/fuzz.py``: damaged files of every format are read or refused, and what else comes of one is found."""

from __future__ import annotations

import subprocess
import sys
import types

import numpy as np
import pytest

from polyface.errors import ImageError
from polyface.machine.formats import ENDINGS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it counts memory as Linux does")


@pytest.fixture(scope="module")
def script(pytestconfig):
    return pytestconfig.rootpath / "benchmarks/fuzz.py"


@pytest.fixture
def fuzz(benchmark_script):
    return benchmark_script("fuzz")


def test_nothing_but_an_image_or_a_refusal_comes_of_a_damaged_file(script):
    done = subprocess.run(
        [sys.executable, script, "--count", "6000", "--seed", "1", "--workers", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("6000 files, seed 1: 0 faults\n")


def test_every_format_is_among_them(fuzz):
    from PIL import Image

    assert set(fuzz.Fuzzer(0).samples) - {"HEIF"} == {name for name in ENDINGS if name in Image.SAVE}


def test_a_number_and_a_seed_make_the_same_file_again(fuzz):
    one, other = fuzz.Fuzzer(0), fuzz.Fuzzer(0)
    assert [one.file(number) for number in range(30)] == [other.file(number) for number in range(30)]
    assert one.file(3) != fuzz.Fuzzer(1).file(3)


@pytest.mark.parametrize(
    ("come", "what"),
    [
        (lambda: np.zeros((1, 1, 3), np.uint8), "image"),
        (lambda: raised(ImageError("refused")), "refused"),
        (lambda: raised(KeyError("a decoder's")), "exception"),
        (lambda: np.ones(60_000_000, np.uint8), "memory"),
    ],
)
def test_what_comes_of_a_file_is_told_apart(fuzz, monkeypatch, come, what):
    monkeypatch.setattr(fuzz, "MOST_MEMORY", 40)
    outcome = fuzz.Fuzzer(0, ["PNG"]).read(0, lambda _: come())
    assert (outcome.what, outcome.fault) == (what, what not in ("image", "refused"))


@pytest.mark.parametrize(("seconds", "what"), [(2.0, "image"), (2.1, "slow")])
def test_a_file_that_takes_more_than_two_seconds_of_the_processor_is_slow(fuzz, monkeypatch, seconds, what):
    clock = [0.0]
    monkeypatch.setattr(fuzz, "time", types.SimpleNamespace(process_time=lambda: clock[0]))

    def come(_):
        clock[0] += seconds
        return np.zeros((1, 1, 3), np.uint8)

    outcome = fuzz.Fuzzer(0, ["PNG"]).read(0, come)
    assert (outcome.what, outcome.fault) == (what, what == "slow")


def raised(error):
    raise error


@pytest.mark.parametrize(
    ("death", "what"), [("os._exit(3)", "crash"), ("os.kill(os.getpid(), 9)", "crash"), ("while True: pass", "slow")]
)
def test_a_file_that_ends_or_holds_the_process_costs_no_other(script, death, what):
    code = f"""
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("fuzz", {str(script)!r})
fuzz = importlib.util.module_from_spec(spec)
sys.modules["fuzz"] = fuzz
spec.loader.exec_module(fuzz)
fuzz.PATIENCE = 0.3
class Fuzzer(fuzz.Fuzzer):
    def read(self, number):
        if number == 4:
            {death}
        return super().read(number)
for outcome in fuzz.run(Fuzzer(0, ["PNG"]), range(8), 2):
    print(outcome.number, outcome.what if outcome.fault else "fine")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.splitlines()) == [f"{number} {what if number == 4 else 'fine'}" for number in range(8)]
