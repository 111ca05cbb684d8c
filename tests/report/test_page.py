"""The page and its files: complete for every shape of study, the same bytes every time, nothing from outside."""

import base64
import dataclasses
import itertools
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

from pipeline.measurements import Estimate, Recorder, Subject, to_frame
from pipeline.report import views
from pipeline.report.inputs import Study
from pipeline.report.page.curves import negation_curves
from pipeline.report.page.render import page_json, render_page, sort_key
from pipeline.report.page.sections import model_sections
from pipeline.report.paper import figures as paper_figures
from pipeline.report.paper.export import write_figures, write_tables
from pipeline.report.tables.merging import merging_table
from pipeline.report.tables.results import distinguished, marking, summary_markdown
from tests.report.studies import make_study

SHAPES = {
    "usual": make_study,
    "several models": lambda: make_study(models=["first", "second"]),
    "one paradigm": lambda: make_study(paradigms=["standard"]),
    "one paradigm in tangent space": lambda: make_study(paradigms=["ntk"]),
    "two tasks": lambda: make_study(tasks=["a", "b"]),
    "no incremental learning": lambda: make_study(orders=[]),
    "no merging method": lambda: make_study(methods=["sum"]),
    "several orders": lambda: make_study(orders=["0", "1", "2"]),
    "several seeds": lambda: make_study(seeds=3),
    "several seeds of one paradigm": lambda: make_study(seeds=2, paradigms=["standard"]),
    "no record of steps": lambda: make_study(timed=False),
    "a recipe whose step was not measured": lambda: make_study(paradigms=["standard", "biases"]),
}


def render(study: Study) -> str:
    return render_page(study, {model: model_sections(study, model) for model in study.models})


def own_part(page: str) -> str:
    """Return the page without the two libraries and their styles."""
    return re.sub(
        r"(<script type=\"text/plain\".*?</script>)|(<script>.*?</script>)|(<style>.*?</style>)", "", page, flags=re.S
    )


def figures(page: str) -> list[dict]:
    specifications = re.findall(r'<div class="plot".*?<script type="application/json">(.*?)</script>', page, flags=re.S)
    return [json.loads(text) for text in specifications]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_study_has_a_page(shape: str) -> None:
    study = SHAPES[shape]()
    page = own_part(render(study))
    text = re.sub(r"<[^>]+>", " ", page)
    for name in (*study.models, *study.paradigms, *study.tasks, study.control):
        assert name in text
    assert ("Incremental learning" in text) == bool(next(iter(study.models.values())).analyses.incremental)
    methods = next(iter(next(iter(study.models.values())).analyses.merging.values()))["method"]
    assert ("Merging methods" in text) == (len(methods) > 1)
    assert ("standard deviation over seeds" in text) == (study.seeds is not None)
    assert ("Differences are paired" in text) == (len(study.paradigms) > 1)
    untimed = [model for model, inputs in study.models.items() if inputs.timing is None]
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
    results, drawn = study.results, figures(render(study))
    titles = {figure["layout"].get("title", {}).get("text"): figure for figure in drawn}
    bars = next(t for t in titles["Sum of all task vectors, tuned α"]["data"] if t["name"] == "tau_jp")
    rows = results.query("paradigm == 'tau_jp' and benchmark == 'addition' and setting == 'tuned' and task == 'b'")
    expected = rows.query("metric == 'accuracy'").iloc[0]
    assert numbers(bars["y"])[1] == pytest.approx(100 * expected["value"], abs=0.006)
    assert numbers(bars["error_y"]["array"])[1] == pytest.approx(
        100 * (expected["ci_high"] - expected["value"]), abs=0.011
    )


def test_merging_methods_as_a_grid_bars_and_a_table() -> None:
    study = make_study()
    merged = study.results.query("benchmark == 'merging'")
    by_title = {f["layout"].get("title", {}).get("text"): f for f in figures(render(study))}
    for setting, words in (("tuned", "tuned α"), ("alpha_1", "α = 1")):
        (trace,) = by_title[f"Normalised, {words}"]["data"]
        assert (trace["x"], trace["y"]) == (["sum", "ties", "iso_c"], list(study.paradigms))
        of_setting = merged.query(f"setting == '{setting}' and scope == 'mean' and metric == 'normalized'")
        expected = of_setting.set_index(["paradigm", "method"])["value"]
        cells = np.reshape(numbers(trace["z"]), (3, 3))
        for (row, paradigm), (column, method) in itertools.product(enumerate(trace["y"]), enumerate(trace["x"])):
            assert cells[row, column] == pytest.approx(100 * expected[paradigm, method], abs=1e-3)
    bars = next(t for t in by_title["tau_jp: merged, tuned α"]["data"] if t["name"] == "ties")
    rows = merged.query("paradigm == 'tau_jp' and method == 'ties' and setting == 'tuned' and scope == 'task'")
    accuracies = rows.query("metric == 'accuracy'").set_index("task")["value"]
    assert numbers(bars["y"]) == pytest.approx([100 * accuracies[task] for task in study.tasks], abs=0.006)


