"""Which detectors a benchmark takes, and with which weights: their own, those of a folder, or seeded random ones.

Speed and memory do not depend on the numbers in a network, but the faces that are found in an image do, and what
decoding and merging them takes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import polyface
from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import DetectorSpec, GraphSource
from polyface.settings.paths import GRAPH_SUFFIXES
from polyface.storage.files import sha256_of


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that :func:`select_detectors` and :func:`choose_weights` read."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "detectors",
        nargs="*",
        default=["retinaface-mobilenet025"],
        metavar="DETECTOR",
        help="default: %(default)s; all: every one that PyTorch runs",
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--weights", metavar="NAME|FILE|FOLDER", help="of a folder, the file that is the detector's")
    choice.add_argument("--seeded", action="store_true", help="random weights instead; needs torch")
    return parser


def select_detectors(names: list[str]) -> list[DetectorSpec]:
    """Return the records of these detectors; of ``all``, those of every one with weights that PyTorch runs.

    Raises:
        SystemExit: there is no such detector.
    """
    plugins = installed_plugins()
    if names == ["all"]:
        return [spec for spec in plugins.by_name(DetectorSpec).values() if spec.weights and find_module(spec)]
    try:
        return [plugins.get(DetectorSpec, name) for name in names]
    except polyface.PolyfaceError as error:
        raise SystemExit(str(error)) from None


def choose_weights(spec: DetectorSpec, options: argparse.Namespace, folder: Path) -> str | None:
    """Return the setting ``weights`` that the options ask for; seeded ones are written to ``folder``.

    Where they ask for a folder that lacks them, it is ``None``: the detector's default, which is refused where it is
    not on this machine.
    """
    if options.seeded:
        return str(write_seeded(spec, folder))
    if options.weights and Path(options.weights).is_dir():
        return find_weights(spec, Path(options.weights))
    chosen: str | None = options.weights
    return chosen


def find_module(spec: DetectorSpec) -> GraphSource | None:
    """Return how PyTorch builds the detector's network, or ``None``."""
    return next((graph for graph in spec.graphs if graph.kind == "torch-module"), None)


def write_seeded(spec: DetectorSpec, folder: Path) -> Path:
    """Write random weights, the same each time, and return the file.

    Raises:
        SystemExit: PyTorch does not build this detector's network.
    """
    module = find_module(spec)
    if module is None:
        raise SystemExit(f"PyTorch does not build {spec.name}, so it has no seeded weights; name a file of its own")
    from safetensors.torch import save_file

    path = folder / f"{spec.name}.safetensors"
    builder: Any = module.ref
    save_file(builder.load()(None, seed=1).state_dict(), path)
    return path


def find_weights(spec: DetectorSpec, folder: Path) -> str | None:
    """Return the setting ``weights`` for a detector's own: packaged, or the file of ``folder`` with their sha256.

    A checkpoint goes before a graph, which PyTorch does not take. It is ``None`` where neither is there.
    """
    there = {sha256_of(path): path for path in folder.iterdir() if path.is_file()}
    for file in sorted(spec.weights, key=lambda file: Path(file.filename).suffix in GRAPH_SUFFIXES):
        if file.ref is not None:
            return file.name
        if file.sha256 in there:
            return str(there[file.sha256])
    return None
