"""The tables of docs/reproducing.md are those of published_results.csv, and its commands name what exists."""

import re
from pathlib import Path

import pandas as pd
import pytest

from pipeline.measurements import select
from tauflow.comparing.literature import published_results
from tauflow.dvc.composition import compose

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reproducing.md"
MODELS = ["ViT-B-32", "ViT-B-16", "ViT-L-14"]
PAPERS = ["Ilharco et al. 2023", "Ortiz-Jimenez et al. 2023", "Yoshida et al. 2025", "Jin et al. 2024"]
RERUNS = ["Porrello et al. 2026", "Liu et al. 2026"]
# Title of a table in the page: benchmark, setting, and the two metrics of a cell.
TABLES = {
    "Addition at the tuned α: absolute / normalised accuracy": ("addition", "tuned", ("accuracy", "normalized")),
    "Addition at α = 1: absolute / normalised accuracy": ("addition", "alpha_1", ("accuracy", "normalized")),
    "Negation at the tuned α: target / control accuracy": ("negation", "tuned", ("target", "control")),
    "Negation at α = 1: target / control accuracy": ("negation", "alpha_1", ("target", "control")),
}


def table(benchmark: str, setting: str, metrics: tuple[str, str]) -> str:
    """A row per paper and paradigm, in Markdown; a dash for what is not published."""
    published = select(published_results(), tasks=8, benchmark=benchmark, setting=setting)
    lines = ["| paper | paradigm | " + " | ".join(MODELS) + " |", "|---" * (2 + len(MODELS)) + "|"]
    for paper in [*PAPERS, *RERUNS]:
        of_paper = select(published, paper=paper)
        for paradigm in dict.fromkeys(of_paper["paradigm"]):
            of_row = select(of_paper, paradigm=paradigm)
            cells = [cell(select(of_row, model=model), metrics) for model in MODELS]
            lines.append("| " + " | ".join([paper, paradigm, *cells]) + " |")
    return "\n".join(lines) + "\n"


def cell(rows: pd.DataFrame, metrics: tuple[str, str]) -> str:
    parts = []
    for metric in metrics:
        values = select(rows, metric=metric)["percent"].tolist()
        parts.append(f"{values[0]:g}" if values else "–")
    return " / ".join(parts) if parts != ["–", "–"] else "–"


@pytest.mark.parametrize("title", TABLES)
def test_expected_figures_are_the_published_ones(title: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert f"**{title}**\n\n{table(*TABLES[title])}" in text


def test_ablation_is_the_published_one() -> None:
    published = select(published_results(), tasks=8, paper="Jin et al. 2024", model="ViT-B-32")
    text = PAGE.read_text(encoding="utf-8")
    for paradigm in ("attention", "attention_bias", "linear", "linear_bias"):
        rows = select(published, paradigm=paradigm)
        single = select(rows, benchmark="single_task")["percent"].item()
        tuned = select(rows, benchmark="addition", setting="tuned")
        absolute, normalised = (select(tuned, metric=metric)["percent"].item() for metric in ("accuracy", "normalized"))
        assert f"| {paradigm} | {single:g} | {absolute:g} / {normalised:g} |" in text


def test_commands_compose(tmp_path: Path) -> None:
    """Every `dvc exp run` of the page, by its overrides."""
    commands = re.findall(r"^    dvc exp run (.+?)(?:\s+#.*)?$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) >= 8
    for command in commands:
        overrides = re.findall(r"-S '?([^\s']+)'?", command)
        assert overrides
        compose(ROOT, [override for override in overrides if override != "seed=0,1,2"], tmp_path / "params.yaml")


def test_figures_of_merging_are_the_published_ones() -> None:
    """Every row of a merging method, and FusionBench's sum, by number of tasks."""
    published = select(published_results(), benchmark="addition")
    merged = published.loc[
        published["paradigm"].str.startswith("standard_") | (published["paper"] == "Tang et al. 2024")
    ]
    alphas = {"": "1", "val": "chosen on val"}
    lines = ["| tasks | paper | method | DTD | α | " + " | ".join(MODELS) + " |", "|---" * (5 + len(MODELS)) + "|"]
    by_tasks = merged.sort_values("tasks", kind="stable")
    for key, rows in by_tasks.groupby(["tasks", "paper", "method", "dtd"], sort=False):
        (tuned_on,) = set(rows["tuned_on"])
        cells = [cell(select(rows, model=model), ("accuracy", "normalized")) for model in MODELS]
        lines.append("| " + " | ".join(map(str, [*key, alphas.get(tuned_on, tuned_on), *cells])) + " |")
    assert "\n\n" + "\n".join(lines) + "\n\n" in PAGE.read_text(encoding="utf-8")
