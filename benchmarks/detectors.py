"""Which detector should I take? Every one whose weights are on this machine: average precision, time and memory.

Average precision is that of ``polyface evaluate widerface --view plain`` on ONNX Runtime: each image once, at its own
size, down to a score of 0.02. Times are of the whole call from an array, at the detector's own threshold, in rounds
that all take part in; memory is the peak of a process that does nothing else. Run from here: ``python detectors.py``,
or with names of detectors, and ``--limit 20 --output DIR`` for a trial. It writes ``detectors.json``, draws
``detectors.png`` and fills README.md between its marks; ``--from detectors.json`` does the last two anew, and measures
nothing.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polyface
from polyface.errors import explain
from polyface.graphs.weights import select_weights
from polyface.measure.evaluate import select_truth
from polyface.measure.plots import make_figure, save
from polyface.measure.rounds import Contender, Measurement, Samples, machine, measure, polyface_detector
from polyface.measure.widerface import SUBSETS, Truth, average_precision, read_truth
from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import DetectorSpec
from polyface.storage.files import sha256_of
from polyface.writers.wider import as_rows

HERE = Path(__file__).parent
STORED = HERE / "detectors.json"
REFERENCE = "retinaface-mobilenet025"
SIZE = (687, 1024)
"""Height and width of the image that is timed."""

IMAGE = HERE.parent / "examples/collage.jpg"
LOWEST = 0.02
"""The score from which on faces count for average precision."""

COMMON: dict[str, Any] = {"backend": "onnxruntime", "device": "cpu", "precision": "fp32", "view": "plain"}
NOT_AT_HAND = "weights not at hand"

COLUMNS = (
    *("detector", *SUBSETS, "median", f"time, `{REFERENCE}` = 1", "peak memory", "its network sees faces of"),
    *("weights", "licence (bold: for research only)", "how to get them"),
)


def find_weights(spec: DetectorSpec, folder: Path) -> str | None:
    """Return the setting ``weights`` that takes a detector's default ones: the file of ``folder`` with their sha256.

    It is ``None`` where they are packaged or fetched.

    Raises:
        WeightsNotFoundError: they are in none of these places.
        WeightsMismatchError: the packaged or the fetched file is another one.
    """
    chosen = select_weights(spec, None)
    try:
        chosen.locate()
    except polyface.WeightsNotFoundError:
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.is_file() and sha256_of(path) == chosen.sha256:
                return str(path)
        raise
    return None


def choose_images(images: Path, ground_truth: Path, limit: int | None) -> tuple[dict[str, Truth], int]:
    """Return the ground truth of those images that are there, at most so many, spread evenly; and of how many.

    Raises:
        SystemExit: no face of them counts in a subset.
    """
    every_truth = read_truth(ground_truth)
    there, _ = select_truth(every_truth, images)
    count = min(limit or len(there), len(there))
    chosen = [list(there)[place * len(there) // count] for place in range(count)]
    truth = {name: there[name] for name in chosen}
    for subset in SUBSETS:
        if not any(subset in one.counted and one.counted[subset].any() for one in truth.values()):
            raise SystemExit(f"No face of these {count} images counts as {subset}: take more images, or other lists.")
    return truth, len(every_truth)


def evaluate(settings: Mapping[str, Any], truth: Mapping[str, Truth], images: Path) -> dict[str, float]:
    """Return a detector's average precision by subset, in percent."""
    with polyface.create_detector(score_threshold=LOWEST, **settings) as detector:
        found = {name: as_rows(detector.detect(images / f"{name}.jpg")) for name in truth}
    return average_precision(truth, found)


def describe(
    spec: DetectorSpec, precision: Mapping[str, float], one: Measurement, first: Measurement | None
) -> dict[str, Any]:
    """Return what JSON keeps of a detector; times are in seconds, memory is in bytes."""
    return {
        "detector": spec.name,
        "average_precision": dict(precision),
        "quartiles": list(one.quartiles),
        "times_as_long": first and 1 / one.times_as_fast(first),
        "peak_memory": one.peak_memory,
        "face_sizes": spec.face_sizes and list(spec.face_sizes),
        **describe_weights(spec),
        "facts": dict(one.facts),
    }


def describe_weights(spec: DetectorSpec) -> dict[str, Any]:
    """Return what JSON keeps of a detector's default weights, and of their terms."""
    [file, *_] = spec.weights
    return {
        "weights": {"name": file.name, "bytes": file.size, "sha256": file.sha256, "packaged": file.ref is not None},
        "license": file.license,
        "research_only": file.research_only,
    }


