"""Sphinx: ``make docs`` builds docs/_build/html. Nothing in it is fetched when it is read."""  # noqa: INP001  # Sphinx loads this file by path, not as a package

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
sys.path[:0] = [str(_HERE / "_ext"), str(_HERE.parent)]

project = "Interlock"
author = "The Interlock authors"
project_copyright = "The Interlock authors, Apache-2.0"
release = version = installed_version("interlock")

extensions = ["myst_parser", "sphinx_copybutton", "interlock_docs"]
exclude_patterns = ["_build", "_ext"]
myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 4
nitpicky = True
smartquotes = False
# Every page has a unique title; that is what the search shows.
html_theme = "furo"
html_title = f"Interlock {release}"
html_static_path = ["_static"]
html_css_files = ["interlock.css"]
html_search_scorer = str(_HERE / "_static" / "scorer.js")
# Of a console block only what is typed is copied.
copybutton_exclude = ".linenos, .gp, .go"
html_show_sourcelink = False
html_copy_source = False
html_theme_options: dict[str, Any] = {
    "navigation_with_keys": True,
    "light_css_variables": {"color-brand-primary": "#2b5c8f", "color-brand-content": "#2b5c8f"},
    "dark_css_variables": {"color-brand-primary": "#6ea8e6", "color-brand-content": "#6ea8e6"},
}
pygments_style = "friendly"
pygments_dark_style = "monokai"
