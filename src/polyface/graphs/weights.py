"""Weights: which file a user means, where it lies, and whether it is what it should be."""

from __future__ import annotations

import shlex
from pathlib import Path

from attrs import field, frozen

from polyface.errors import (
    NO_FIX,
    Fix,
    UnknownNameError,
    WeightsMismatchError,
    WeightsNotFoundError,
    nearest,
    quoted,
    shortened,
)
from polyface.graphs.onnx_file import OnnxFile, read_onnx
from polyface.plugins.records import DetectorSpec, WeightsFile
from polyface.settings.paths import GRAPH_SUFFIXES, WEIGHTS_SUFFIXES, expand_user, home, is_path
from polyface.storage.files import sha256_of


@frozen(kw_only=True)
class Weights:
    """A choice of weights for a detector: an entry of its manifest, the user's own file, or none at all."""

    detector: str
    sha256: str = ""
    file: WeightsFile | None = None
    own: Path | None = None
    is_default: bool = False
    graph: OnnxFile | None = field(default=None, eq=False, repr=False)  # what an ONNX file given as weights holds
    read_as: tuple[str, ...] = ()  # options that say how a detector's own file is read

    @property
    def name(self) -> str | None:
        """The name in the manifest, or ``None``."""
        return self.file.name if self.file else None

    @property
    def label(self) -> str:
        """What to call it in a message."""
        return self.name or (str(self.own) if self.own else "none")

    @property
    def own_graph(self) -> bool:
        """Whether it is the user's own file, and a graph: anybody may have made it."""
        return self.own is not None and self.own.suffix.lower() in GRAPH_SUFFIXES

    @property
    def options(self) -> list[str]:
        """What chooses it in a command, for a message; nothing for the default."""
        return [*self.read_as] if self.is_default else ["--weights", self.label]

    @property
    def matrix_command(self) -> str:
        """What shows where the detector runs, for a message: one that is a file is not among those installed."""
        return shlex.join(
            ["polyface", "matrix", *(["--detector", self.detector, *self.read_as] if self.read_as else [])]
        )

    @property
    def fetch_command(self) -> str:
        """What fetches the file, for a message."""
        return shlex.join(["polyface", "fetch", self.detector, *self.options])

    def locate(self) -> Path | None:
        """Return the file, its sha256 checked; ``None`` for a detector that has no weights.

        Raises:
            WeightsNotFoundError: the file is not on this machine.
            WeightsMismatchError: it is there, but is not the file the manifest describes.
        """
        if self.file is None:
            return self.own
        path = path_of(self.file)
        if not path.is_file():
            raise WeightsNotFoundError(
                f"The weights '{self.file.name}' of '{self.detector}' are not on this machine.",
                why=[f"looked for {path}", f"licence: {self.file.license}"],
                fix=Fix(command=self.fetch_command),
            )
        if self.file.ref is None:
            return verify(path, self.file.sha256, fix=Fix(command=self.fetch_command))
        return verify(path, self.file.sha256, fix=f"reinstall {self.file.ref.package}")


def path_of(file: WeightsFile) -> Path:
    """Return where a file of weights lies in its package, or where it belongs in polyface's home.

    There, files that share a name but not their content, from two plugins or two versions of one, lie side by side.

    Raises:
        ContractError: it should be in its package, and is not.
    """
    return file.ref.path() if file.ref else home() / "weights" / file.sha256[:16] / file.filename


def select_weights(detector: DetectorSpec, choice: str | None) -> Weights:
    """Return the weights that ``choice`` selects: a manifest name, a path, or ``None`` for the detector's default.

    Raises:
        UnknownNameError: the manifest has no such name.
        WeightsNotFoundError: there is no such file, or it is a folder.
        WeightsMismatchError: it is a graph, and no whole ONNX file.
    """
    if choice is None:
        first = detector.weights[0] if detector.weights else None
        return Weights(detector=detector.name, file=first, sha256=first.sha256 if first else "", is_default=True)
    if is_path(choice):
        path = expand_user(choice)
        if path.is_dir():
            shown = shortened(str(path.absolute()), 500)
            raise WeightsNotFoundError(f"{shown} is a folder, and no file of weights.", fix="name the file in it")
        if not path.is_file():
            raise WeightsNotFoundError(
                f"There is no file of weights at {shortened(str(path.absolute()), 500)}.",
                why=["an exported graph of your own weights is found by their sha256, so the file must be here, too"],
                fix="name a file that exists",
            )
        path = path.absolute()
        # What is wrong with a graph is said here, and no detector or converter blamed.
        graph = read_onnx(path) if path.suffix.lower() in GRAPH_SUFFIXES else None
        return Weights(detector=detector.name, own=path, sha256=sha256_of(path), graph=graph)
    for file in detector.weights:
        if file.name == choice:
            is_default = file is detector.weights[0]
            return Weights(detector=detector.name, file=file, sha256=file.sha256, is_default=is_default)
    names = [file.name for file in detector.weights]
    raise UnknownNameError(
        f"'{detector.name}' has no weights named {quoted(choice)}{nearest(choice, names) or '.'}",
        why=[f"it has: {', '.join(names) or 'none'}"],
        fix=f"name one of these, or a file that ends in {', '.join(WEIGHTS_SUFFIXES)}",
    )


def verify(path: Path, sha256: str, *, fix: Fix | str = NO_FIX) -> Path:
    """Return ``path`` if the file has that sha256; ``fix`` is what to do where it has not.

    Raises:
        WeightsMismatchError: it has another: it was cut short, changed, or is a different file.
    """
    actual = sha256_of(path)
    if actual != sha256:
        raise WeightsMismatchError(
            f"{path} is not the file it should be.",
            why=[f"sha256 {actual}", f"expected {sha256}", f"{path.stat().st_size} bytes"],
            fix=fix or Fix("delete it and get it again", command=f"rm {shlex.quote(str(path))}"),
        )
    return path
