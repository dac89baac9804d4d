from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the networks need polyface-retinaface[torch]")
pytest.importorskip("torchvision", reason="the networks need polyface-retinaface[torch]")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="the networks need polyface-retinaface[torch]")

from polyface.errors import WeightsMismatchError  # noqa: E402 - after the skips
from polyface_retinaface import net  # noqa: E402
from polyface_retinaface.head import Head  # noqa: E402

BUILDERS = {"retinaface-mobilenet025": net.mobilenet025, "retinaface-resnet50": net.resnet50}
GOLDEN_SIZES = [(96, 128, 1), (101, 157, 2)]

each_detector = pytest.mark.parametrize("detector", BUILDERS)


def tensors(arrays):
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def network_input(rgb):
    """``(1, 3, h, w)`` float32, BGR less its mean, made by hand: core's preprocessing is not what is tested here."""
    bgr = rgb[..., ::-1].astype(np.float32) - np.float32([104, 117, 123])
    return np.ascontiguousarray(bgr.transpose(2, 0, 1)[None])


def run(module, image):
    with torch.inference_mode():
        return {
            name: output.numpy()
            for name, output in zip(("loc", "logits", "landms"), module(torch.from_numpy(image)), strict=True)
        }


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-120, 140, shape).astype(np.float32)


@pytest.fixture
def state():
    """A checkpoint of the small network that may be spoilt."""
    return net.mobilenet025(None, seed=1).state_dict()


@pytest.fixture(scope="module", params=BUILDERS)
def rebuilt(request, golden, tmp_path_factory):
    """A network loaded from the goldens' checkpoint; one detector's as .pth, the other's as .safetensors."""
    state = tensors(golden.checkpoint(request.param))
    folder = tmp_path_factory.mktemp("checkpoint")
    if request.param == "retinaface-resnet50":
        safetensors_torch.save_file(state, path := folder / "checkpoint.safetensors")
    else:
        torch.save(state, path := folder / "checkpoint.pth")
    return request.param, BUILDERS[request.param](path)


@pytest.mark.shared
@each_detector
def test_names_shapes_and_order_are_those_of_the_original_checkpoint(golden, detector):
    state = BUILDERS[detector](None, seed=0).state_dict()

    assert [(key, tuple(value.shape)) for key, value in state.items()] == list(golden.shapes(detector).items())


@pytest.mark.shared
@pytest.mark.parametrize("size", GOLDEN_SIZES, ids=str)
def test_raw_heads_and_scores_are_those_of_the_original_network(golden, rebuilt, size):
    detector, module = rebuilt

    outputs = run(module, network_input(golden.image(*size)))

    expected = golden.outputs(detector, *size)
    np.testing.assert_allclose(outputs["loc"][0], expected["loc"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(outputs["landms"][0], expected["landms"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(Head().scores(outputs)[0], expected["scores"], rtol=0, atol=1e-4)


@pytest.mark.shared
@pytest.mark.parametrize("size", GOLDEN_SIZES, ids=str)
def test_boxes_and_landmarks_are_those_of_the_original_network(golden, rebuilt, size):
    detector, module = rebuilt
    height, width, _ = size
    priors = Head().priors(height, width)

    found = Head().decode(run(module, network_input(golden.image(*size))), priors, 0, np.arange(len(priors)))

    expected = golden.outputs(detector, *size)
    sides = np.float32([width, height])
    np.testing.assert_allclose(found.boxes / np.tile(sides, 2), expected["boxes"], rtol=0, atol=1e-4)
    np.testing.assert_allclose((found.landmarks / sides).reshape(-1, 10), expected["landmarks"], rtol=0, atol=1e-4)


@pytest.mark.shared
def test_the_published_checkpoint_loads(shared):
    module = net.mobilenet025(shared / "weights/RetinaFace_mobilenet025.pth")

    assert {parameter.device.type for parameter in module.parameters()} == {"cpu"}
    assert not module.training


@pytest.mark.parametrize("size", [(32, 32), (33, 50), (101, 157)], ids=str)
@each_detector
def test_there_is_one_output_for_each_prior(detector, size):
    outputs = run(BUILDERS[detector](None, seed=0), noise(1, 3, *size))

    count = len(Head().priors(*size))
    assert {name: output.shape for name, output in outputs.items()} == {
        "loc": (1, count, 4),
        "logits": (1, count, 2),
        "landms": (1, count, 10),
    }


def test_a_batch_of_n_equals_n_singles():
    module = net.mobilenet025(None, seed=0)
    batch = noise(3, 3, 65, 90)

    whole = run(module, batch)

    for index in range(3):
        for name, single in run(module, batch[index : index + 1]).items():
            np.testing.assert_allclose(whole[name][index], single[0], rtol=0, atol=1e-5)


@each_detector
def test_a_seeded_network_stays_bounded_and_says_something(detector):
    outputs = run(BUILDERS[detector](None, seed=5), noise(1, 3, 320, 320))

    assert max(np.abs(output).max() for output in outputs.values()) < 20
    scores = Head().scores(outputs)
    assert scores.min() < 0.5 < scores.max()


def test_a_seed_fixes_every_number(state):
    again, other = (net.mobilenet025(None, seed=seed).state_dict() for seed in (1, 2))

    assert all(torch.equal(state[key], again[key]) for key in state)
    assert not torch.equal(state["body.stage1.0.0.weight"], other["body.stage1.0.0.weight"])


@each_detector
def test_building_leaves_the_global_generator_as_it_was(detector):
    before = torch.get_rng_state()

    BUILDERS[detector](None, seed=3)

    assert torch.equal(torch.get_rng_state(), before)


def test_another_networks_checkpoint_is_refused_with_five_reasons_and_the_count(state, tmp_path):
    torch.save(state, tmp_path / "checkpoint.pth")

    with pytest.raises(WeightsMismatchError, match=r"\d\d\d of its keys or shapes are wrong") as caught:
        net.resnet50(tmp_path / "checkpoint.pth")

    assert caught.value.why[0] == "missing: body.conv1.weight"
    assert len(caught.value.why) == 6
    assert caught.value.why[5] == "..."
