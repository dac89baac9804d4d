"""Checkpoints, good and bad: what a file holds is taken whole, or refused by name."""

from __future__ import annotations

import os
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="checkpoints need torch: pip install polyface-torch")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="checkpoints need safetensors")

from polyface.errors import PolyfaceError, WeightsError, WeightsMismatchError, WeightsNotFoundError  # noqa: E402
from polyface_torch.checkpoint import load_checkpoint, load_or_draw  # noqa: E402


def make():
    return torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3))


def draw(module, seed):
    for tensor in module.state_dict().values():
        tensor.fill_(seed)


@pytest.fixture
def small():
    """A module of two layers: loading is the same for any."""
    return make().eval()


@pytest.fixture
def state():
    """A checkpoint for ``small``."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "0.weight": (3, 2, 1, 1),
        "0.bias": 3,
        "1.weight": 3,
        "1.bias": 3,
        "1.running_mean": 3,
        "1.running_var": 3,
    }
    tensors = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    return {**tensors, "1.num_batches_tracked": torch.tensor(7)}


def same(module, state):
    return all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"epoch": 3, "state_dict": s}], ids=["plain", "wrapped"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".PTH"])
def test_a_checkpoint_loads_in_each_of_its_wrappings(small, state, tmp_path, wrap, prefix, suffix):
    torch.save(wrap({prefix + key: value for key, value in state.items()}), tmp_path / f"checkpoint{suffix}")
    load_checkpoint(small, tmp_path / f"checkpoint{suffix}")
    assert same(small, state)


def test_a_safetensors_file_loads_as_well(small, state, tmp_path):
    safetensors_torch.save_file(state, tmp_path / "checkpoint.safetensors")
    load_checkpoint(small, tmp_path / "checkpoint.safetensors")
    assert same(small, state)


def test_a_half_precision_checkpoint_becomes_single_precision(small, state, tmp_path):
    wanted = {key: value.dtype for key, value in small.state_dict().items()}
    torch.save({key: value.half() for key, value in state.items()}, tmp_path / "checkpoint.pth")
    load_checkpoint(small, tmp_path / "checkpoint.pth")
    assert {key: value.dtype for key, value in small.state_dict().items()} == wanted


def test_missing_unexpected_and_misshapen_entries_are_named(small, state, tmp_path):
    del state["1.weight"]
    state["9.weight"] = torch.zeros(1)
    state["0.bias"] = torch.zeros(6)
    torch.save(state, tmp_path / "checkpoint.pth")
    with pytest.raises(WeightsMismatchError, match="3 of its keys or shapes are wrong") as caught:
        load_checkpoint(small, tmp_path / "checkpoint.pth")
    assert caught.value.why == ("missing: 1.weight", "unexpected: 9.weight", "0.bias: shape (6,), wanted (3,)")


def test_of_many_wrong_entries_the_first_five_are_named_and_all_are_counted(small, tmp_path):
    torch.save({f"{number}.weight": torch.zeros(1) for number in range(2, 9)}, tmp_path / "checkpoint.pth")
    with pytest.raises(WeightsMismatchError, match="14 of its keys or shapes are wrong") as caught:  # 7 and 7
        load_checkpoint(small, tmp_path / "checkpoint.pth")
    assert caught.value.why == (*(f"missing: {key}" for key in list(small.state_dict())[:5]), "...")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.zeros(3)], ids=["list", "no tensors", "one tensor"])
def test_a_file_without_named_tensors_is_refused(small, tmp_path, content):
    torch.save(content, tmp_path / "checkpoint.pth")
    with pytest.raises(WeightsMismatchError, match="is not a checkpoint of this network"):
        load_checkpoint(small, tmp_path / "checkpoint.pth")


def test_tensors_without_numbers_are_refused(small, state, tmp_path):
    torch.save({key: value.to("meta") for key, value in state.items()}, tmp_path / "meta.pth")
    with pytest.raises(WeightsMismatchError, match="does not hold named dense tensors"):
        load_checkpoint(small, tmp_path / "meta.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".onnx"])
@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint at all", b"PK\x03\x04truncated"], ids=["empty", "text", "zip"]
)
def test_an_unreadable_file_is_refused_by_name_without_telling_to_delete_it(small, tmp_path, suffix, content):
    path = tmp_path / f"checkpoint{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be read as a checkpoint") as caught:
        load_checkpoint(small, path)
    assert str(path) in str(caught.value)
    assert caught.value.__cause__ is not None
    assert "delete" not in str(caught.value.fix)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("should-not-exist",)


def test_a_checkpoint_that_would_run_code_is_refused(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"0.weight": Malicious()}, tmp_path / "checkpoint.pth")
    with pytest.raises(WeightsError, match="cannot be read as a checkpoint"):
        load_checkpoint(small, tmp_path / "checkpoint.pth")
    assert not (tmp_path / "should-not-exist").exists()


def test_a_missing_file_is_named(small, tmp_path):
    with pytest.raises(WeightsNotFoundError, match=r"absent\.pth is not a file"):
        load_checkpoint(small, tmp_path / "absent.pth")


@pytest.mark.parametrize("seed", [None, 1], ids=["neither", "both"])
def test_weights_or_a_seed_must_be_given_and_not_both(seed, tmp_path):
    weights = None if seed is None else tmp_path / "checkpoint.pth"
    with pytest.raises(WeightsError, match="Sequential takes its numbers either from a checkpoint or from a seed"):
        load_or_draw(make, draw, weights, seed)


def test_a_network_is_in_evaluation_mode_wherever_its_numbers_come_from(state, tmp_path):
    torch.save(state, tmp_path / "checkpoint.pth")
    loaded = load_or_draw(make, draw, tmp_path / "checkpoint.pth", None)
    drawn = load_or_draw(make, draw, None, 3)
    assert not loaded.training
    assert not drawn.training
    assert same(loaded, state)
    assert {value.unique().item() for value in drawn.state_dict().values()} == {3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of checkpoints of each format, by their ending and what they are."""
    folder = tmp_path_factory.mktemp("whole")
    state = {key: value.clone() for key, value in make().state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, folder / "zip.pth")
    torch.save(state, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    safetensors_torch.save_file(state, folder / "plain.safetensors")
    (folder / "pickle.pth").write_bytes(pickle.dumps({"a": [1, 2.5, "b"]}, protocol=2))
    return [(path.suffix, path.read_bytes()) for path in sorted(folder.iterdir())]


@st.composite
def damage(draw):
    """Up to eight changes to a file, near its start, near its end or anywhere, and perhaps a cut."""
    places = st.integers(0, 400) | st.integers(-400, -1) | st.integers(0, 1 << 20)
    changes = draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=8))
    return changes, draw(st.none() | st.integers(0, 1 << 20))


# PyTorch warns of what is odd in a damaged file, and Python of the pickle's own escapes.
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=300, deadline=None)
@given(data=st.data(), harm=damage())
def test_whatever_is_damaged_in_a_checkpoint_it_loads_or_is_refused_by_polyface(whole, tmp_path_factory, data, harm):
    suffix, content = data.draw(st.sampled_from(whole))
    changes, end = harm
    damaged = bytearray(content)
    for place, value in changes:
        damaged[place % len(content)] = value
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    path.write_bytes(damaged if end is None else damaged[: end % len(content)])
    try:
        load_checkpoint(make(), path)
    except PolyfaceError as error:
        assert str(path) in error.what
