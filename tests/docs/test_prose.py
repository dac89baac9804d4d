"""Prose in documents stays within 120 columns, so that a change of a word is a change of a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WIDEST = 120
PATTERNS = ("*.md", ".github/*.md", "benchmarks/*.md", "docs/**/*.md", "examples/*.md", "plugins/**/README.md")
DOCUMENTS = sorted({path for pattern in PATTERNS for path in ROOT.glob(pattern)})


def find_prose(text: str) -> Iterator[str]:
    """Yield the lines that are no code, row of a table, heading, image or HTML, and that no script made."""
    fence = None
    by_hand = re.sub(r"<!-- (\w+): begin -->.*?<!-- \1: end -->", "", text, flags=re.DOTALL)
    for line in by_hand.splitlines():
        opened = re.match(r"\s*(`{3,}|~{3,}|:{3,})", line)
        if fence:
            fence = None if line.strip() == fence else fence
        elif opened:
            fence = opened[1]
        elif line and not line.lstrip().startswith(("|", "#", "<", "![")):
            yield line


def test_prose_is_what_is_left_of_a_document():
    text = "# A\nyes\n```console\n$ no\n```\n| no |\n- yes\n![no](b.png)\n<!-- no -->\n"
    text += "<!-- a: begin -->\nno\n<!-- a: end -->\n"
    assert [*find_prose(text)] == ["yes", "- yes"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_stays_within_its_width(document):
    prose = find_prose(document.read_text(encoding="utf-8"))
    assert [line for line in prose if len(line) > WIDEST] == []
