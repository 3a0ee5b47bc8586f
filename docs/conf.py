"""The site: the pages of this folder and the docstrings. `nox -s docs` builds it into docs/_build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fusedrnn

ROOT = Path(__file__).resolve().parents[1]

project = "fusedrnn"
author = "The fusedrnn developers"
project_copyright = "The fusedrnn developers, Apache-2.0"
version = release = fusedrnn.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4
# Links to files that are no page lead to the repository.
suppress_warnings = ["myst.xref_missing"]

# Docstrings are written for `help()`: a name in backticks is code.
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True


def mark_code(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Indented blocks of a docstring are code, as `help()` shows them: says so in reStructuredText."""
    depths = [len(line) - len(line.lstrip()) if line.strip() else None for line in lines]
    for i in range(len(lines) - 2, 0, -1):
        before, here, after = depths[i - 1 : i + 2]
        if here is None and before is not None and after is not None and after > before:
            lines[i:i] = ["", " " * before + "::"]


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", mark_code, priority=400)  # before napoleon reads the sections


html_theme = "furo"
html_title = "fusedrnn"
html_static_path: list[str] = []
html_theme_options = {
    "source_repository": "https://github.com/fusedrnn/fusedrnn/",
    "source_directory": "docs/",
}