def installed() -> dict[str, DetectorSpec]:
    """Return the detectors that have weights, by name."""
    return {name: one for name, one in installed_plugins().by_name(DetectorSpec).items() if one.weights}


def measure_all(
    names: Sequence[str], *, weights: Path, images: Path, ground_truth: Path, limit: int | None, rounds: int
) -> dict[str, Any]:
    """Return the report: what was measured, on what, and why other detectors were not.

    Args:
        names: of detectors.
        weights: where files of weights are looked for, too.
        images: a folder of images for each event.
        ground_truth: as in :func:`polyface.measure.widerface.read_truth`.
        limit: evaluate at most so many of the images, spread evenly; ``None`` for all.
        rounds: of timing.
    """
    host = machine()  # first, since the work below is load, too
    records = installed()
    truth, of = choose_images(images, ground_truth, limit)
    settings, precision, unmeasured = {}, {}, {}
    for name in names:
        try:
            settings[name] = {"detector": name, "weights": find_weights(records[name], weights), **COMMON}
            print(f"{name}: {len(truth)} images", flush=True)
            precision[name] = evaluate(settings[name], truth, images)
        except polyface.WeightsNotFoundError:
            unmeasured[name] = NOT_AT_HAND
        except polyface.PolyfaceError as error:
            unmeasured[name] = explain(error)[0][0]
    samples = Samples(size=SIZE, batch=1, paths=(IMAGE,))
    contenders = [
        Contender(
            label=name, make=functools.partial(polyface_detector, polyface.Config(**settings[name])), samples=samples
        )
        for name in precision
    ]
    found, interrupted = measure(contenders, rounds=rounds)
    if interrupted:
        raise SystemExit("interrupted")
    unmeasured |= {one.contender.label: one.why.partition("\n")[0] for one in found if one.why}
    timed = {one.contender.label: one for one in found if not one.why}
    first = timed.get(REFERENCE)
    return {
        "machine": host,
        "images": {"evaluated": len(truth), "of": of},
        "size": list(SIZE),
        "rounds": rounds,
        "measured": [describe(records[name], precision[name], one, first) for name, one in timed.items()],
        "unmeasured": unmeasured,
    }


