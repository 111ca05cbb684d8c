"""The figure of the penalty's strength is drawn from the committed table."""

from pathlib import Path

import pandas as pd

from tools.strength import FIGURE, STRENGTHS, TABLE, draw

ROOT = Path(__file__).parents[1]


def test_the_figure_is_that_of_the_table() -> None:
    table = pd.read_csv(ROOT / TABLE)
    assert table["weight"].tolist() == STRENGTHS
    figure = draw(table)
    assert figure == (ROOT / FIGURE).read_text("utf-8")
    for strength in STRENGTHS:
        assert f"λ = {strength:g}" in figure