def test_bold_among_merging_methods_is_by_paired_difference() -> None:
    study = make_study(paradigms=["standard"])
    described = study.models["small"].analyses.merging
    results = study.results.copy()
    means = (results["benchmark"] == "merging") & (results["scope"] == "mean") & (results["setting"] == "tuned")

    def put(method: str, metric: str, value: float, low: float, high: float) -> None:
        rows = means & (results["method"] == method) & (results["metric"] == metric)
        assert int(rows.to_numpy().sum()) == 1
        results.loc[rows, ["value", "ci_low", "ci_high"]] = [value, low, high]

    put("sum", "normalized", 0.70, 0.60, 0.80)
    put("ties", "normalized", 0.75, 0.65, 0.85)
    put("iso_c", "normalized", 0.76, 0.66, 0.86)
    put("iso_c", "normalized_minus_sum", 0.06, 0.01, 0.11)  # although the intervals of the two overlap
    put("iso_c", "normalized_minus_ties", 0.01, -0.02, 0.04)
    table, marked = merging_table(results, "small", described)
    assert table["method"].tolist() == ["sum", "ties", "iso_c"]
    assert marked["normalised"] == {1, 2}
    assert table["normalised: − sum"].tolist()[0::2] == ["", "+6.0 [+1.0, +11.0]"]
    assert table["α"].tolist() == ["0.5", "1.25", "2 (end of the grid)"]
    assert set(table["sees"]) == {"own task"}
    text = re.sub(r"<[^>]+>", " ", own_part(render(study)))
    assert "α is the largest that was tried: standard iso_c." in text


def numbers(values: object) -> list[float]:
    """Return an array of Plotly's JSON, in which arrays are base64."""
    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).tolist()
    assert isinstance(values, list)
    return values


def test_a_cell_is_sorted_by_its_number() -> None:
    cells = ["9.5 [9.0, 9.9]", "-2.0 [-3.0, 1.0]", "+10.0 [9.0, 11.0]", "", "tau_jp 97.2, ntk 85.1", "0123abc", "5-6"]
    assert [sort_key(cell) for cell in cells] == ["9.5", "-2.0", "+10.0", "", "tau_jp 97.2, ntk 85.1", "0123abc", "5-6"]


def accuracies(values: dict[str, float], differences: dict[str, float], half_width: float) -> pd.DataFrame:
    """Return single-task accuracies by paradigm, and differences ``b-a``, all with intervals of one half-width."""
    rows = []
    for name, value in [*values.items(), *differences.items()]:
        paradigm, _, other = name.partition("-")
        metric = f"accuracy_minus_{other}" if other else "accuracy"
        estimate = Estimate(value, value - half_width, value + half_width, 100)
        recorder = Recorder("m", 0, paradigm=paradigm)
        rows.append(recorder.estimate("single_task", "none", Subject.of_mean(), metric, estimate))
    return to_frame(rows)


@pytest.mark.parametrize(
    ("values", "differences", "marked"),
    [
        # Intervals overlap throughout; paired differences decide.
        ({"a": 0.80, "b": 0.81}, {"b-a": 0.01}, {"a", "b"}),
        ({"a": 0.80, "b": 0.83}, {"b-a": 0.03}, {"b"}),
        ({"a": 0.83, "b": 0.80}, {"b-a": -0.03}, {"a"}),
        ({"a": 0.80, "b": 0.83, "c": 0.82}, {"b-a": 0.03, "c-a": 0.02, "c-b": -0.01}, {"b", "c"}),
        # Without a paired difference, overlapping intervals are a tie.
        ({"a": 0.80, "b": 0.83}, {}, {"a", "b"}),
        ({"a": 0.80, "b": 0.85}, {}, {"b"}),
        ({"a": 0.80}, {}, set()),
    ],
)
def test_bold_is_whatever_cannot_be_told_from_the_best(
    values: dict[str, float], differences: dict[str, float], marked: set[str]
) -> None:
    assert distinguished(accuracies(values, differences, 0.02), "single-task") == marked


