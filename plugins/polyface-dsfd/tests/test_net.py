from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the network needs polyface-dsfd[torch]")
pytest.importorskip("torchvision", reason="the network needs polyface-dsfd[torch]")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="the network needs polyface-dsfd[torch]")

from polyface.errors import WeightsMismatchError  # noqa: E402 - after the skips
from polyface_dsfd import net  # noqa: E402
from polyface_dsfd.head import LEVELS, Head  # noqa: E402

NAME = "dsfd-resnet152"
GOLDEN_SIZES = [(96, 128, 1), (101, 157, 2)]


def network_input(rgb):
    """``(1, 3, h, w)`` float32, BGR less its mean, made by hand: core's preprocessing is not what is tested here."""
    bgr = rgb[..., ::-1].astype(np.float32) - np.float32([104, 117, 123])
    return np.ascontiguousarray(bgr.transpose(2, 0, 1)[None])


def run(module, image):
    with torch.inference_mode():
        return {
            name: output.numpy()
            for name, output in zip(("loc", "logits"), module(torch.from_numpy(image)), strict=True)
        }


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-120, 140, shape).astype(np.float32)


@pytest.fixture(scope="module")
def rebuilt(reference_checkpoint):
    """The network with the goldens' numbers."""
    return net.resnet152(reference_checkpoint(NAME))


@pytest.fixture(scope="module", params=GOLDEN_SIZES, ids=str)
def original(request, golden, rebuilt):
    """A size and seed, what the network gives there with the goldens' numbers, and what the original gave."""
    size = request.param
    return size, run(rebuilt, network_input(golden.image(*size))), golden.outputs(NAME, *size)


@pytest.fixture(scope="module")
def feature_sizes():
    """Return the rows and columns of the network's own feature maps, which cost nothing on the meta device."""
    with torch.device("meta"):
        module = net.DSFD().eval()
    return lambda height, width: [f.shape[2:] for f in module.features(torch.empty(1, 3, height, width, device="meta"))]


@pytest.mark.shared
def test_names_shapes_and_order_are_those_of_the_original_checkpoint(golden, seeded):
    state = seeded.state_dict()

    assert [(key, tuple(value.shape)) for key, value in state.items()] == list(golden.shapes(NAME).items())


@pytest.mark.shared
def test_raw_heads_and_scores_are_those_of_the_original_network(original):
    _, outputs, expected = original

    np.testing.assert_allclose(outputs["loc"][0], expected["loc"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(outputs["logits"][0], expected["logits"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(Head().scores(outputs)[0], expected["scores"], rtol=0, atol=1e-3)


@pytest.mark.shared
def test_boxes_of_scores_over_0_05_are_those_of_the_original_network(original):
    (height, width, _), outputs, expected = original
    keep = np.flatnonzero(expected["scores"] > 0.05)

    found = Head().decode(outputs, Head().priors(height, width), 0, keep)

    assert len(keep) > 200
    np.testing.assert_allclose(found.boxes / ([width, height] * 2), expected["boxes"][keep], rtol=0, atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 700), width=st.integers(1, 700))
def test_each_level_has_a_prior_in_the_middle_of_each_cell_of_its_feature_map(feature_sizes, height, width):
    expected = [
        (min((column + 0.5) * stride, width), min((row + 0.5) * stride, height))
        for (stride, _), (rows, columns) in zip(LEVELS, feature_sizes(height, width), strict=True)
        for row in range(rows)
        for column in range(columns)
    ]

    np.testing.assert_array_equal(Head().priors(height, width)[:, :2], np.float32(expected))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 50), (101, 65)], ids=str)
def test_there_is_one_finite_output_for_each_prior_down_to_a_single_pixel(seeded, size):
    outputs = run(seeded, noise(1, 3, *size))

    count = len(Head().priors(*size))
    assert {name: output.shape for name, output in outputs.items()} == {"loc": (1, count, 4), "logits": (1, count, 2)}
    assert all(np.isfinite(output).all() for output in outputs.values())


def test_a_batch_of_n_equals_n_singles(seeded):
    batch = noise(3, 3, 65, 90)

    whole = run(seeded, batch)

    for index in range(3):
        for name, single in run(seeded, batch[index : index + 1]).items():
            np.testing.assert_allclose(whole[name][index], single[0], rtol=0, atol=1e-5)


def test_three_values_compete_for_the_background_on_the_finest_level_and_for_the_face_elsewhere():
    values = torch.tensor([3.0, 7.0, 5.0, 4.0, 90.0, 91.0, 92.0, 93.0]).reshape(1, 8, 1, 1)

    assert net.max_in_out(values[:, :4], finest=True).flatten().tolist() == [7, 4]
    assert net.max_in_out(values, finest=False).flatten().tolist() == [4, 7]


def test_a_seeded_network_stays_bounded_and_says_something(seeded):
    outputs = run(seeded, noise(1, 3, 320, 320))

    assert 0.5 < max(np.abs(output).max() for output in outputs.values()) < 20
    scores = Head().scores(outputs)
    assert scores.min() < 0.4
    assert scores.max() > 0.6


def test_a_seed_fixes_every_number_and_leaves_the_global_generator_as_it_was(seeded):
    state, before = seeded.state_dict(), torch.get_rng_state()

    again, other = (net.resnet152(None, seed=seed).state_dict() for seed in (0, 1))

    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(state[key], again[key]) for key in state)
    assert not torch.equal(state["layer1.0.weight"], other["layer1.0.weight"])


def test_another_networks_checkpoint_is_refused_with_five_reasons_and_the_count(tmp_path):
    torch.save({f"{number}.weight": torch.zeros(1) for number in range(7)}, tmp_path / "checkpoint.pth")

    with pytest.raises(WeightsMismatchError, match="1133 of its keys or shapes are wrong") as caught:  # 1126 and 7
        net.resnet152(tmp_path / "checkpoint.pth")

    assert caught.value.why[0] == "missing: layer1.0.weight"
    assert len(caught.value.why) == 6
    assert caught.value.why[5] == "..."
