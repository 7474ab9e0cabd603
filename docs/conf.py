"""The site: `make docs` builds it from the pages beside this file; warnings are errors."""

import tomllib
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

ROOT = Path(__file__).resolve().parents[1]

project = "onelook"
author = project_copyright = "The onelook authors"
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
    "version"
]
extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]  # formulas between dollar signs, as GitHub has them
myst_heading_anchors = 3  # links to headings, likewise
html_theme = "furo"
html_title = "onelook"
html_math_renderer = "mathml"  # browsers draw it without a script from a network
exclude_patterns = ["recipes"]
nitpicky = True


def _formula(display: str) -> Any:
    def visit(self: Any, node: nodes.math) -> None:
        self.body.append(convert(node.astext(), display=display))
        raise nodes.SkipNode

    return visit, None


def setup(app: Any) -> None:
    """Register the renderer of formulas."""
    app.add_html_math_renderer(
        "mathml", inline_renderers=_formula("inline"), block_renderers=_formula("block")
    )
