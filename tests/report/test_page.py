"""The page and its files: complete for every shape of study, the same bytes every time, nothing from outside."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from pipeline.report.export import write_figures, write_tables
from pipeline.report.inputs import Study
from pipeline.report.page import render_page, sort_key
from pipeline.report.sections import model_sections
from tests.report.studies import make_study

SHAPES = {
    "usual": make_study,
    "several models": lambda: make_study(models=["first", "second"]),
    "one paradigm": lambda: make_study(paradigms=["standard"]),
    "one paradigm in tangent space": lambda: make_study(paradigms=["ntk"]),
    "two tasks": lambda: make_study(tasks=["a", "b"]),
    "no incremental learning": lambda: make_study(orders=[]),
    "several orders": lambda: make_study(orders=["0", "1", "2"]),
    "several seeds": lambda: make_study(seeds=3),
    "several seeds of one paradigm": lambda: make_study(seeds=2, paradigms=["standard"]),
    "no record of steps": lambda: make_study(timed=False),
    "a recipe whose step was not measured": lambda: make_study(paradigms=["standard", "biases"]),
}


def render(study: Study) -> str:
    return render_page(study, {model: model_sections(study, model) for model in study.models})


def own_part(page: str) -> str:
    """The page without the two libraries and their styles."""
    return re.sub(
        r"(<script type=\"text/plain\".*?</script>)|(<script>.*?</script>)|(<style>.*?</style>)", "", page, flags=re.S
    )


def figures(page: str) -> list[dict]:
    found = re.findall(r'<div class="plot".*?<script type="application/json">(.*?)</script>', page, flags=re.S)
    return [json.loads(text) for text in found]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_study_has_a_page(shape: str) -> None:
    study = SHAPES[shape]()
    page = own_part(render(study))
    text = re.sub(r"<[^>]+>", " ", page)
    for name in (*study.models, *study.paradigms, *study.tasks, study.control):
        assert name in text
    assert ("Incremental learning" in text) == bool(next(iter(study.models.values())).analyses.incremental)
    assert ("standard deviation over seeds" in text) == (study.seeds is not None)
    assert ("Differences are paired" in text) == (len(study.paradigms) > 1)
    untimed = [model for model, of in study.models.items() if of.timing is None]
    assert [f"No training step of {model} was measured" in text for model in untimed] == [True] * len(untimed)
    assert "nan" not in re.findall(r"\bnan\b", text.casefold())
    assert all(figure["data"] for figure in figures(page))


def test_the_page_is_the_same_every_time() -> None:
    assert render(make_study()) == render(make_study())


def test_nothing_comes_from_outside() -> None:
    page = render(make_study())
    assert "default-src 'none'" in page
    own = own_part(page)
    assert re.findall(r"""(?:src|href)=["']?(?!#)[^"'\s>]+""", own) == []
    assert page.count("plotly.js v") == 1


def test_figures_show_the_numbers_they_are_given() -> None:
    study = make_study()
    results, found = study.results, figures(render(study))
    titles = {figure["layout"].get("title", {}).get("text"): figure for figure in found}
    bars = next(t for t in titles["Sum of all task vectors, tuned α"]["data"] if t["name"] == "tau_jp")
    rows = results.query("paradigm == 'tau_jp' and benchmark == 'addition' and setting == 'tuned' and task == 'b'")
    expected = rows.query("metric == 'accuracy'").iloc[0]
    assert numbers(bars["y"])[1] == pytest.approx(100 * expected["value"], abs=0.006)
    assert numbers(bars["error_y"]["array"])[1] == pytest.approx(
        100 * (expected["ci_high"] - expected["value"]), abs=0.011
    )


def numbers(values: object) -> list[float]:
    """Of Plotly's JSON, in which arrays are base64."""
    import base64

    import numpy as np

    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).tolist()
    assert isinstance(values, list)
    return values


def test_a_cell_is_sorted_by_its_number() -> None:
    cells = ["9.5 [9.0, 9.9]", "-2.0 [-3.0, 1.0]", "+10.0 [9.0, 11.0]", "", "tau_jp 97.2, ntk 85.1", "0123abc", "5-6"]
    assert [sort_key(cell) for cell in cells] == ["9.5", "-2.0", "+10.0", "", "tau_jp 97.2, ntk 85.1", "0123abc", "5-6"]


