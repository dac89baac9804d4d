"""What backends have in common: sessions that close, graphs and their interfaces, errors in one line, a cache."""

from __future__ import annotations

import contextlib
import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from polyface.errors import BackendUnavailableError, ClosedError, ContractError, Fix, OutOfMemoryError
from polyface.plugins.protocols import Graph
from polyface.plugins.records import Ref

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
            raise ContractError(
                f"The {side} of {graph.source} are not those of the detector '{detector.name}'.",
                why=[f"the graph has {', '.join(got) or 'none'}", f"the detector declares {', '.join(wanted)}"],
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
