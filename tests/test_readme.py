"""The README's table is the pipeline's."""

from pathlib import Path

import pandas as pd

from pipeline.report import summary_markdown
from tools.update_readme import with_results

ROOT = Path(__file__).parents[1]


def test_the_table_is_what_the_pipeline_made() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    summary = (ROOT / "reports" / "summary.md").read_text("utf-8")
    assert with_results(readme, summary) == readme


def test_the_summary_is_made_from_the_committed_results() -> None:
    results = pd.read_csv(ROOT / "reports" / "results.csv")
    summary = (ROOT / "reports" / "summary.md").read_text("utf-8")
    assert summary_markdown(results, ["mini-clip"], "emoji") == summary
