"""Exported graphs, stored under a key made of their content: network, graph version, weights and graph kind.

The key needs no converter, so a machine without torch finds what another machine exported. A folder holds the graph,
under a name that is made of its content, and ``manifest.json``, which says which file is the graph. It appears whole or
not at all, and is replaced by replacing the manifest: whoever has read the one before still finds its graph, for a day.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from polyface.errors import ArtifactError, ConfigError, Fix, Reason, shortened
from polyface.plugins.records import DetectorSpec, Ref
from polyface.settings.config import Config
from polyface.settings.paths import expand_user, home
from polyface.storage.files import ABANDONED, atomic_write, read_json, remove_abandoned_folders, sha256_of

MANIFEST = "manifest.json"
NEW_FOLDER_PREFIX = ".new-"
"""How the name of a folder begins while it is being written."""


@frozen(kw_only=True)
class ArtifactKey:
    """What makes two graphs the same graph."""

    detector: str
    network: str  # what builds it, which tells apart two distributions that share a detector's name
    graph_version: int
    weights_sha256: str  # empty for a detector that has none
    kind: str

    @classmethod
    def of(cls, detector: DetectorSpec, weights_sha256: str, kind: str) -> ArtifactKey:
        """Return the key of a detector's graph of one kind with these weights."""
        return cls(
            detector=detector.name,
            network=" ".join(graph.ref.target for graph in detector.graphs if isinstance(graph.ref, Ref))
            or _declared(detector),
            graph_version=detector.graph_version,
            weights_sha256=weights_sha256,
            kind=kind,
        )

    @property
    def digest(self) -> str:
        """The folder's name: sha256 of the fields."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def _declared(detector: DetectorSpec) -> str:
    """What converters make of a file that is the graph: what the record declares, calibrated on what it prepares."""
    tensors = [f"{tensor.name}{list(tensor.dims)}" for tensor in (detector.input, *detector.outputs)]
    mean, std = ([*map(float, part)] for part in (detector.preprocess.mean, detector.preprocess.std))
    return " ".join([*tensors, f"{detector.preprocess.channels} mean{mean} std{std}"])


class ArtifactStore:
    """A folder of exported graphs.

    Args:
        root: where graphs are stored and found; by default ``artifacts`` in polyface's home.
        named: a folder that the user named, searched before ``root`` and never written to.

    Raises:
        ConfigError: there is no such user as ``named`` begins with.
    """

    def __init__(self, root: Path | None = None, *, named: str | Path | None = None) -> None:
        self._root = root
        self.named = None if named is None else expand_user(named).absolute()

    @property
    def root(self) -> Path:
        """Where graphs are stored and found.

        Raises:
            ConfigError: it is polyface's home, and there is none.
        """
        return home() / "artifacts" if self._root is None else self._root

    def holds(self, path: Path) -> bool:
        """Return whether a file lies in ``root``, wherever a link or ``..`` leads."""
        try:
            return path.resolve().is_relative_to(self.root.resolve())
        except ConfigError:  # without a home nothing lies in it
            return False

    def find(self, key: ArtifactKey, again: Sequence[str] = ()) -> Path | Reason:
        """Return the stored graph, or why there is none that can be used.

        Args:
            key: of the graph.
            again: the command that makes it again, as its words, for a message; ``polyface export`` by default.

        Raises:
            ArtifactError: the graph in the folder that the user named is damaged, or is another. Nothing else is
                looked for then, since that folder was asked for.
        """
        roots = [] if self.named is None else [self.named]
        homeless = ""
        try:
            roots.append(self.root)
        except ConfigError as error:  # what ships with a plugin needs no home
            homeless = "; ".join([error.what.rstrip("."), *error.why])
        for root in roots:
            folder = root / key.digest
            try:
                if not folder.exists():
                    continue
            except PermissionError as error:  # another user's home
                return Reason(subject=f"{key.kind} artifact", why=str(error))
            graph = _whole(folder, key)
            if isinstance(graph, Path):
                return graph
            why = f"{folder} is refused: {graph}"
            output = ["--output", str(root)] if root is self.named else []
            command = again or ["polyface", "export", key.detector, "--to", key.kind]
            fix = Fix(command=f"rm -r {shlex.quote(str(folder))} && {shlex.join([*command, *output])}")
            if root is self.named:
                raise ArtifactError(f"The exported graph of '{key.detector}' cannot be used.", why=[why], fix=fix)
            return Reason(subject=f"{key.kind} artifact", why=why, fix=fix)
        others = [other for root in roots for other in _others(root, key)]
        return Reason(
            subject=f"{key.kind} artifact",
            why=(f"none is stored in {' or '.join(map(str, roots))}" if roots else homeless)
            + (f" of {_content(asdict(key))}; there is one of {', one of '.join(others)}" if others else ""),
        )

    def put(
        self, key: ArtifactKey, write: Callable[[Path], Path], provenance: Mapping[str, str], *, replace: bool = False
    ) -> Path:
        """Store the graph that ``write`` writes into the empty folder it is given, and return where it lies.

        Any number of processes may do so at once, while others read: the first to arrive is kept, and with ``replace``
        the last. What it takes the place of stays for a day, for those who have just found it.

        Args:
            key: of the graph.
            write: what writes it, as one file; returns its path.
            provenance: where it comes from, for ``manifest.json``.
            replace: put it into the place of one that is there.

        Raises:
            OSError: the folder cannot be written to.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        remove_abandoned_folders(self.root, f"{NEW_FOLDER_PREFIX}*")
        folder = self.root / key.digest
        aside = Path(tempfile.mkdtemp(prefix=NEW_FOLDER_PREFIX, dir=self.root))
        try:
            graph = write(aside)
            digest = sha256_of(graph)
            graph = graph.rename(aside / f"{graph.stem}.{digest[:16]}{graph.suffix}")
            manifest = {**asdict(key), "file": graph.name, "sha256": digest, "provenance": dict(provenance)}
            with atomic_write(aside / MANIFEST) as stream:
                stream.write((json.dumps(manifest, indent=2) + "\n").encode())
            aside.chmod(0o755)
            try:
                aside.rename(folder)
                return folder / graph.name
            except OSError:
                if not folder.exists():  # or else there is one, or somebody was faster
                    raise
            there = _whole(folder, key)
            if isinstance(there, Path) and not replace:
                return there
            _supersede(folder, graph)
            (aside / MANIFEST).replace(folder / MANIFEST)
            return folder / graph.name
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _supersede(folder: Path, graph: Path) -> None:
    """Move a graph into a folder and note the time on those that are there, which are removed a day after this."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another writer may do the same
            if time.time() - path.stat().st_mtime > ABANDONED and path.name not in (MANIFEST, _current(folder)):
                path.unlink()
    graph.replace(folder / graph.name)
    with contextlib.suppress(OSError):
        os.utime(folder / _current(folder))


def _current(folder: Path) -> str:
    """The name of the graph in a folder, or an empty text where its manifest is damaged."""
    with contextlib.suppress(OSError, ValueError):
        return str(read_manifest(folder)["file"])
    return ""


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of an artifact's folder: the key's fields, ``file``, ``sha256`` and ``provenance``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no manifest.
    """
    manifest = read_json(folder / MANIFEST)
    texts = ("detector", "network", "weights_sha256", "kind", "file", "sha256")
    wanted = {**dict.fromkeys(texts, str), "graph_version": int, "provenance": dict}
    for field, kind in wanted.items():
        if type(manifest.get(field)) is not kind:
            raise ValueError(f"{MANIFEST} has no '{field}'")
    if not all(isinstance(value, str) for value in manifest["provenance"].values()):
        raise ValueError(f"{MANIFEST} has a 'provenance' that is not of texts")
    name = manifest["file"]
    if Path(name).name != name:
        raise ValueError(f"{MANIFEST} names a file outside the folder")
    return manifest


