"""Show formulas as MathML, which browsers draw themselves: no script, and no request to another host."""

from __future__ import annotations

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def _visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(str(latex2mathml.tex2mathml(node.astext())))
    raise nodes.SkipNode


def _visit_display(translator: HTML5Translator, node: nodes.math_block) -> None:
    formula = latex2mathml.tex2mathml(node.astext(), as_block=True)
    translator.body.append(f'<div class="formula">{formula}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the renderer and choose it."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_display, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True}
