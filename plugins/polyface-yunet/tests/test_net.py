from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the network needs polyface-yunet[torch]")
pytest.importorskip("polyface_torch", reason="the network needs polyface-yunet[torch]")

from polyface.errors import WeightsMismatchError  # noqa: E402 - after the skips
from polyface_yunet import net  # noqa: E402
from polyface_yunet.head import Head  # noqa: E402
from polyface_yunet.plugin import polyface_detectors  # noqa: E402

NAMES = [output.name for output in next(iter(polyface_detectors())).outputs]


def run(module, image):
    with torch.inference_mode():
        return {name: output.numpy() for name, output in zip(NAMES, module(torch.from_numpy(image)), strict=True)}


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.float32)


@pytest.mark.shared
@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (2, 3, 160, 224), (1, 3, 352, 96)], ids=str)
def test_the_published_checkpoint_gives_the_numbers_of_the_published_graph(published, original, shape):
    module = net.yunet_n(published["checkpoint"])

    outputs = run(module, noise(*shape))

    expected = original(noise(*shape))
    assert list(outputs) == list(expected)
    for name, output in outputs.items():
        np.testing.assert_allclose(output, expected[name], rtol=0, atol=1e-5)


@pytest.mark.shared
def test_the_published_checkpoint_has_our_names_and_shapes_and_no_others(published):
    state = torch.load(published["checkpoint"], map_location="cpu", weights_only=True)["state_dict"]

    ours = net.yunet_n(None, seed=0).state_dict()

    assert {key: tuple(value.shape) for key, value in ours.items()} == {
        key: tuple(value.shape) for key, value in state.items()
    }


def test_it_has_as_many_parameters_as_its_authors_say():
    assert sum(parameter.numel() for parameter in net.yunet_n(None, seed=0).parameters()) == 75_856


@pytest.mark.parametrize("size", [(32, 32), (96, 160)], ids=str)
def test_there_is_one_output_for_each_prior(size):
    outputs = run(net.yunet_n(None, seed=0), noise(1, 3, *size))

    priors = Head().priors(*size)
    for stride in (8, 16, 32):
        count = int((priors[:, 2] == stride).sum())
        shapes = [outputs[f"{name}_{stride}"].shape for name in ("cls", "obj", "bbox", "kps")]
        assert shapes == [(1, count, 1), (1, count, 1), (1, count, 4), (1, count, 10)]


def test_a_batch_of_n_equals_n_singles():
    module = net.yunet_n(None, seed=0)
    batch = noise(3, 3, 64, 96)

    whole = run(module, batch)

    for index in range(3):
        for name, single in run(module, batch[index : index + 1]).items():
            np.testing.assert_allclose(whole[name][index], single[0], rtol=0, atol=1e-5)


def test_a_seeded_network_stays_bounded_and_says_something():
    outputs = run(net.yunet_n(None, seed=5), noise(1, 3, 320, 320))

    assert max(np.abs(output).max() for output in outputs.values()) < 200
    scores = Head().scores(outputs)
    assert scores.min() < 0.3
    assert scores.max() > 0.6


def test_a_seed_fixes_every_number_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()

    one, again, other = (net.yunet_n(None, seed=seed).state_dict() for seed in (1, 1, 2))

    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["backbone.model0.conv1.weight"], other["backbone.model0.conv1.weight"])
    assert torch.equal(torch.get_rng_state(), before)


def test_another_networks_checkpoint_is_refused(tmp_path):
    torch.save({"state_dict": {"body.weight": torch.zeros(3)}}, tmp_path / "checkpoint.pth")

    with pytest.raises(WeightsMismatchError, match="of its keys or shapes are wrong"):
        net.yunet_n(tmp_path / "checkpoint.pth")
