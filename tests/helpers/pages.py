"""The blocks of a page, what comments before them say, and a terminal in which to run them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

from attrs import frozen
from matrix_report import features

from polyface.machine.drivers import is_installed

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"((?:^ *<!--[^\n]*-->\n)*)^( *)(`{3,})(console|python)\n(.*?)^\2\3 *$", re.DOTALL | re.MULTILINE)
NOTE = re.compile(r"<!-- (not run|needs|first): (.+) -->")
PATIENCE = 300
"""Seconds after which a command hangs."""

PRECISIONS = ("bf16", "fp16")

NEEDS = {
    r"\btorch\b(?!-module)": ("torch", "polyface_torch"),
    r"\bopenvino\b": ("openvino", "polyface_openvino"),
    **{rf"\b{precision}\b": (precision,) for precision in PRECISIONS},
    r"\bcenterface\b": ("polyface_centerface",),
    r"\bexample-redbox\b|\bpolyface new\b": ("polyface_example",),
    r"\bpolyface ray\b|\bimport ray\b": ("ray", "polyface_ray"),
    r"\bpolyface serve\b": ("fastapi", "polyface_serve"),
    r"\.parquet\b": ("pyarrow", "polyface_parquet"),
    r"\.mp4\b": ("av", "polyface_video"),
}
"""What a block needs that has such words: modules, or a precision in which the processor computes."""


@frozen
class Block:
    """A block, its language, the number of the line on which its text begins, and what comments before it say."""

    language: str
    text: str
    line: int
    notes: dict[str, str]

    @property
    def commands(self) -> list[tuple[int, str]]:
        """The commands behind ``$``, each with the number of its line; the lines between are what they print."""
        found = re.finditer(r"^\$ ((?:.*\\\n)*.*)$", self.text, flags=re.MULTILINE)
        starts = {match.start(): match[1].replace("\\\n", "") for match in found}
        return [(self.line + self.text.count("\n", 0, start), command) for start, command in starts.items()]

    @property
    def needs(self) -> list[str]:
        """What its words and comments name: modules and precisions."""
        named = [name for words, names in NEEDS.items() if re.search(words, self.text) for name in names]
        return [*dict.fromkeys([*named, *filter(None, self.notes.get("needs", "").split(", "))])]


def read_blocks(page: Path) -> list[Block]:
    """Return the blocks of commands and of Python, in the page's order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            match[4], textwrap.dedent(match[5]), text.count("\n", 0, match.start(5)) + 1, dict(NOTE.findall(match[1]))
        )
        for match in BLOCK.finditer(text)
    ]


def is_here(need: str) -> bool:
    """Return whether a module is installed, or the processor computes in a precision."""
    return need.upper() in features() if need in PRECISIONS else is_installed(need)


def read_calls(command: str) -> list[list[str]]:
    """Return what a command gives to ``polyface``, each time that it calls it."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    calls: list[list[str]] = [[]]
    for word in lexer:
        if word in ("&&", "||", "|", ";"):
            calls.append([])
        elif calls[-1] or not re.match("[A-Z_]+=", word):  # no variable that is set for the command
            calls[-1].append(word)
    return [words[1 : words.index(">") if ">" in words else None] for words in calls if words[:1] == ["polyface"]]


def make_terminal(folder: Path) -> dict[str, str]:
    """Make ``page`` in a folder, with images, and return the environment of those who work there.

    ``polyface`` and ``python`` are this interpreter's. ``pip`` installs what lies in the page's folder, and nothing
    else, since all else is here. There are none of the user's settings, and no network is asked.
    """
    (folder / "page/photos").mkdir(parents=True)
    (folder / "page/examples").symlink_to(ROOT / "examples")
    for name in ("astronaut.jpg", "grace_hopper.jpg"):
        shutil.copy(ROOT / "examples" / name, folder / "page/photos")
    (folder / "bin").mkdir()
    python, site = shlex.quote(sys.executable), folder / "site"
    for name, script in {
        "python": f'exec {python} "$@"',
        "polyface": f'exec {python} -m polyface "$@"',
        "pytest": f'exec {python} -m pytest -q -p no:cacheprovider "$@"',
        "pip": f"""for word; do
            if [ -e "${{word%%[*}}/pyproject.toml" ]; then
                {python} -m pip install -q --no-index --no-deps --no-build-isolation --target {site} "./$word" || exit
            fi
        done""",
    }.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / "bin" / name).chmod(0o755)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("POLYFACE_")},
        "PATH": os.pathsep.join([str(folder / "bin"), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "POLYFACE_HOME": str(folder / "home"),
        "POLYFACE_OFFLINE": "1",
    }


def run_command(place: str, command: str) -> None:
    """Run a command in a shell."""
    shell = ["bash", "-o", "pipefail", "-c", command]
    done = subprocess.run(
        shell, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, (
        f"{place}: $ {command}\nends with {done.returncode}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
    )


def run_blocks(page: Path) -> dict[int, list[str]]:
    """Run what a page shows; return what is missing for the blocks that were left out, by their lines."""
    names: dict[str, object] = {"__name__": "__main__"}
    left_out = {}
    for block in read_blocks(page):
        if "not run" in block.notes:
            continue
        if missing := [need for need in block.needs if not is_here(need)]:
            left_out[block.line] = missing
            continue
        if "first" in block.notes:
            run_command(f"{page}:{block.line}", block.notes["first"])
        if block.language == "console":
            for line, command in block.commands:
                run_command(f"{page}:{line}", command)
        else:
            # A traceback shows the lines of the page.
            code = "\n" * (block.line - 1) + block.text
            exec(compile(code, str(page), "exec"), names)  # noqa: S102 - that is the point
    return left_out
