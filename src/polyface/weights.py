"""Weights: which file a user means, where it lies, and whether it is what it should be."""

from __future__ import annotations

import hashlib
import os
import shlex
from pathlib import Path

from attrs import frozen

from polyface.errors import UnknownNameError, WeightsMismatchError, WeightsNotFoundError, nearest
from polyface.specs import DetectorSpec, WeightsFile

SUFFIXES = (".pth", ".pt", ".safetensors")
"""What a user's own checkpoint ends in; a choice without such an ending and without a slash is a manifest name."""


@frozen(kw_only=True)
class Weights:
    """A choice of weights for a detector: an entry of its manifest, the user's own file, or none at all."""

    detector: str
    sha256: str = ""
    file: WeightsFile | None = None
    own: Path | None = None

    @property
    def name(self) -> str | None:
        """The name in the manifest, or ``None``."""
        return self.file.name if self.file else None

    @property
    def label(self) -> str:
        """What to call it in a message."""
        return self.name or (str(self.own) if self.own else "none")

    def locate(self) -> Path | None:
        """Return the file, its sha256 checked; ``None`` for a detector that has no weights.

        Raises:
            WeightsNotFoundError: the file is not on this machine.
            WeightsMismatchError: it is there, but is not the file the manifest describes.
        """
        if self.file is None:
            return self.own
        path = self.file.ref.path() if self.file.ref else home() / "weights" / self.file.filename
        if not path.is_file():
            raise WeightsNotFoundError(
                f"The weights '{self.file.name}' of '{self.detector}' are not on this machine.",
                why=[f"looked for {path}", f"licence: {self.file.license}"],
                fix=shlex.join(
                    ["curl", "--fail", "--location", "--create-dirs", "--output", str(path), self.file.urls[0]]
                ),
            )
        return verified(path, self.file.sha256)


def home() -> Path:
    """Return polyface's folder for weights and artifacts: ``POLYFACE_HOME``, or the user's cache folder."""
    import platformdirs

    chosen = os.environ.get("POLYFACE_HOME")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("polyface", appauthor=False)


def choose(detector: DetectorSpec, choice: str | None) -> Weights:
    """Return the weights that ``choice`` selects: a manifest name, a path, or ``None`` for the detector's default.

    Raises:
        UnknownNameError: the manifest has no such name.
        WeightsNotFoundError: there is no such file.
    """
    if choice is None:
        first = detector.weights[0] if detector.weights else None
        return Weights(detector=detector.name, file=first, sha256=first.sha256 if first else "")
    if is_path(choice):
        path = Path(choice).expanduser()
        if not path.is_file():
            raise WeightsNotFoundError(
                f"There is no file of weights at {path.absolute()}.",
                why=["an exported graph of your own weights is found by their sha256, so the file must be here, too"],
                fix="name a file that exists",
            )
        return Weights(detector=detector.name, own=path.absolute(), sha256=sha256_of(path))
    for file in detector.weights:
        if file.name == choice:
            return Weights(detector=detector.name, file=file, sha256=file.sha256)
    names = [file.name for file in detector.weights]
    raise UnknownNameError(
        f"'{detector.name}' has no weights named '{choice}'{nearest(choice, names) or '.'}",
        why=[f"it has: {', '.join(names) or 'none'}"],
        fix=f"name one of these, or a file that ends in {', '.join(SUFFIXES)}",
    )


def is_path(choice: str) -> bool:
    """Return whether a choice of weights is a path, not a name in a manifest."""
    return Path(choice).suffix.lower() in SUFFIXES or "/" in choice or os.sep in choice


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def verified(path: Path, sha256: str) -> Path:
    """Return ``path`` if the file has that sha256.

    Raises:
        WeightsMismatchError: it has another: it was cut short, changed, or is a different file.
    """
    actual = sha256_of(path)
    if actual != sha256:
        raise WeightsMismatchError(
            f"{path} is not the file it should be.",
            why=[f"sha256 {actual}", f"expected {sha256}", f"{path.stat().st_size} bytes"],
            fix=f"delete it and get it again: rm {shlex.quote(str(path))}",
        )
    return path