def _whole(folder: Path, key: ArtifactKey) -> Path | str:
    """Return the graph of that key in a folder, or why there is none that is whole."""
    try:
        manifest = read_manifest(folder)
        for field, value in asdict(key).items():
            if manifest[field] != value:
                there = repr(manifest[field])[:100]
                return f"it is of another {field.replace('_', ' ')}: {there}, not {value!r}"
        path = folder / str(manifest["file"])
        if not path.is_file():
            return f"{path.name!r}, which {MANIFEST} names, is no file"
        if sha256_of(path) != manifest["sha256"]:
            return f"{path.name!r} is damaged: its sha256 is not the one in {MANIFEST}"
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return path


def _others(root: Path, key: ArtifactKey) -> list[str]:
    """What is stored of the same detector in the same kind: other weights, or another version of the graph."""
    found = []
    for path in sorted(root.glob(f"*/{MANIFEST}")):
        with contextlib.suppress(OSError, ValueError):  # whatever lies there is no graph of ours
            manifest = read_manifest(path.parent)
            if (manifest["detector"], manifest["kind"]) == (key.detector, key.kind):
                content = _content(manifest)
                same = content == _content(asdict(key))
                found.append("these, for input prepared otherwise or of another network" if same else content)
    return found


def _content(manifest: Mapping[str, Any]) -> str:
    weights, version = (repr(manifest[field])[:14].strip("'") for field in ("weights_sha256", "graph_version"))
    return f"the weights {weights[:12] or 'none'} (graph version {version})"


def open_store(config: Config) -> ArtifactStore:
    """Return where the settings say that graphs are stored.

    Raises:
        ConfigError: ``artifacts`` names no folder.
    """
    store = ArtifactStore(named=config.artifacts)
    if store.named is not None and not store.named.is_dir():
        choice = [] if config.weights is None else ["--weights", config.weights]
        raise ConfigError(
            f"artifacts must name a folder that exists, not {shortened(str(store.named), 500)}.",
            fix=Fix(command=shlex.join(["polyface", "export", config.detector, *choice, "--output", str(store.named)])),
        )
    return store
