"""Fail where a ratio of a fresh benchmark is far worse than the stored one. Times are not looked at.

``python regression.py`` runs the rows of ``peers.py`` that ``ratios.json`` is made of, and compares; what fails is run
once more, and fails if it fails again. ``regression.py fresh.json`` compares what ``peers.py --json`` or ``polyface
bench --json`` wrote instead; ``--store`` makes the fresh ratios what is compared with from then on.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

STORED = Path(__file__).with_name("ratios.json")
CPUINFO = Path("/proc/cpuinfo")

WORST = 1.5
"""A ratio may be so many times worse: two runs on one machine at rest lie far closer, and other machines differ."""

RUN = (
    *("eager", "polyface torch", "polyface onnxruntime", "polyface openvino"),
    *("polyface openvino bf16", "polyface onnxruntime int8", "polyface openvino int8"),
    *("--size", "480x640", "--rounds", "30"),
)
"""What ``peers.py`` is told: the median of so many interleaved rounds bears a machine that others use as well."""

INSTRUCTIONS = {
    "bf16": {"avx512_bf16", "amx_bf16", "bf16"},
    "int8": {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"},
}
"""A row in that precision is compared where /proc/cpuinfo names one of these, or where there is no such file."""


def lacking(row: str) -> str:
    """Return the precision of a row that this processor has no instructions for, or an empty text."""
    has = set(CPUINFO.read_text(encoding="utf-8", errors="replace").split()) if CPUINFO.is_file() else None
    precisions = (name for name in INSTRUCTIONS if re.search(rf"\b{name}\b", row))
    return next((name for name in precisions if has is not None and not has & INSTRUCTIONS[name]), "")


def measured() -> dict[str, Any]:
    """Run ``peers.py``, and return what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "fresh.json"
        peers = Path(__file__).with_name("peers.py")
        subprocess.run([sys.executable, str(peers), *RUN, "--json", str(fresh)], check=True)  # noqa: S603
        found: dict[str, Any] = json.loads(fresh.read_text(encoding="utf-8"))
        return found


def ratios(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return by row its ratio and the row it is to; without a ratio, why there is none."""
    found = {}
    for row in report["rows"]:
        size = "x".join(map(str, row["size"])) if row["size"] else "as they are"
        reference = row["reference"] or {}
        found[f"{row['label']}, {size}, batch {row['batch']}"] = {
            "ratio": row["ratio"],
            "reference": f"{reference.get('label')}, batch {reference.get('batch')}",
            "why": row["why"],
        }
    return found


def verdicts(stored: Mapping[str, Any], fresh: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield for each stored row its name, what is wrong with it or an empty text, and the two ratios."""
    for name, then in stored.items():
        now = fresh.get(name)
        if now is None:
            yield name, "was not run", f"{then['ratio']:.2f}, then"
        elif now["ratio"] is None:
            yield name, f"was not measured: {now['why']}", f"{then['ratio']:.2f}, then"
        elif now["reference"] != then["reference"]:
            yield name, f"is compared with {now['reference']}, not with {then['reference']}", ""
        else:
            worse = then["ratio"] / now["ratio"]
            problem = f"is {worse:.2f} times worse, more than {WORST}" if worse > WORST else ""
            yield name, problem, f"{then['ratio']:.2f}, now {now['ratio']:.2f}"


def compare(stored: Mapping[str, Any], fresh: Mapping[str, Any]) -> dict[str, Any]:
    """Print what becomes of each stored row, and return those that failed."""
    failed = {}
    for name, problem, figures in verdicts(stored, fresh):
        if problem:
            failed[name] = stored[name]
        print(f"{'FAILED' if problem else 'ok':6}  {name} {problem}".rstrip(), f"({figures})" if figures else "")
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fresh", type=Path, nargs="?", metavar="FRESH.json", help="default: measured now, by peers.py")
    parser.add_argument("--stored", type=Path, metavar="FILE", default=STORED, help="default: ratios.json beside this")
    parser.add_argument("--store", action="store_true", help="store the fresh ratios, rather than compare them")
    options = parser.parse_args(arguments)
    report = json.loads(options.fresh.read_text(encoding="utf-8")) if options.fresh else measured()
    fresh = ratios(report)
    if options.store:
        names = ("ratio", "reference")
        rows = {
            row: {name: found[name] for name in names} for row, found in fresh.items() if found["ratio"] is not None
        }
        kept = {"machine": report["machine"], "rounds": report["rounds"], "ratios": rows}
        options.stored.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
        return 0
    stored = json.loads(options.stored.read_text(encoding="utf-8"))["ratios"]
    for name in list(stored):
        if precision := lacking(name):
            then = stored.pop(name)["ratio"]
            print(f"-       {name} is not comparable: this processor has no {precision} ({then:.2f}, then)")
    failed = compare(stored, fresh)
    if failed and not options.fresh:
        print("\nonce more, since a machine that is busy with something else may fail once:\n", flush=True)
        failed = compare(failed, ratios(measured()))
    if failed:
        mend = f"python {__file__} --store"
        print(f"\n{len(failed)} failed; if that is meant, or the row compared with became faster: {mend}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
