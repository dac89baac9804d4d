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
from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import frozen

from polyface.planning import Reason
from polyface.specs import DetectorSpec, Ref
from polyface.weights import home, sha256_of

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
    """A folder of exported graphs; by default ``artifacts`` in polyface's home."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = home() / "artifacts" if root is None else root

    def find(self, key: ArtifactKey) -> Path | Reason:
        """Return the stored graph, or why there is none that can be used."""
        folder = self.root / key.digest
        if not folder.exists():
            return Reason(subject=f"{key.kind} artifact", why=f"none is stored in {self.root}")
        problem = _problem(folder, key)
        if problem is None:
            return folder / _manifest(folder)["file"]
        return Reason(
            subject=f"{key.kind} artifact",
            why=f"{folder} is refused: {problem}",
            fix=f"rm -r {shlex.quote(str(folder))}",
        )

    def put(self, key: ArtifactKey, write: Callable[[Path], Path], provenance: Mapping[str, str]) -> Path:
        """Store the graph that ``write`` writes into the empty folder it is given, and return where it lies.

        Two processes may do so at once: the folder is made aside and moved into its place whole, and the first to
        arrive is kept.

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
            if folder.exists() and _problem(folder, key) is not None:
                shutil.rmtree(folder)
            try:
                aside.replace(folder)
            except OSError:
                if _problem(folder, key) is not None:
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return folder / _manifest(folder)["file"]


def _manifest(folder: Path) -> dict[str, str]:
    manifest: dict[str, str] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return manifest


def _problem(folder: Path, key: ArtifactKey) -> str | None:
    """Why the folder does not hold the whole graph of that key, or ``None``."""
    try:
        manifest = _manifest(folder)
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
