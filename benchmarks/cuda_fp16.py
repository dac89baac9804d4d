"""How fast detectors' networks run on a GPU: eager PyTorch in fp32 and fp16, and cuda-fp16 without and with graphs.

Prints a table in Markdown, a row a detector and shape::

    python benchmarks/cuda_fp16.py --device cuda:0
    python benchmarks/cuda_fp16.py all --seeded --json network.json

A time is the median of 50 turns, or of as many as end within ``--seconds``; all that is compared takes each turn, so
that what disturbs one disturbs all. It is a session's, from float32 on the host to float32 on the host: reading,
resizing and decoding are the same for all. Exit status is 1 where something was not run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from weights import choose_weights, make_parser, select_detectors

import polyface
from polyface.building import load, resolve
from polyface.graphs.plan import plan
from polyface.graphs.resolve import load_graph
from polyface.measure.rounds import machine
from polyface.plugins.manager import installed_plugins
from polyface.plugins.options import check_options
from polyface.plugins.protocols import CompileRequest, Session
from polyface.plugins.records import DetectorSpec
from polyface.settings.config import Config

RUNS: dict[str, dict[str, Any]] = {
    "torch, fp32": {"backend": "torch", "precision": "fp32"},
    "torch, fp16": {"backend": "torch", "precision": "fp16"},
    "cuda-fp16, graphs=0": {"backend": "cuda-fp16", "precision": "fp16", "backend_options": {"graphs": 0}},
    "cuda-fp16": {"backend": "cuda-fp16", "precision": "fp16"},
}
"""What is compared; the others are related to the first that runs."""

SHAPES = ("1x480x640", "8x480x640", "1x704x1024", "8x704x1024")
"""Batch, height and width."""

FIRST = ("torch, fp32", "torch, fp16")
"""Those whose first run at a shape is told: what came later in the same precision finds cuDNN's plans."""

WARM_UPS = 5
TURNS = 50


def open_session(config: Config) -> Session:
    """Return the network of a detector on its backend, without what is before and after it.

    Raises:
        PolyfaceError: as :func:`polyface.create_detector`.
    """
    loaded = load(plan(resolve(config, installed_plugins())))
    chosen = loaded.selection
    request = CompileRequest(
        device=loaded.device,
        precision=config.precision,
        options=check_options(chosen.backend.name, chosen.backend.options, config.backend_options),
    )
    return loaded.backend.compile(load_graph(chosen.route, chosen.detector, chosen.weights), request)


def time_run(session: Session, inputs: Mapping[str, Any]) -> float:
    """Return the seconds of one run."""
    start = time.perf_counter()
    session.run(inputs)
    return time.perf_counter() - start


def measure(sessions: Mapping[str, Session], inputs: Mapping[str, Any], most: float) -> dict[str, Any]:
    """Return the seconds of each session's first run, its median, of how many turns, and why others have none.

    Args:
        sessions: by what they are called.
        inputs: what each gets.
        most: seconds after which no further turn is begun; one turn is taken in any case.
    """
    ready, first, why = {}, {}, {}
    for name, session in sessions.items():
        try:
            first[name], *_ = [time_run(session, inputs) for _ in range(WARM_UPS)]
            ready[name] = session
        except polyface.PolyfaceError as error:
            why[name] = str(error)
    times: dict[str, list[float]] = {name: [] for name in ready}
    end = time.perf_counter() + most
    turns = 0
    while ready and turns < TURNS and (turns == 0 or time.perf_counter() < end):
        for name, session in ready.items():
            times[name].append(time_run(session, inputs))
        turns += 1
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    return {"first": first, "seconds": medians, "turns": turns, "why": why}


def open_sessions(
    spec: DetectorSpec, options: argparse.Namespace, folder: Path
) -> tuple[dict[str, Session], dict[str, str]]:
    """Return the sessions to compare, and why others are not there."""
    weights = choose_weights(spec, options, folder)
    sessions, why = {}, {}
    for name, settings in RUNS.items():
        try:
            config = Config(detector=spec.name, weights=weights, device=options.device, **settings)
            sessions[name] = open_session(config)
        except polyface.PolyfaceError as error:
            why[name] = str(error)
    return sessions, why


def make_rows(spec: DetectorSpec, options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Measure one detector at every shape, print its lines, and yield its rows."""
    sessions, refused = open_sessions(spec, options, folder)
    for text in options.shapes.split(","):
        batch, height, width = map(int, text.split("x"))
        image = np.random.default_rng(0).uniform(-120, 150, (batch, 3, height, width)).astype(np.float32)
        row = {"detector": spec.name, "shape": text, **measure(sessions, {spec.input.name: image}, options.seconds)}
        row["why"] = refused | row["why"]
        print(line(row), flush=True)
        yield row
    for session in sessions.values():
        session.close()


def line(row: Mapping[str, Any]) -> str:
    """Return a row of the table."""
    taken = row["seconds"]
    first = next(iter(taken.values()), None)
    times = [f"{1e3 * taken[name]:.2f}" if name in taken else "not run" for name in RUNS]
    ratios = [f"{first / taken[name]:.2f}" if name in taken else "" for name in RUNS]
    new = [f"{1e3 * row['first'][name]:.0f}" if name in row["first"] else "" for name in FIRST]
    return f"| {' | '.join([row['detector'], row['shape'], str(row['turns']), *times, *ratios, *new])} |"


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--shapes", default=",".join(SHAPES), metavar="BATCHxHEIGHTxWIDTH,...")
    parser.add_argument("--seconds", type=float, default=60, help="of the turns at one shape, at most")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every median there, in seconds")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    options = parse(given)
    detectors = select_detectors(options.detectors)
    on_gpu = options.device != "cpu" and torch.cuda.is_available()
    gpu = torch.cuda.get_device_name(options.device) if on_gpu else "no GPU"
    print(f"{gpu}, PyTorch {torch.__version__}, median of up to {TURNS} turns after {WARM_UPS}\n")
    heading = ["detector", "batch x height x width", "turns", *(f"{name}: ms" for name in RUNS)]
    heading += [f"{name}: times as fast" for name in RUNS]
    heading += [f"{name}: first run, ms" for name in FIRST]
    print("|", " | ".join(heading), "|")
    print(f"|{'---|' * len(heading)}", flush=True)
    report: dict[str, Any] = {"machine": machine(), "gpu": gpu, "torch": torch.__version__, "rows": []}
    for spec in detectors:
        with tempfile.TemporaryDirectory() as folder:
            for row in make_rows(spec, options, Path(folder)):
                report["rows"].append(row)
                if options.json:
                    options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    reasons: dict[str, dict[str, None]] = {}
    for row in report["rows"]:
        for name, why in row["why"].items():
            reasons.setdefault(why, {})[name] = None
    for why, names in reasons.items():
        print(f"\nnot run, {'; '.join(names)}: {why}")
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main())