def test_the_lowest_target_is_the_best_and_a_constraint_has_no_best() -> None:
    study = make_study(paradigms=["standard", "posthoc", "ntk", "tau_jp"])
    (table, *_) = model_sections(study, "small")[0].tables()
    assert table.name == "summary"
    assert "negation: control" not in table.marked
    for title, rows in table.marked.items():
        values = table.frame[title].str.extract(r"^([\d.]+)")[0].astype(float)[1:]  # without the zero-shot row
        assert (values.idxmin() if title == "negation: target" else values.idxmax()) in rows
    caption = table.caption
    assert "paired difference" in caption
    assert "overlap" not in caption
    first_only = study.results.loc[~study.results["metric"].str.contains("minus_(?:posthoc|ntk)")]
    assert "overlaps" in marking(first_only, "small")


def test_bold_is_the_same_on_the_page_in_markdown_and_in_latex(tmp_path: Path) -> None:
    study = make_study()
    sections = {"small": model_sections(study, "small")}
    write_tables(tmp_path, study, sections)
    (table, *_) = sections["small"][0].tables()
    count = sum(map(len, table.marked.values()))
    all_tables = [table for section in sections["small"] for table in section.tables()]
    on_page = sum(len(rows) for table in all_tables for rows in table.marked.values())
    assert on_page > count  # merging methods have marks, too
    assert render(study).count('<strong title="not distinguishable from the best">') == on_page
    assert (tmp_path / "small_summary.md").read_text("utf-8").count("**") == 2 * count
    assert (tmp_path / "small_summary.tex").read_text("utf-8").count("\\textbf") == count
    assert summary_markdown(study.results, ["small"], study.control).count("**") == 2 * count + 2  # and the model
    paper = (tmp_path / "addition.tex").read_text("utf-8").count("\\textbf")
    assert paper == sum(len(table.marked[title]) for title in ("addition, tuned α", "normalised"))


HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    "a & b \u2028 \u2029 \" ' `",
    '"><svg onload=alert(1)>',
    "{{ 7 * 7 }} {% raw %}",
    '<a href="https://example.org">here</a>',
]