def test_the_best_are_marked_and_only_they() -> None:
    study = make_study()
    (table, *_) = model_sections(study, "small")[0].tables()
    assert table.name == "summary"
    for title, rows in table.marked.items():
        values = table.frame[title].str.extract(r"^([\d.]+)")[0].astype(float)[1:]  # the zero-shot row takes no part
        best = values.min() if title == "negation: target" else values.max()
        assert {values[row] for row in rows} == {best}
        assert len(rows) == 1
    alone = make_study(paradigms=["standard"])
    (table, *_) = model_sections(alone, "small")[0].tables()
    assert table.marked == {}


def test_tables_as_files(tmp_path: Path) -> None:
    study = make_study(models=["first", "second"])
    sections = {model: model_sections(study, model) for model in study.models}
    write_tables(tmp_path, study, sections)
    stems = {path.stem for path in tmp_path.iterdir()}
    for model in study.models:
        assert {f"{model}_{name}" for name in ("summary", "differences", "tasks_tau_jp", "literature")} <= stems
    table = pd.read_csv(tmp_path / "second_summary.csv").set_index("paradigm")
    row = study.results.query(
        "model == 'second' and paradigm == 'ntk' and benchmark == 'single_task' and task == 'mean'"
    )
    assert row.empty  # not among the paradigms
    row = study.results.query(
        "model == 'second' and paradigm == 'tau_jp' and benchmark == 'single_task' and task == 'mean'"
    ).iloc[0]
    for column, suffix in (("value", ""), ("ci_low", ": low"), ("ci_high", ": high")):
        assert table.loc["tau_jp", f"single-task{suffix}"] == pytest.approx(100 * row[column], abs=0.051)
    for path in tmp_path.glob("*.tex"):
        text = path.read_text("utf-8")
        assert text.isascii(), path
        assert text.count("\\begin{tabular}") == text.count("\\bottomrule") == 1
    markdown = (tmp_path / "first_summary.md").read_text("utf-8")
    assert markdown.count("**") == 2 * 7  # the best of each column


def test_the_papers_tables(tmp_path: Path) -> None:
    study = make_study(models=["first", "second"])
    write_tables(tmp_path, study, {})
    lines = (tmp_path / "addition.tex").read_text("utf-8").splitlines()
    assert "\\multicolumn{2}{c}{first} & \\multicolumn{2}{c}{second}" in "\n".join(lines)
    (row,) = [line for line in lines if line.startswith("tau\\_jp")]
    cells = [cell.strip() for cell in row.removesuffix("\\\\").split("&")]
    means = study.results.query(
        "paradigm == 'tau_jp' and benchmark == 'addition' and setting == 'tuned' and task == 'mean'"
    )
    expected = [
        means.query("model == @model and metric == @metric")["value"].iloc[0]
        for model in study.models
        for metric in ("accuracy", "normalized")
    ]
    assert [float(cell) for cell in cells[1:]] == pytest.approx([100 * value for value in expected], abs=0.051)
    (zero_shot,) = [line for line in lines if line.startswith("Pre-trained")]
    assert [cell.strip() for cell in zero_shot.removesuffix("\\\\").split("&")][2] == ""


def test_figures_as_files(tmp_path: Path) -> None:
    study = make_study(paradigms=["standard", "tau_jp"], tasks=["a", "b"])
    for directory in (tmp_path / "one", tmp_path / "two"):
        write_figures(directory, study)
    names = {path.name for path in (tmp_path / "one").iterdir()}
    for stem in (
        "tasks",
        "addition_curves",
        "negation_curves_tau_jp",
        "disentanglement",
        "cosines",
        "localisation",
        "cost",
    ):
        assert {f"small_{stem}.svg", f"small_{stem}.pdf"} <= names
    for name in names:
        content = (tmp_path / "one" / name).read_bytes()
        assert content == (tmp_path / "two" / name).read_bytes(), name
        assert content.startswith(b"<svg" if name.endswith("svg") else b"%PDF")
    disentanglement = (tmp_path / "one" / "small_disentanglement.svg").read_text("utf-8")
    for text in ("a – b", "tau_jp", "standard", "α₁"):
        assert f"{text}</text>" in disentanglement
