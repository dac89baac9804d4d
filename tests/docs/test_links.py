"""Links in the documents lead to files and headings that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "[!.]*/*.md", ".github/*.md", "docs/*/*.md", "plugins/*/*.md", "tests/*/*.md")
    for path in ROOT.glob(pattern)
)


def anchors(document):
    """The names that GitHub gives the headings of a document: small letters, hyphens, no punctuation."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_there_are_documents():
    assert {ROOT / "README.md", ROOT / "docs/architecture.md", ROOT / ".github/CONTRIBUTING.md"} <= {*DOCUMENTS}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(document):
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    broken = []
    for link in links:
        if "://" in link:
            continue
        name, _, heading = link.partition("#")
        target = document.parent / name if name else document
        target = target / "README.md" if target.is_dir() and heading else target
        if not target.exists() or (heading and heading not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_link_names_the_document_and_not_the_page_that_includes_it(document):
    # GitHub shows of such a page the one line that includes, and the site knows pages by what they hold.
    links = re.findall(r"\]\(([^):#\s]+\.md)(?:#[^)\s]*)?\)", document.read_text(encoding="utf-8"))
    there = [link for link in links if (document.parent / link).exists()]
    pages = [link for link in there if (document.parent / link).read_text(encoding="utf-8").startswith("```{include}")]
    assert pages == []