class Structure(HTMLParser):
    """The elements of a page with the names of their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))


def structure(page: str) -> list[tuple[str, tuple[str, ...]]]:
    parser = Structure()
    parser.feed(page)
    return parser.elements


def renamed(study: Study, old: str, new: str) -> Study:
    """Replace a text in everything that a study holds."""

    def replace(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(old, new)
        if isinstance(value, pd.DataFrame):
            return value.map(replace)
        if isinstance(value, dict):
            return {replace(key): replace(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(replace, value))
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            changed = {field.name: replace(getattr(value, field.name)) for field in dataclasses.fields(value)}
            return dataclasses.replace(value, **changed)
        if isinstance(value, BaseModel):
            return value.model_copy(update={name: replace(getattr(value, name)) for name in type(value).model_fields})
        return value

    return replace(study)


PLACES = {
    "model": "M-0",
    "paradigm": "posthoc",
    "task": "t-0",
    "control": "k-0",
    "suite": "random",
    "licence": "a licence",
    "machine": "a machine",
    "layer": "proj",
}


@pytest.fixture(scope="module")
def plain() -> tuple[Study, list[tuple[str, tuple[str, ...]]]]:
    study = make_study(models=["M-0"], paradigms=["standard", "posthoc"], tasks=["t-0", "t-1"], control="k-0")
    return study, structure(own_part(render(study)))


@pytest.mark.parametrize("place", PLACES)
def test_no_text_of_a_user_changes_the_structure_of_the_page(
    plain: tuple[Study, list[tuple[str, tuple[str, ...]]]], place: str
) -> None:
    """A text is replaced wherever it occurs; the page keeps its elements and their attributes."""
    study, elements = plain
    page = own_part(render(renamed(study, PLACES[place], "".join(HOSTILE))))
    assert structure(page) == elements
    assert "<script>alert" not in page
    for figure in figures(page):
        tags = re.findall(r"<[^>]*>?", json.dumps(figure, ensure_ascii=False))
        assert set(tags) <= {"<br>", "<extra>", "</extra>"}


@pytest.mark.parametrize("text", HOSTILE)
def test_json_in_a_script_element_holds_no_markup(text: str) -> None:
    written = page_json({text: [text]})
    assert not re.search("[<>&\u2028\u2029]", written)
    assert json.loads(written) == {text: [text]}


def test_figures_are_data_that_the_browser_reads_back() -> None:
    study = renamed(make_study(models=["m"]), "posthoc", "a<b & \u2028")
    names = {trace.get("name") for figure in figures(render(study)) for trace in figure["data"]}
    assert "a&lt;b &amp; \u2028" in names  # which Plotly shows as a<b &


def test_the_page_needs_no_matplotlib(root: Path) -> None:
    """It is a second of every start, and only figures for papers use it."""
    modules = ["pipeline.report", "pipeline.report.views"]
    for package in ("page", "page/sections", "tables"):
        for path in sorted((root / "pipeline" / "report" / package).glob("*.py")):
            modules.append(".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"))
    assert "pipeline.report.page.render" in modules
    code = f"import importlib, sys; [importlib.import_module(m) for m in {modules}]; print('matplotlib' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert process.stdout == "False\n"


def test_panels_of_negation_share_their_axes_and_say_why_grids_differ() -> None:
    study = make_study(paradigms=["standard", "ntk"], tasks=["a", "b"])
    searches = dict(study.models["small"].searches)
    longer = {
        task: pd.concat([curve, curve.assign(alpha=curve["alpha"] + 2)], ignore_index=True)
        for task, curve in searches["ntk"].negation.items()
    }
    searches["ntk"] = dataclasses.replace(searches["ntk"], negation=longer)
    curves = views.negation_curves(searches, study.retention)
    panels = [negation_curves(curves, paradigm) for paradigm in searches]
    layouts = [json.loads(str(panel.to_json()))["layout"] for panel in panels]
    for axis in ("xaxis", "xaxis2", "yaxis", "yaxis2"):
        assert layouts[0][axis]["range"] == layouts[1][axis]["range"]
    assert layouts[0]["xaxis"]["range"] == [0, 3]
    papers = [paper_figures.negation_curves(curves, paradigm) for paradigm in searches]
    for first, second in zip(papers[0].axes, papers[1].axes, strict=True):
        assert (first.get_xlim(), first.get_ylim()) == (second.get_xlim(), second.get_ylim())
    assert "standard up to α = 1" in curves.describe_grids()
    assert "ntk up to α = 3" in curves.describe_grids()
    pretrained = searches["standard"].pretrained_control
    assert curves.limit == pytest.approx(-100 * (1 - study.retention) * pretrained)
    row = curves.frame.iloc[1]
    expected = 100 * (searches["standard"].negation["a"]["control"].iloc[1] - pretrained)
    assert row["control"] == pytest.approx(expected)


def test_tables_as_files(tmp_path: Path) -> None:
    study = make_study(models=["first", "second"])
    sections = {model: model_sections(study, model) for model in study.models}
    write_tables(tmp_path, study, sections)
    stems = {path.stem for path in tmp_path.iterdir()}
    for model in study.models:
        assert {f"{model}_{name}" for name in ("summary", "differences", "tasks_tau_jp", "literature")} <= stems
    table = pd.read_csv(tmp_path / "second_summary.csv").set_index("paradigm")
    row = study.results.query(
        "model == 'second' and paradigm == 'ntk' and benchmark == 'single_task' and scope == 'mean'"
    )
    assert row.empty  # not among the paradigms
    row = study.results.query(
        "model == 'second' and paradigm == 'tau_jp' and benchmark == 'single_task' and scope == 'mean'"
    ).iloc[0]
    for column, suffix in (("value", ""), ("ci_low", ": low"), ("ci_high", ": high")):
        assert table.loc["tau_jp", f"single-task{suffix}"] == pytest.approx(100 * row[column], abs=0.051)
    for path in tmp_path.glob("*.tex"):
        text = path.read_text("utf-8")
        assert text.isascii(), path
        assert text.count("\\begin{tabular}") == text.count("\\bottomrule") == 1


def test_the_papers_tables(tmp_path: Path) -> None:
    study = make_study(models=["first", "second"])
    write_tables(tmp_path, study, {})
    lines = (tmp_path / "addition.tex").read_text("utf-8").splitlines()
    assert "\\multicolumn{2}{c}{first} & \\multicolumn{2}{c}{second}" in "\n".join(lines)
    (row,) = [line for line in lines if line.startswith("tau\\_jp")]
    cells = [cell.strip() for cell in row.removesuffix("\\\\").split("&")]
    means = study.results.query(
        "paradigm == 'tau_jp' and benchmark == 'addition' and setting == 'tuned' and scope == 'mean'"
    )
    expected = [
        means.query("model == @model and metric == @metric")["value"].iloc[0]
        for model in study.models
        for metric in ("accuracy", "normalized")
    ]
    plain = [cell.removeprefix("\\textbf{").removesuffix("}") for cell in cells[1:]]
    assert [float(cell) for cell in plain] == pytest.approx([100 * value for value in expected], abs=0.051)
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
        "merging",
        "merging_tasks",
    ):
        assert {f"small_{stem}.svg", f"small_{stem}.pdf"} <= names
    for name in names:
        content = (tmp_path / "one" / name).read_bytes()
        assert content == (tmp_path / "two" / name).read_bytes(), name
        assert content.startswith(b"<svg" if name.endswith("svg") else b"%PDF")
    disentanglement = (tmp_path / "one" / "small_disentanglement.svg").read_text("utf-8")
    for text in ("a – b", "tau_jp", "standard", "α₁"):
        assert f"{text}</text>" in disentanglement
