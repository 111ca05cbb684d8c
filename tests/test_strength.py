"""The figure of the penalty's strength can be drawn from the committed table."""

import pandas as pd

from tests.committed import ROOT
from tools.strength import STRENGTHS, TABLE, draw


def test_every_strength_is_in_the_table_and_in_the_figure() -> None:
    table = pd.read_csv(ROOT / TABLE)
    assert table["weight"].tolist() == STRENGTHS
    figure = draw(table)
    assert [strength for strength in STRENGTHS if f"λ = {strength:g}" not in figure] == []