def sort(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows, the quickest first."""
    return sorted(report["measured"], key=lambda row: row["quartiles"][1])


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return what the table says of a detector, by column."""
    low_to_high = row["face_sizes"] and "{:g} to {:g} px".format(*row["face_sizes"])
    weights, memory, ratio = row["weights"], row["peak_memory"], row["times_as_long"]
    return [
        f"`{row['detector']}`",
        *(f"{row['average_precision'][subset]:.2f}" for subset in SUBSETS),
        f"{row['quartiles'][1] * 1000:.1f} ms",
        "-" if ratio is None else f"{ratio:.2f}",
        "-" if memory is None else f"{memory / 1e6:.0f} MB",
        low_to_high or "every size",
        f"{weights['bytes'] / 1e6:.1f} MB",
        f"**{row['license']}**" if row["research_only"] else row["license"],
        "in the wheel" if weights["packaged"] else f"`polyface fetch {row['detector']}`",
    ]


def make_table(report: Mapping[str, Any]) -> str:
    """Return the report as Markdown: the table, what was not measured, and on what the rest was."""
    host, images = report["machine"], report["images"]
    height, width = report["size"]
    table = [COLUMNS, ["---"] * len(COLUMNS), *(cells(row) for row in sort(report))]
    reasons = [f"`{name}` ({why})" for name, why in sorted(report["unmeasured"].items())]
    return "\n".join(
        [
            *(f"| {' | '.join(row)} |" for row in table),
            *(["", f"Not measured: {', '.join(reasons)}."] if reasons else []),
            "",
            f"Average precision over {images['evaluated']} of the {images['of']} images; an image of {width}x{height},",
            f"median of {report['rounds']} rounds. {host['cpu']}, {host['usable_cores']} of {host['cores']} cores,",
            f"load {host['load']} at the start, {host['system']}, {host['date']}.",
        ]
    )


def insert(document: str, name: str, text: str) -> str:
    """Return the document with the text between the marks of that name.

    Raises:
        ValueError: it lacks a mark.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = document.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the document lacks {begin} or {end}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def insert_into(document: Path, name: str, text: str) -> None:
    """:func:`insert`, into a file, if there is one."""
    if document.is_file():
        document.write_text(insert(document.read_text(encoding="utf-8"), name, text), encoding="utf-8")


def store(report: Mapping[str, Any], path: Path) -> None:
    """Write a report, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def fill(report: Mapping[str, Any]) -> str:
    """Return what stands between the marks of README.md: the chart and the table."""
    alternative = "Average precision, medium and hard, over milliseconds"
    return f"![{alternative}]({STORED.with_suffix('.png').name})\n\n{make_table(report)}"


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draw average precision, medium and hard, over milliseconds; hollow where the weights are for research only."""
    rows = sort(report)
    drawing = make_figure(path, rows=9)
    axes = drawing.add_subplot(xlabel="milliseconds an image, the whole call", ylabel="Average precision, %")
    axes.set_xscale("log")
    axes.grid(alpha=0.3, which="both")
    for subset, colour, marker in (("medium", "tab:blue", "o"), ("hard", "tab:red", "s")):
        axes.plot([], [], color=colour, marker=marker, linestyle="", label=subset)
        for row in rows:
            place = row["quartiles"][1] * 1000, row["average_precision"][subset]
            axes.plot(*place, color=colour, marker=marker, fillstyle="none" if row["research_only"] else "full")
    for row in rows:
        place = row["quartiles"][1] * 1000
        ends = [row["average_precision"][subset] for subset in ("medium", "hard")]
        axes.plot([place, place], ends, color="grey", linewidth=0.8, zorder=0)
        text = {"xytext": (3, 5), "textcoords": "offset points", "rotation": 60, "fontsize": "small"}
        axes.annotate(row["detector"], (place, max(ends)), **text)
    if rows:  # ticks that can be read, and room for the names
        values = [row["average_precision"][subset] for row in rows for subset in ("medium", "hard")]
        axes.set_ylim(min(values) - 2, max(values) + (max(values) - min(values)) / 2 + 5)
        low, high = (rows[end]["quartiles"][1] * 1000 for end in (0, -1))
        axes.set_xlim(low / 1.3, high * 2)
        ticks = [tick for ten in (1, 10, 100, 1000) for tick in (ten, 2 * ten, 5 * ten) if low / 1.3 < tick < high * 2]
        axes.set_xticks(ticks, map(str, ticks))
        axes.set_xticks([], minor=True)
    axes.plot(
        [], [], color="grey", marker="o", linestyle="", fillstyle="none", label="hollow: weights for research only"
    )
    axes.set_yticks([tick for tick in axes.get_yticks() if axes.get_ylim()[0] < tick <= 100])
    drawing.legend(loc="outside lower center", ncols=3, fontsize="small")
    height, width = report["size"]
    host = report["machine"]
    evaluated = f"WIDER FACE, {report['images']['evaluated']} images"
    timed = f"{width}x{height}, {report['rounds']} rounds, {host['cpu']}, {host['usable_cores']} cores"
    axes.set_title(f"{evaluated}; {timed}", fontsize="small")
    save(drawing, path)


def main(arguments: Sequence[str] | None = None) -> None:
    shared = Path(os.environ["POLYFACE_SHARED"]) if "POLYFACE_SHARED" in os.environ else None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="DETECTOR", help="default: all that are installed")
    parser.add_argument("--from", type=Path, dest="stored", metavar="FILE", help="of an earlier run: measure nothing")
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        default=shared and shared / "widerface/WIDER_val/images",
        help="as in polyface evaluate; default: of $POLYFACE_SHARED",
    )
    parser.add_argument(
        "--ground-truth",
        type=Path,
        metavar="DIR|FILE",
        default=shared and shared / "widerface/ground_truth",
        help="as in polyface evaluate; default: of $POLYFACE_SHARED",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        default=shared and shared / "weights",
        help="where files of weights are looked for beside wheels and polyface's home, by their sha256; likewise",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="evaluate so many of the images, spread evenly")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--output", type=Path, metavar="DIR", default=HERE, help="default: beside this script")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - installed().keys())
    if unknown:
        parser.error(f"no such detector with weights: {', '.join(unknown)}; there are {', '.join(sorted(installed()))}")
    if options.limit is not None and options.limit < 1:
        parser.error("--limit: 1 at least")
    if options.stored:
        report = json.loads(options.stored.read_text(encoding="utf-8"))
    elif options.images is None or options.ground_truth is None:
        parser.error("--images and --ground-truth are needed, or POLYFACE_SHARED")
    else:
        report = measure_all(
            options.names or sorted(installed()),
            weights=options.weights or Path(os.devnull),
            images=options.images,
            ground_truth=options.ground_truth,
            limit=options.limit,
            rounds=options.rounds,
        )
        store(report, options.output / STORED.name)
    print(make_table(report))
    draw(report, options.output / STORED.with_suffix(".png").name)
    insert_into(options.output / "README.md", STORED.stem, fill(report))


if __name__ == "__main__":
    main()
