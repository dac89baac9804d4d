"""What Sphinx is told of this project.

The directive ``generated`` writes what is read from the code, by :mod:`generated`: ``settings`` is a list of every
setting, ``checks`` one of every check of the conformance kit, ``errors`` a table of the errors, ``hooks`` one of the
hooks, and ``commands`` one of the commands.

A page may be a document of the repository that stands elsewhere, by ``include``. Links between documents are written
for the repository; here they lead to the pages that hold those documents, and what is no page is named without a link.
No link is an address of mail: ``torch:bf16@cpu`` is a backend on a device.

A name that polyface exports is found by itself alone, from every module's docstrings. And a signature that attrs made
shows its defaults.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from attr import Factory  # attrs.Factory is typed as a function
from docutils.nodes import reference
from generated import WRITERS
from sphinx.addnodes import pending_xref
from sphinx.util.docutils import SphinxDirective

import polyface

if TYPE_CHECKING:
    from docutils.nodes import Node
    from sphinx.application import Sphinx


class Generated(SphinxDirective):
    """See the module."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[Node]:
        """Return what the lines say."""
        text = "\n".join(WRITERS[self.arguments[0]]())
        return self.parse_text_to_nodes(text, allow_section_headings=True)


DOCS = Path(__file__).parent


def find_documents() -> dict[Path, str]:
    """Return the names of the pages, by the document that each holds: itself, or the one it includes."""
    found = {}
    for page in sorted(DOCS.rglob("*.md")):
        included = re.match(r"```\{include\} (\S+)", page.read_text(encoding="utf-8"))
        document = (page.parent / included[1]).resolve() if included else page
        found[document] = page.relative_to(DOCS).with_suffix("").as_posix()
    return found


DOCUMENTS = find_documents()
HELD = {page: document for document, page in DOCUMENTS.items()}


def lead_to_pages(app: Sphinx, doctree: Node) -> None:
    """Have the links of a document lead to pages; those to other files of the repository become text."""
    here, page_folder = HELD[app.env.docname].parent, (DOCS / app.env.docname).parent
    for link in [*doctree.findall(pending_xref)]:
        if link.get("reftype") != "myst":
            continue
        target, _, place = link["reftarget"].partition("#")
        # MyST has made some of them absolute, from where the page stands.
        target = os.path.relpath(target, page_folder) if Path(target).is_absolute() else target
        path = (here / target).resolve()
        candidates = (path, path / "README.md", path.with_name(f"{path.name}.md"))
        page = next((DOCUMENTS[one] for one in candidates if one in DOCUMENTS), None)
        if page is not None:
            link["refdomain"], link["reftarget"] = "doc", page
            link["reftargetid"] = link.get("reftargetid") or place or None
        elif any(one.exists() for one in candidates):
            link.replace_self(link.children)
    for address in [*doctree.findall(reference)]:
        if address.get("refuri", "").startswith("mailto:"):
            address.replace_self(address.children)


def find_exported(app: Sphinx, env: Any, node: Any, content: Node) -> Node | None:
    """Resolve a reference to a name of ``polyface`` that is written without it."""
    name = node.get("reftarget", "")
    if node.get("refdomain") != "py" or name not in polyface.__all__:
        return None
    kind, at = node["reftype"], node["refdoc"]
    found: Node | None = env.domains.python_domain.resolve_xref(
        env, at, app.builder, kind, f"polyface.{name}", node, content
    )
    return found


def show_defaults(*event: Any) -> tuple[str, str | None] | None:
    """Write the defaults of an attrs class, whose source names them by a table."""
    _, what, _, obj, _, signature, returns = event
    if what != "class" or signature is None or not attrs.has(obj):
        return None
    defaults = {field.name: field.default for field in attrs.fields(obj)}

    def write(match: re.Match[str]) -> str:
        value = defaults.get(match[1])
        return "..." if match[1] is None or isinstance(value, Factory) else repr(value)

    return re.sub(r"attr_dict\['(\w+)'\]\.default|NOTHING", write, signature), returns


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx of the directive."""
    app.add_directive("generated", Generated)
    app.connect("doctree-read", lead_to_pages)
    app.connect("missing-reference", find_exported)
    app.connect("autodoc-process-signature", show_defaults)
    return {"parallel_read_safe": True}
