"""The numbers of a network, from a checkpoint or from a seed: one policy for every detector's ``net.py``.

Strict, so that no layer keeps numbers that nobody trained; and hostile-input work, since a checkpoint may come from
anywhere: nothing in it is run, and whatever is wrong with it becomes an error of polyface's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from polyface.errors import WeightsError, WeightsMismatchError, WeightsNotFoundError
from polyface.settings.paths import CHECKPOINT_SUFFIXES
from polyface_torch.backend import first_line

M = TypeVar("M", bound=nn.Module)

_OTHER_WEIGHTS = "choose weights that the detector lists: polyface detectors"


def load_or_draw(make: Callable[[], M], draw: Callable[[M, int], None], weights: Path | None, seed: int | None) -> M:
    """Return a network in evaluation mode on the CPU, with the numbers of a checkpoint or those drawn from a seed.

    Args:
        make: builds the network; called on the meta device, where nothing is drawn or filled.
        draw: fills every parameter and buffer from the seed, for tests; with a generator of its own.
        weights: a checkpoint; see :func:`load_checkpoint`.
        seed: what ``draw`` is given. Exactly one of ``weights`` and ``seed`` must be given.

    Raises:
        WeightsError: none or both were given, or the file cannot be read.
        WeightsNotFoundError: there is no such file.
        WeightsMismatchError: the file holds another network.
    """
    # On the meta device a network is built at once, and the global generator is left as it was.
    with torch.device("meta"):
        net = make()
    if weights is not None and seed is None:
        load_checkpoint(net, weights)
    elif seed is not None and weights is None:
        draw(net.to_empty(device="cpu"), seed)
    else:
        raise WeightsError(
            f"{type(net).__name__} takes its numbers either from a checkpoint or from a seed.",
            why=[f"weights is {weights} and seed is {seed}"],
            fix="pass weights=Path('checkpoint.pth'), or weights=None, seed=0 for random numbers in a test",
        )
    return net.eval()


def load_checkpoint(module: nn.Module, path: Path) -> None:
    """Replace every number of ``module`` by those of a checkpoint.

    Args:
        module: may be on the meta device; its tensors are replaced, in the module's dtypes, on the CPU.
        path: ``.pth`` or ``.pt``, read with ``weights_only=True``, or ``.safetensors``. The tensors may lie under
            ``state_dict``, and ``module.`` may stand before their names. All must be there, of the module's shapes, and
            no others.

    Raises:
        WeightsNotFoundError: there is no such file.
        WeightsError: the file cannot be read.
        WeightsMismatchError: the file does not hold the tensors of ``module``; names the first five that are wrong, and
            their count.
    """
    found = _named_tensors(_read(path), path)
    wanted = module.state_dict()
    wrong = [f"missing: {key}" for key in wanted if key not in found]
    wrong += [f"unexpected: {key}" for key in found if key not in wanted]
    wrong += [
        f"{key}: shape {tuple(found[key].shape)}, wanted {tuple(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in found and found[key].shape != tensor.shape
    ]
    if wrong:
        raise WeightsMismatchError(
            f"{path} is not a checkpoint of this network: {len(wrong)} of its keys or shapes are wrong.",
            why=wrong if len(wrong) <= 5 else [*wrong[:5], "..."],
            fix=_OTHER_WEIGHTS,
        )
    module.load_state_dict({key: found[key].to(tensor.dtype) for key, tensor in wanted.items()}, assign=True)


def _read(path: Path) -> Any:
    if not path.is_file():
        raise WeightsNotFoundError(f"{path} is not a file.", fix=_OTHER_WEIGHTS)
    try:
        if path.suffix.lower() not in CHECKPOINT_SUFFIXES:
            raise ValueError(f"its name ends in '{path.suffix}', not in {', '.join(CHECKPOINT_SUFFIXES)}")
        if path.suffix.lower() == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch's unpickler meets a damaged file with whatever comes: found by fuzzing
        raise WeightsError(
            f"{path} cannot be read as a checkpoint.",
            why=[first_line(error)],
            fix="write it with torch.save(model.state_dict(), 'checkpoint.pth')",
        ) from error


def _named_tensors(content: Any, path: Path) -> dict[str, Tensor]:
    inner = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(inner, Mapping) or not all(map(_is_plain, inner.values())):
        raise WeightsMismatchError(
            f"{path} is not a checkpoint of this network.",
            why=["it does not hold named dense tensors, nor a 'state_dict' of them"],
            fix=_OTHER_WEIGHTS,
        )
    return {str(key).removeprefix("module."): value for key, value in inner.items()}


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta
