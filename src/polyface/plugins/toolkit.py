"""What plugins have in common.

Backends: sessions that close, graphs and their interfaces, errors in one line, a cache. Families: options of the input,
and a head whose outputs have other names.
"""

from __future__ import annotations

import contextlib
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from polyface.errors import NO_FIX, BackendUnavailableError, ClosedError, ContractError, Fix, OutOfMemoryError, quoted
from polyface.plugins.protocols import Candidates, Graph, GraphTensor, Head, Interface
from polyface.plugins.records import DetectorSpec, OptionSpec, Ref, TensorSpec, fixed_run
from polyface.settings.config import MOST_RUN

if TYPE_CHECKING:
    from polyface.arrays import FloatArray, IndexArray

T = TypeVar("T")

CUDA_DRIVER = ("libcuda.so.1", "nvcuda.dll")
"""The libraries of NVIDIA's driver, for :attr:`polyface.plugins.records.Capability.driver`."""


class Held(Generic[T]):
    """What a session holds until it is closed, such as the runtime's own session.

    A run gets it once: what another thread's ``close`` lets go of stays until that run has finished.

    Args:
        value: what is held.
        runtime: what the session is of, for the error.
    """

    def __init__(self, value: T, runtime: str) -> None:
        self._value: T | None = value
        self._runtime = runtime

    def get(self) -> T:
        """Return it.

        Raises:
            ClosedError: it was closed.
        """
        value = self._value
        if value is None:
            raise ClosedError(f"This {self._runtime} session is closed.", fix="create the detector again")
        return value

    def close(self) -> T | None:
        """Let go of it, and return it the first time; twice is fine."""
        value, self._value = self._value, None
        return value


def graph_file(graph: Graph) -> Path:
    """Return the path of a graph; one that is a builder raises ``ContractError``."""
    if not isinstance(graph.source, Path):
        raise ContractError(
            f"The {graph.kind} graph of '{graph.detector.name}' must be a file, not the builder {graph.source.target}."
        )
    return graph.source


def graph_builder(graph: Graph) -> Ref:
    """Return the builder of a graph; one that is a file raises ``ContractError``."""
    if not isinstance(graph.source, Ref):
        raise ContractError(
            f"The {graph.kind} graph of '{graph.detector.name}' must be a builder, not the file {graph.source}."
        )
    return graph.source


def check_interface(graph: Graph, *, inputs: Iterable[str], outputs: Iterable[str], float32: str) -> None:
    """Check that a network has the inputs and outputs that its detector declares.

    Args:
        graph: whose network it is.
        inputs: those that the runtime found, each as ``name: type``.
        outputs: likewise.
        float32: what the runtime calls the type.

    Raises:
        ContractError: they are others.
    """
    detector = graph.detector
    for side, declared, there in (("inputs", (detector.input,), inputs), ("outputs", detector.outputs, outputs)):
        wanted, got = sorted(f"{tensor.name}: {float32}" for tensor in declared), sorted(there)
        if wanted != got:
            own = Fix("if its names are its own, and not the detector's", settings={"detector": str(graph.source)})
            raise ContractError(
                f"The {side} of {graph.source} are not those of the detector '{detector.name}'.",
                why=[f"the graph has {', '.join(got) or 'none'}", f"the detector declares {', '.join(wanted)}"],
                fix=NO_FIX if graph.trusted else own,
            )


def one_line(error: BaseException, *places: str) -> str:
    """Return an error's type and what it says, in one line of at most 300 characters.

    Args:
        error: a runtime's, which may be pages long.
        places: how lines begin that say where in the runtime's source it arose, which are left out.
    """
    said = [line for line in map(str.strip, str(error).splitlines()) if not line.startswith(places)]
    return textwrap.shorten(f"{type(error).__name__}: {' '.join(said)}", 300, placeholder=" ...")


def failed_run(runtime: str, shape: tuple[int, ...], device: str, why: str, *, memory: bool) -> BackendUnavailableError:
    """Return what to raise for a run on a batch that failed in the runtime's own code.

    Where its words are of shapes, so is the error: runtimes have no class of their own for a network that does not take
    an input of that shape.

    Args:
        runtime: what it is called.
        shape: of the batch.
        device: where it ran.
        why: what the runtime says, in one line.
        memory: it says that it ran out of memory.
    """
    what = f"{runtime} failed on a batch of shape {shape} on {device}"
    if not memory and re.search("shape|dimension|broadcast|channels", why, re.IGNORECASE):
        own = "correct dims, stride or min_side in the detector's record"
        fix = Fix("run it at a size that it takes, by", names=("infer_size",)) | own
        return BackendUnavailableError(f"{what}: the network does not take that shape.", why=[why], fix=fix)
    doubt = "" if memory else "if memory ran out, "
    fix = Fix(f"{doubt}pass fewer images at a time, or lower", names=("max_side",))
    return (OutOfMemoryError if memory else BackendUnavailableError)(f"{what}.", why=[why], fix=fix)


@contextlib.contextmanager
def keeping(what: str, folder: Path, *, without: str = "") -> Iterator[None]:
    """Say that there is no place for what a backend keeps below polyface's home, for any error of the system.

    Args:
        what: it keeps, such as ``"OpenVINO's cache"``.
        folder: where.
        without: what to do to keep nothing, where that can be chosen.

    Raises:
        BackendUnavailableError: in the place of an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise BackendUnavailableError(
            f"There is no place for {what}: {folder} cannot be written to.",
            why=[str(error)],
            fix=f"set POLYFACE_HOME to a folder that can be written to{without and f', or {without}'}",
        ) from error


def clip_rounding(probabilities: FloatArray) -> FloatArray:
    """Return probabilities in [0, 1], as half precision needs, whose sigmoid may end 0.001 outside.

    Numbers that are farther outside are no probabilities. They are returned as they are, and core refuses them.
    """
    within: FloatArray = probabilities.clip(0, 1)
    return within if abs(within - probabilities).max(initial=0) <= 1e-3 else probabilities


def input_options(
    *,
    channels: str,
    mean: tuple[float, float, float],
    std: tuple[float, float, float] = (1, 1, 1),
    free: bool = False,
) -> tuple[OptionSpec, ...]:
    """Return the options of a family for how images become the input, and for ``Interface.fields``, by default these.

    Args:
        channels: as in :class:`polyface.plugins.records.Preprocess`.
        mean: likewise.
        std: likewise.
        free: make batch and size free.
    """
    return (
        OptionSpec(name="channels", type="str", default=channels, choices=("rgb", "bgr"), help="Their order."),
        OptionSpec(name="mean", type="numbers", default=mean, help="Subtracted from the channels, which are 0 to 255."),
        OptionSpec(name="std", type="numbers", default=std, help="What the channels are divided by after that."),
        OptionSpec(
            name="free",
            type="bool",
            default=free,
            help="Make a fixed batch and size free first, by polyface-onnxruntime[onnx].",
        ),
    )


def own_run_pixels(fields: Mapping[str, Any], usual: int) -> int:
    """Return the ``run_pixels`` of a user's own file: as usual, or what its input is fixed to.

    Args:
        fields: of the file's record, by :meth:`polyface.plugins.protocols.Interface.fields`.
        usual: of the family. No file gets more than the setting may be: a record that fixes more is refused.
    """
    return max(usual, min(fixed_run(fields["input"]), MOST_RUN))


def match_outputs(outputs: Iterable[TensorSpec], there: Iterable[GraphTensor]) -> dict[str, str]:
    """Return the name in a file of each output of a record, by the record's name for it.

    Outputs that have the record's name for one of their width are that one. The others are found by their widths (of
    maps: channels) and, where the file fixes them, their rows. Those alike in both are taken in the order of the
    record, but only where no output has a name of the record's.

    Args:
        outputs: of the record. Outputs ``(n, rows, width)`` of one level have one name for their rows; among those of
            one width the levels go from the finest, which has the most rows, to the coarsest.
        there: those of the file, with or without a batch axis.

    Raises:
        ContractError: the file has others, or they cannot be told apart; ``why`` says which.
    """
    wanted, rest = [*outputs], {tensor.name: tensor for tensor in there}
    found = {
        output.name: rest.pop(output.name)
        for output in wanted
        if output.name in rest and _is_like(rest[output.name].dims, output.dims)
    }
    alike: dict[tuple[int, int | str], list[TensorSpec]] = {}
    for output in wanted:
        alike.setdefault((len(output.dims), output.dims[_width_at(output.dims)]), []).append(output)
    named = [*found]
    for group in alike.values():
        _match_alike(group, found, rest, named)
    if rest:
        raise _others(f"none is wanted like {', '.join(map(str, rest.values()))}")
    _check_rows(wanted, found)
    return {output.name: found[output.name].name for output in wanted}


def _match_alike(
    group: list[TensorSpec], found: dict[str, GraphTensor], rest: dict[str, GraphTensor], named: list[str]
) -> None:
    """Move those outputs of one width that have other names from ``rest`` to ``found``."""
    left = [output for output in group if output.name not in found]
    mine = [tensor for tensor in rest.values() if _is_like(tensor.dims, group[0].dims)]
    if len(left) != len(mine):
        are, there = ("is" if len(some) == 1 else "are" for some in (left, mine))
        shown = ", ".join(map(str, mine)) or "none"
        raise _others(f"{len(left)} {are} wanted like {_shown(left or group)}, and there {there} {shown}")
    rows = _rows(group, [*mine, *(found[output.name] for output in group if output.name in found)])
    for output in left:
        fitting = [tensor for tensor in mine if not rows or tensor.dims[-2] == rows[output.dims[1]]]
        if len(fitting) > 1 and named:
            raise _others(
                f"{quoted(named[0])} is there, and each of {', '.join(map(str, fitting))} may be {output.name}",
                fix=f"export it with the outputs named {', '.join(other.name for other in left)}",
            )
        if fitting:
            found[output.name] = rest.pop(fitting[0].name)
            mine.remove(fitting[0])
    for output in group if rows else ():
        tensor = found.get(output.name)
        if tensor is None or tensor.dims[-2] != rows[output.dims[1]]:
            there = f"{tensor} has that name" if tensor else f"there are {', '.join(map(str, mine))}"
            raise _others(f"{_shown([output])} has {rows[output.dims[1]]} rows by its level, and {there}")


def _rows(group: list[TensorSpec], tensors: list[GraphTensor]) -> dict[int | str, int]:
    """The rows of each level, where all are fixed; of rows that are free in part, none tells a level."""
    levels = [*dict.fromkeys(output.dims[1] for output in group if len(output.dims) == 3)]
    counts = {tensor.dims[-2] for tensor in tensors if levels}
    fixed = sorted((count for count in counts if isinstance(count, int)), reverse=True)
    if len(fixed) < len(counts):
        return {}
    if len(fixed) != len(levels):
        there = ", ".join(map(str, tensors))
        raise _others(f"{_shown(group)} have {len(levels)} different numbers of rows, and there are {there}")
    return dict(zip(levels, fixed, strict=True))


def _check_rows(wanted: list[TensorSpec], found: Mapping[str, GraphTensor]) -> None:
    """Refuse outputs of one level whose rows differ where they are fixed."""
    levels: dict[int | str, GraphTensor] = {}
    for output in wanted:
        tensor = found[output.name]
        if len(output.dims) == 3 and isinstance(tensor.dims[-2], int):
            first = levels.setdefault(output.dims[1], tensor)
            if first.dims[-2] != tensor.dims[-2]:
                raise _others(f"{first} and {tensor}, taken for {output.name}, are of one level and differ in rows")


def _others(why: str, *, fix: str = "") -> ContractError:
    return ContractError("The outputs are not those of the record.", why=[why], fix=fix)


def _shown(outputs: Iterable[TensorSpec]) -> str:
    return ", ".join(f"{output.name} ({', '.join(map(str, output.dims))})" for output in outputs)


def describe_like(
    own: DetectorSpec,
    interface: Interface,
    *,
    channels: str,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    free: bool,
) -> DetectorSpec:
    """Return the record of a file that holds another network of the kind of a detector's own.

    The same pixel pads its input, black where black does, whatever mean and std make of it. Its outputs are found by
    :func:`match_outputs`. Rows that are free are checked when it runs. No layer stays in float when it is quantized,
    unless the detector's own bears no 8 bits at all: which layers are to, is measured of one network.

    Args:
        own: the record to take all else from, ``face_sizes`` and ``run_pixels`` as well, where no more is fixed.
        interface: of the file.
        channels: these are the options of :func:`input_options`.
        mean: likewise.
        std: likewise.
        free: likewise.

    Raises:
        ConfigError: the file has other outputs, or they cannot be told apart.
    """
    fields = interface.fields(free=free)
    levels: dict[int | str, list[str]] = {}
    for output in own.outputs:
        if len(output.dims) == 3:
            levels.setdefault(output.dims[1], []).append(output.name)
    try:
        names = match_outputs(own.outputs, interface.outputs)
    except ContractError as error:
        order = ", as many rows for each output of a level, and fewer the coarser it is" if levels else ""
        refusal = interface.misfit(f"outputs like {_shown(own.outputs)}{order}")
        refusal.why, refusal.fix = (*error.why, *refusal.why), error.fix | refusal.fix
        raise refusal from error
    fixed = isinstance(fields["input"].dims[2], int)
    before = own.preprocess
    pixel = [pad * by + less for pad, by, less in zip(before.pads, before.std, before.mean, strict=True)]
    pixel = pixel if channels == before.channels else pixel[::-1]
    pads = [(value - less) / by for value, less, by in zip(pixel, mean, std, strict=True)]
    return attrs.evolve(
        own,
        **fields,
        summary=f"{interface.weights.filename}, of the family {interface.family}",
        preprocess=attrs.evolve(
            before, channels=channels, mean=mean, std=std, stride=1 if fixed else before.stride, pad_value=pads
        ),
        head=Ref("polyface.plugins.toolkit:RenamedHead"),
        head_options={
            "head": own.head.target,
            "names": [*names.items()],
            "levels": [*levels.values()],
        },
        # Names of layers are those of one export: of another they would keep other layers.
        keep_float=("*",) if "*" in own.keep_float else (),
        defaults=attrs.evolve(own.defaults, infer_size=None) if fixed else own.defaults,
        run_pixels=own_run_pixels(fields, own.run_pixels),
    )


def _is_like(dims: tuple[int | str, ...], wanted: tuple[int | str, ...]) -> bool:
    """Whether an output has as many channels or columns as another, be it without a batch axis."""
    at, missing = _width_at(wanted), len(wanted) - len(dims)
    return missing in (0, 1) and (isinstance(wanted[at], str) or dims[at - missing * (at > 0)] == wanted[at])


def _width_at(dims: tuple[int | str, ...]) -> int:
    """Where an output has its columns, or of a map its channels."""
    return 1 if len(dims) == 4 else -1


class RenamedHead:
    """A :class:`polyface.plugins.protocols.Head` for a file whose outputs have other names than its own.

    Args:
        head: the target of the ``Ref`` to the head.
        names: pairs of the head's own name of an output and the file's.
        levels: the head's names of the outputs of each level, the finest first. All of a level must have as many rows,
            and fewer than the level before: else the file has them in another order than it was taken for.
        **options: what the head is made with.
    """

    def __init__(
        self, *, head: str, names: Iterable[tuple[str, str]], levels: Iterable[Iterable[str]] = (), **options: Any
    ) -> None:
        self._head: Head = Ref(head).load()(**options)
        self._names = dict(names)
        self._levels = tuple(map(tuple, levels))

    def priors(self, height: int, width: int) -> FloatArray:
        """Return the head's priors."""
        return self._head.priors(height, width)

    def scores(self, outputs: Mapping[str, FloatArray]) -> FloatArray:
        """Return the head's scores."""
        return self._head.scores(self._own(outputs))

    def decode(self, outputs: Mapping[str, FloatArray], priors: FloatArray, index: int, keep: IndexArray) -> Candidates:
        """Return what the head decodes."""
        return self._head.decode(self._own(outputs), priors, index, keep)

    def _own(self, outputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        mine = {own: outputs[name] for own, name in self._names.items()}
        finer = None
        for level in self._levels:
            rows = mine[level[0]].shape[-2]
            for own in level:
                found = mine[own].shape[-2]
                if found != rows or (finer is not None and found >= finer):
                    wanted = f"{rows}, as {quoted(self._names[level[0]])}" if found != rows else f"fewer than {finer}"
                    raise ContractError(
                        f"The output {quoted(self._names[own])} gave {found} rows, and was taken for {own}.",
                        why=[f"wanted: {wanted}, since the levels go from the finest to the coarsest"],
                        fix=f"export it with the outputs in the order of {', '.join(self._names)}, or with these names",
                    )
            finer = rows
        return mine
