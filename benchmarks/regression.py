"""Fail where a ratio of a fresh benchmark is far worse than the stored one. Times are not looked at.

``python regression.py fresh.json`` compares what ``polyface bench --json`` or ``peers.py --json`` wrote with
``ratios.json``; ``--store`` makes it what is compared with from then on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

STORED = Path(__file__).with_name("ratios.json")

WORST = 1.5
"""A ratio may be so many times worse: two runs on one machine at rest lie far closer, and other machines differ."""


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


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fresh", type=Path, metavar="FRESH.json")
    parser.add_argument("--stored", type=Path, metavar="FILE", default=STORED, help="default: ratios.json beside this")
    parser.add_argument("--store", action="store_true", help="store the fresh ratios, rather than compare them")
    options = parser.parse_args(arguments)
    report = json.loads(options.fresh.read_text(encoding="utf-8"))
    fresh = ratios(report)
    if options.store:
        names = ("ratio", "reference")
        rows = {
            row: {name: found[name] for name in names} for row, found in fresh.items() if found["ratio"] is not None
        }
        kept = {"machine": report["machine"], "rounds": report["rounds"], "ratios": rows}
        options.stored.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
        return 0
    failed = 0
    for name, problem, figures in verdicts(json.loads(options.stored.read_text(encoding="utf-8"))["ratios"], fresh):
        failed += bool(problem)
        print(f"{'FAILED' if problem else 'ok':6}  {name} {problem}".rstrip(), f"({figures})" if figures else "")
    if failed:
        print(f"\n{failed} failed; if that is meant, or the row compared with became faster: python {__file__} --store")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
