"""The examples of docs/how_to/own_components.md run, and its list of functions is the true one."""

import re
from pathlib import Path

from coordfit.backends.lowering import FUNCTIONS

PAGE = (Path(__file__).parents[1] / "docs" / "how_to" / "own_components.md").read_text(encoding="utf-8")


def test_every_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) == 8
    names = {"__name__": "adding"}
    for block in blocks:
        exec(block, names)
    assert names["model"].config.activation == names["Gauss"](2.0)
    assert names["model"].config.encoding == names["Learned"]()


def test_the_page_lists_the_functions_of_formulas():
    listed = PAGE[PAGE.index("functions of `xp`") : PAGE.index("Anything else")]
    assert set(re.findall(r"`(\w+)`", listed)) - {"xp"} == set(FUNCTIONS)
