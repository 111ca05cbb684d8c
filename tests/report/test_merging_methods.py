"""The report's notes on merging methods: what each sees, and how far its α was searched."""

from pathlib import Path

import pandas as pd
import pytest

from artifacts import layout
from artifacts.study import SEES_OTHERS, SEES_OWN, _merging_methods
from pipeline.config import load_parameters


@pytest.mark.parametrize(
    ("paradigm", "sees", "largest"),
    [
        ("attention", [SEES_OWN, SEES_OWN, "other tasks' statistics"], [1.0, 2.25, 2.25]),
        ("posthoc", [SEES_OWN, SEES_OWN, "other tasks' statistics"], [1.0, 8.0, 8.0]),
        ("tau_jp", [SEES_OTHERS, SEES_OTHERS, f"{SEES_OTHERS}; other tasks' statistics"], [1.0, 8.0, 8.0]),
    ],
)
def test_a_method_sees_what_its_recipe_sees(
    paradigm: str,
    sees: list[str],
    largest: list[float],
    study_parameters: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = load_parameters(study_parameters)
    monkeypatch.chdir(tmp_path)
    path = layout.merging_grid("mini-clip", paradigm) / "methods.csv"
    path.parent.mkdir(parents=True)
    own = [SEES_OWN, SEES_OWN, "other tasks' statistics"]
    pd.DataFrame({"method": ["sum", "ties", "regmean"], "sees": own}).to_csv(path, index=False)
    methods = _merging_methods(params, "mini-clip", paradigm)
    assert methods["sees"].tolist() == sees
    assert methods["largest"].tolist() == largest
