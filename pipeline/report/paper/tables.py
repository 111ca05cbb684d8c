"""The results tables in the layout of the literature."""

import pandas as pd

from pipeline.measurements import MEAN, select
from pipeline.report.inputs import Study
from pipeline.report.tables.formats import Marked
from pipeline.report.tables.results import distinguished, title_of

# Benchmark → heading and (setting, metric) of each column.
PAPER_TABLES = {
    "addition": {"Abs. (↑)": ("tuned", "accuracy"), "Norm. (↑)": ("tuned", "normalized")},
    "negation": {"Targ. (↓)": ("tuned", "target"), "Cont. (↑)": ("tuned", "control")},
}


def paper_table(study: Study, benchmark: str) -> tuple[pd.DataFrame, Marked]:
    """Return addition or negation at the tuned α, all models side by side, and the cells to be set bold.

    The layout is that of Ortiz-Jimenez et al., tables 1 and 2. Columns are (model, heading); cells are text.
    """
    paradigms = list(dict.fromkeys(name for model in study.models.values() for name in model.searches))
    cells = {("", "Method"): ["Pre-trained", *paradigms]}
    marked = {}
    for model in study.models:
        results = select(study.results, model=model)
        for heading, (setting, metric) in PAPER_TABLES[benchmark].items():
            means = select(results, benchmark=benchmark, setting=setting, metric=metric, scope=MEAN)
            values = means.set_index("paradigm")["value"]
            column = [_zero_shot(results, metric, study.control)]
            column += [f"{100 * values[name]:.1f}" if name in values.index else "" for name in paradigms]
            cells[model, heading] = column
            best = distinguished(results, title_of(benchmark, setting, metric))
            marked[model, heading] = {1 + row for row, name in enumerate(paradigms) if name in best}
    return pd.DataFrame(cells), marked


def _zero_shot(results: pd.DataFrame, metric: str, control: str) -> str:
    """Return the pre-trained model's accuracy; it has no normalised one."""
    if metric == "normalized":
        return ""
    zero_shot = select(results, benchmark="zero_shot")
    rows = select(zero_shot, scope="task", task=control) if metric == "control" else select(zero_shot, scope=MEAN)
    return f"{100 * rows['value'].iloc[0]:.1f}"
