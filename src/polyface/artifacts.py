"""Exported graphs, stored under a key made of their content: network, graph version, weights and graph kind.

The key needs no converter, so a machine without torch finds what another machine exported. A folder holds the graph and
``manifest.json``; it appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from polyface.errors import ArtifactError
from polyface.planning import Reason, making
from polyface.specs import ConverterSpec, DetectorSpec, Ref
from polyface.weights import Weights, home, sha256_of

MANIFEST = "manifest.json"


@frozen(kw_only=True)
class ArtifactKey:
    """What makes two graphs the same graph.

    Args:
        detector: its name.
        network: what builds its network, which tells apart two distributions that share a detector's name.
        graph_version: the record's.
        weights_sha256: of the weights, or an empty text for a detector that has none.
        kind: the graph kind.
    """

    detector: str
    network: str
    graph_version: int
    weights_sha256: str
    kind: str

    @classmethod
    def of(cls, detector: DetectorSpec, weights_sha256: str, kind: str) -> ArtifactKey:
        """Return the key of a detector's graph of one kind with these weights."""
        return cls(
            detector=detector.name,
            network=" ".join(graph.ref.target for graph in detector.graphs if isinstance(graph.ref, Ref)),
            graph_version=detector.graph_version,
            weights_sha256=weights_sha256,
            kind=kind,
        )

    def as_json(self) -> dict[str, str | int]:
        """Return the fields by name."""
        return {
            "detector": self.detector,
            "network": self.network,
            "graph_version": self.graph_version,
            "weights_sha256": self.weights_sha256,
            "kind": self.kind,
        }

    @property
    def digest(self) -> str:
        """The folder's name: sha256 of the fields."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()


class ArtifactStore:
    """A folder of exported graphs.

    Args:
        root: where graphs are stored and found; by default ``artifacts`` in polyface's home.
        named: a folder that the user named, searched before ``root`` and never written to.
    """

    def __init__(self, root: Path | None = None, *, named: Path | None = None) -> None:
        self.root = home() / "artifacts" if root is None else root
        self.named = named

    def find(self, key: ArtifactKey, again: Sequence[str] = ()) -> Path | Reason:
        """Return the stored graph, or why there is none that can be used.

        Args:
            key: of the graph.
            again: the command that makes it again, as its words, for a message; ``polyface export`` by default.

        Raises:
            ArtifactError: the graph in the folder that the user named is damaged, or is another. Nothing else is
                looked for then, since that folder was asked for.
        """
        roots = [root for root in (self.named, self.root) if root is not None]
        for root in roots:
            folder = root / key.digest
            if not folder.exists():
                continue
            problem = _problem(folder, key)
            if problem is None:
                return folder / str(read_manifest(folder)["file"])
            why = f"{folder} is refused: {problem}"
            output = ["--output", str(root)] if root is self.named else []
            command = again or ["polyface", "export", key.detector, "--to", key.kind]
            fix = f"rm -r {shlex.quote(str(folder))} && {shlex.join([*command, *output])}"
            if root is self.named:
                raise ArtifactError(f"The exported graph of '{key.detector}' cannot be used.", why=[why], fix=fix)
            return Reason(subject=f"{key.kind} artifact", why=why, fix=fix)
        others = [other for root in roots for other in _others(root, key)]
        return Reason(
            subject=f"{key.kind} artifact",
            why=f"none is stored in {' or '.join(map(str, roots))}"
            + (f" of {_content(key.as_json())}; there is one of {', one of '.join(others)}" if others else ""),
        )

    def finder(
        self, detector: DetectorSpec, converters: Sequence[ConverterSpec], weights: Weights
    ) -> Callable[[str], Path | Reason]:
        """Return what finds the graph of a kind of a detector with these weights; for the planner."""

        def stored(kind: str) -> Path | Reason:
            key = ArtifactKey.of(detector, weights.sha256, kind)
            return self.find(key, making(detector, kind, converters, weights))

        return stored

    def put(
        self,
        key: ArtifactKey,
        write: Callable[[Path], Path],
        provenance: Mapping[str, str],
        *,
        replace: bool = False,
    ) -> Path:
        """Store the graph that ``write`` writes into the empty folder it is given, and return where it lies.

        Two processes may do so at once: the folder is made aside and moved into its place whole, and the first to
        arrive is kept.

        Args:
            key: of the graph.
            write: what writes it; returns its path.
            provenance: where it comes from, for ``manifest.json``.
            replace: put it into the place of one that is there.

        Raises:
            OSError: the folder cannot be written to.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        folder = self.root / key.digest
        aside = Path(tempfile.mkdtemp(prefix=".new-", dir=self.root))
        try:
            graph = write(aside)
            manifest = {
                **key.as_json(),
                "file": graph.name,
                "sha256": sha256_of(graph),
                "provenance": dict(provenance),
            }
            (aside / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
            aside.chmod(0o755)
            if folder.exists() and (replace or _problem(folder, key) is not None):
                shutil.rmtree(folder)
            try:
                aside.replace(folder)
            except OSError:
                if _problem(folder, key) is not None:
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return folder / str(read_manifest(folder)["file"])


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of an artifact's folder: the key's fields, ``file``, ``sha256`` and ``provenance``."""
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return manifest


def _problem(folder: Path, key: ArtifactKey) -> str | None:
    """Why the folder does not hold the whole graph of that key, or ``None``."""
    try:
        manifest = read_manifest(folder)
        name = manifest["file"]
        if Path(name).name != name:
            return f"{MANIFEST} names a file outside the folder"
        for field, value in key.as_json().items():
            if manifest[field] != value:
                return f"it is of another {field.replace('_', ' ')}: {manifest[field]!r}, not {value!r}"
        if sha256_of(folder / name) != manifest["sha256"]:
            return f"{name} is damaged: its sha256 is not the one in {MANIFEST}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _others(root: Path, key: ArtifactKey) -> list[str]:
    """What is stored of the same detector in the same kind: other weights, or another version of the graph."""
    found = []
    for path in sorted(root.glob(f"*/{MANIFEST}")):
        try:
            manifest = read_manifest(path.parent)
            if (manifest["detector"], manifest["kind"]) == (key.detector, key.kind):
                found.append(_content(manifest))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # whatever lies there is no graph of ours
    return found


def _content(manifest: Mapping[str, Any]) -> str:
    return f"the weights {str(manifest['weights_sha256'])[:12] or 'none'} (graph version {manifest['graph_version']})"
