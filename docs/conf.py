"""How Sphinx builds the site: ``tox run -e docs``."""

from __future__ import annotations

import sys
from pathlib import Path

import polyface

sys.path.insert(0, str(Path(__file__).parent))  # for site_pages.py

project = "polyface"
author = "The polyface developers"
copyright = "2026, the polyface developers"  # noqa: A001 - Sphinx's name
version = release = polyface.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "myst_parser",
    "site_pages",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "polyface"
smartquotes = False  # of --output it made a dash

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_attr_annotations = True

myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline", "html_image"]
myst_heading_anchors = 4

# Sphinx cannot look up what is not on this site: other projects, without a network; aliases of types; and what is
# inside polyface, where docstrings lead those who read the code.
nitpick_ignore_regex = [
    ("py:.*", r"(collections|contextlib|pathlib|typing|numpy|PIL|click|pytest|types|os|abc|np|npt|Image)\..*"),
    ("py:.*", r"(Path|ndarray|Any)"),
    ("py:.*", r"\w*(Array|Source)|Decoded|Rule|T|P|F|Stage|Network|Strategy|Record"),
    (
        "py:.*",
        r"polyface\.(machine|pipeline|jobs|graphs|images|storage|settings|plugins|measure|sources|writers|errors)\..*",
    ),
]
