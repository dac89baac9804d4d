"""What the tests reach, by package, from the data files of several environments.

    python tests/coverage_table.py FOLDER

Prints statements and branches of ``src`` and of each plugin, and names what no test reaches. Exit status 1 where fewer
than 95 of 100 branches of a package are reached. Needs coverage; its settings are in ``pyproject.toml``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from coverage import Coverage

LEAST = 95
ROOT = Path(__file__).parents[1]


def combined(folder: Path) -> dict[str, Any]:
    """Return what coverage says of each file, by its path in the repository, when all environments are put together."""
    packages = sorted([*ROOT.glob("src/polyface"), *ROOT.glob("plugins/*/src/*")])
    with tempfile.TemporaryDirectory() as scratch:
        coverage = Coverage(data_file=f"{scratch}/.coverage", config_file=str(ROOT / "pyproject.toml"))
        # Where a package lies here, and where the environments install it.
        places = {package.name: [str(package), f"*/site-packages/{package.name}"] for package in packages}
        coverage.set_option("paths", places)  # type: ignore[arg-type]
        coverage.combine([str(path) for path in sorted(folder.glob(".coverage.*"))], strict=True, keep=True)
        # A file that nothing imports is one that no test reaches.
        coverage.get_data().touch_files(str(file) for package in packages for file in package.rglob("*.py"))
        # Tests also run copies that lie elsewhere and are gone by now: an archive, a checkout.
        coverage.json_report(outfile=f"{scratch}/coverage.json", include=["src/*", "plugins/*/src/*"])
        files: dict[str, Any] = json.loads(Path(scratch, "coverage.json").read_text(encoding="utf-8"))["files"]
    return files


def package_of(path: str) -> str:
    """``src`` for core, else the folder of the plugin."""
    parts = Path(path).parts
    return "src" if parts[0] == "src" else "/".join(parts[:2])


def percent(summaries: Iterable[dict[str, int]], covered: str, of: str) -> float:
    """Return how many of a hundred are reached; a package that has none has reached all."""
    summaries = list(summaries)
    total = sum(summary[of] for summary in summaries)
    return 100 * sum(summary[covered] for summary in summaries) / total if total else 100.0


def unreached(files: dict[str, Any]) -> Iterator[str]:
    """A line for each file in which something is not reached: its lines, and its branches from line to line."""
    for path, file in sorted(files.items()):
        lines = ", ".join(map(str, file["missing_lines"]))
        branches = ", ".join(f"{start}->{'exit' if end < 0 else end}" for start, end in file["missing_branches"])
        parts = [f"{name} {numbers}" for name, numbers in (("lines", lines), ("branches", branches)) if numbers]
        if parts:
            yield f"  {path}: {'; '.join(parts)}"


def main() -> int:
    files = combined(Path(sys.argv[1]))
    by_package: dict[str, dict[str, Any]] = {}
    for path, file in files.items():
        by_package.setdefault(package_of(path), {})[path] = file
    print(f"{'package':32} statements  branches")
    low = []
    for package, inside in sorted(by_package.items()):
        summaries = [file["summary"] for file in inside.values()]
        branches = percent(summaries, "covered_branches", "num_branches")
        print(f"{package:32} {percent(summaries, 'covered_lines', 'num_statements'):8.1f} %  {branches:6.1f} %")
        low += [package] if branches < LEAST else []
    print("\nNot reached:")
    print("\n".join(unreached(files)) or "  nothing")
    if low:
        print(
            f"\nfewer than {LEAST} % of the branches are reached in {', '.join(low)}: write the tests that reach them"
        )
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
