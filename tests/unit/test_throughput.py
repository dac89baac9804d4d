"""``benchmarks/throughput.py`` with a detector and a clock that are made up, and the weights that benchmarks take."""

from __future__ import annotations

from types import SimpleNamespace

import attrs
import pytest

from polyface.errors import OutOfMemoryError
from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import DetectorSpec
from polyface.storage.files import sha256_of


@pytest.fixture(scope="module")
def script(benchmark_script):
    return benchmark_script("throughput")


@pytest.fixture
def make(script, monkeypatch):
    """Return a detector that takes a quarter of a second for a batch, by a clock that nothing else moves."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(script, "time", SimpleNamespace(perf_counter=lambda: clock.now))

    class Detector:
        def __init__(self, error=None):
            self.error = error

        def stream(self, items, batch_size):
            for number, _ in enumerate(items, 1):
                clock.now += 0.25 if number % batch_size == 0 else 0
                yield SimpleNamespace(error=self.error, faces="abc")

    return Detector


@pytest.mark.parametrize(("batch", "rate"), [(1, 4.0), (8, 32.0)])
def test_a_turn_gives_images_until_its_time_is_up(script, make, batch, rate):
    assert script.take_turn(make(), ["image"], batch, seconds=0.9) == (rate, 3)


def test_the_first_turn_is_not_counted_and_what_fails_says_why_and_takes_no_more(script, make):
    detectors = {("a", "float32"): make(), ("b", "float32"): make(OutOfMemoryError("too large"))}
    options = SimpleNamespace(turns=2, seconds=0.9)
    assert script.measure(detectors, ["image"], 1, options) == {
        ("a", "float32"): {"rates": [4.0, 4.0], "faces": 3},
        ("b", "float32"): {"why": "too large"},
    }


def test_a_row_is_related_turn_by_turn_to_the_first_kind_of_input(script):
    same = {"detector": "d", "size": "8x8", "batch": 1, "backend": "b", "faces": 0}
    first, other = {**same, "input": "float32", "rates": [1, 2, 4]}, {**same, "input": "pixels", "rates": [3, 4, 8]}
    assert script.line(other, first) == "| d | 8x8 | 1 | b | pixels | 4.0 | 2.00 | 0 |"
    assert script.line(other, {"why": "refused"}) == "| d | 8x8 | 1 | b | pixels | 4.0 |  | 0 |"
    assert script.line({**same, "input": "pixels", "why": "too\nlarge"}, first).endswith("| not run: too large | | |")


class TestWeights:
    @pytest.fixture
    def weights(self, benchmark_script):
        return benchmark_script("weights")

    @pytest.fixture
    def spec(self, require):
        require("polyface_yunet")
        return installed_plugins().get(DetectorSpec, "yunet-n")

    def test_of_a_folder_the_checkpoint_goes_before_the_graph_by_its_sha256(self, weights, spec, tmp_path):
        files = []
        for name in ("graph.onnx", "checkpoint.pth"):
            (tmp_path / name).write_text(name)
            files.append(attrs.evolve(spec.weights[0], name=name[:5], filename=name, sha256=sha256_of(tmp_path / name)))
        spec = SimpleNamespace(weights=files)
        (tmp_path / "checkpoint.pth").rename(tmp_path / "any name")
        assert weights.find_weights(spec, tmp_path) == str(tmp_path / "any name")
        (tmp_path / "any name").unlink()
        assert weights.find_weights(spec, tmp_path) == str(tmp_path / "graph.onnx")
        (tmp_path / "graph.onnx").unlink()
        assert weights.find_weights(spec, tmp_path) is None

    def test_seeded_weights_are_the_same_each_time(self, weights, spec, tmp_path, require):
        require("torch", "safetensors", "polyface_torch")
        options = SimpleNamespace(seeded=True, weights=None)
        (tmp_path / "again").mkdir()
        first, again = (weights.choose_weights(spec, options, folder) for folder in (tmp_path, tmp_path / "again"))
        assert first == str(tmp_path / "yunet-n.safetensors")
        assert sha256_of(tmp_path / "yunet-n.safetensors") == sha256_of(tmp_path / "again/yunet-n.safetensors")
        assert again != first

    def test_a_detector_that_pytorch_does_not_build_has_none(self, weights, tmp_path):
        with pytest.raises(SystemExit, match="PyTorch does not build yunet-s"):
            weights.write_seeded(SimpleNamespace(name="yunet-s", graphs=()), tmp_path)

    @pytest.mark.usefixtures("spec")
    def test_all_stands_for_what_pytorch_runs_and_a_wrong_name_is_refused(self, weights):
        names = [one.name for one in weights.select_detectors(["all"])]
        assert "yunet-n" in names
        assert not {"yunet-s", "example-redbox"} & {*names}
        with pytest.raises(SystemExit, match="did you mean 'yunet-"):
            weights.select_detectors(["yunet-m"])
