"""``tauflow compare`` on the committed results, and ours beside the published figures."""

import csv
import io
import itertools
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from artifacts.identity import headline_identity
from artifacts.layout import HEADLINES
from artifacts.tables import write_results_table
from pipeline.config import load_parameters
from pipeline.measurements import read_measurements
from pipeline.merging import merging
from pipeline.models import model_names
from pipeline.report.tables.literature import CONTROL, SUITES, TASKS, published_results, published_rows
from pipeline.report.tables.results import COLUMNS
from tauflow.commands.output import Format, render
from tauflow.comparing.literature import compare_with_literature
from tauflow.comparing.ownership import HEADLINE_BENCHMARKS
from tests.cli.conftest import Run
from tests.committed import committed, copy_committed


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the committed parameters and results, which is also the current one."""
    monkeypatch.chdir(tmp_path)
    copy_committed(tmp_path, "params.yaml", "dvc.yaml", "reports/results.csv")
    results = read_measurements(Path("reports/results.csv"))
    headlines = results.loc[results["benchmark"].isin(HEADLINE_BENCHMARKS)]
    write_results_table(HEADLINES, headlines, headline_identity(load_parameters(Path("params.yaml"))))
    return tmp_path


def test_paradigms_are_the_summary(study: Path, run: Run) -> None:
    """The same rows as in the README's table, with the model before them."""
    lines = run("compare", "--format", "markdown").output.splitlines()
    summary = committed("reports/summary.md").splitlines()
    shown = [line for line in summary if line.startswith("| ") and "−" not in line and "difference" not in line]
    rows = [line.replace("**", "") for line in shown]  # bold is the summary's
    assert [
        line.replace("| mini-clip", "", 1).replace("| model", "", 1).lstrip() for line in lines if "---" not in line
    ] == rows


def test_csv_has_numbers(study: Path, run: Run) -> None:
    table = pd.read_csv(io.StringIO(run("compare", "-f", "csv").output)).set_index("paradigm")
    results = read_measurements(HEADLINES)
    rows = results.query("paradigm == 'ntk' and benchmark == 'addition' and setting == 'tuned' and scope == 'mean'")
    expected = rows[rows["metric"] == "accuracy"].iloc[0]
    for column, name in (("value", ""), ("ci_low", ": low"), ("ci_high", ": high")):
        assert table.loc["ntk", f"addition, tuned α{name}"] == pytest.approx(100 * expected[column], abs=0.051)
    assert table.loc["ntk", "α"] == pytest.approx(0.15)


def test_latex(study: Path, run: Run) -> None:
    text = run("compare", "-f", "latex").output
    assert text.startswith("\\begin{tabular}")
    assert "\\toprule" in text
    assert "tau\\_jp" in text
    assert text.isascii()


def test_a_table_in_a_file_and_in_a_pipe_is_not_folded(study: Path, run: Run) -> None:
    printed = run("compare").output
    assert run("compare", "--out", "table.txt").output == "table.txt: written\n"
    assert Path("table.txt").read_text(encoding="utf-8") == printed
    (line,) = [line for line in printed.splitlines() if " zero-shot " in line]
    assert line.count("52.3 [51.3, 53.4]") == 3


def test_a_pipe_is_not_folded_where_colours_are_forced(study: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich takes any output for a terminal there, as continuous integration sets it."""
    printed = run("compare").output
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run("compare").output == printed


def test_a_file_that_cannot_be_written(study: Path, run: Run) -> None:
    Path("table").mkdir()
    result = run("compare", "--out", "table")
    assert result.exit_code == 1
    assert result.stderr == "error: --out table: a folder or device, which a file cannot replace; name another file\n"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda frame: frame[frame["benchmark"] != "negation"], "standard: negation: target"),
        (lambda frame: frame[frame["task"] != "emoji"], "zero-shot accuracy on emoji"),
        (lambda frame: frame[frame["benchmark"] != "single_task"], "single-task accuracy"),
        (lambda frame: frame[:0], "holds no results"),
        (lambda frame: frame.drop(columns="n"), "its columns are"),
    ],
)
def test_results_that_lack_something(study: Path, run: Run, damage, message: str) -> None:
    path = HEADLINES
    damage(pd.read_csv(path, keep_default_na=False)).to_csv(path, index=False)
    result = run("compare")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: reports/headlines.csv: ")
    assert message in line


def test_nothing_published_is_comparable_with_the_mini_suite(study: Path, run: Run) -> None:
    result = run("compare", "--literature", "-f", "csv")
    (line,) = result.stderr.splitlines()
    assert line.startswith("note: mini-clip: nothing published is comparable with ours: another model than ViT-B-32")
    assert "other tasks (icons, fashion" in line
    table = pd.read_csv(io.StringIO(result.stdout), dtype=str)
    assert "ours" not in set(table["paper"])
    row = table.query("model == 'ViT-B-32' and paradigm == 'tau_jp'").iloc[0]
    assert row["paper"].startswith("Yoshida et al. 2025, OpenReview:")
    # tauJp reg, tuned and at α = 1, of the paper's table of addition and its table of negation.
    assert row[list(COLUMNS)[1:]].tolist() == ["84.5", "97.6", "84.2", "97.2", "6.7", "60.8"]


def test_ours_stand_before_the_published_where_model_and_tasks_are_the_same(study: Path) -> None:
    results = read_measurements(HEADLINES)
    ours = results.assign(model="ViT-B-32").replace({"task": {"emoji": CONTROL}})
    table, reasons = compare_with_literature(ours, ["ViT-B-32"], [task.upper() for task in TASKS], CONTROL)
    assert reasons == []
    of_ntk = table.query("model == 'ViT-B-32' and paradigm == 'ntk'")
    assert of_ntk["paper"].iloc[0] == "ours"
    (row,) = [line for line in committed("reports/summary.md").splitlines() if line.startswith("| ntk |")]
    assert of_ntk["addition, tuned α"].iloc[0] == row.split(" | ")[3].replace("**", "")
    assert "74.3" in of_ntk["addition, tuned α"].tolist()
    _, reasons = compare_with_literature(ours, ["ViT-B-32"], [*TASKS[:7], "icons"], CONTROL)
    assert reasons[0].startswith("ViT-B-32: nothing published is comparable with ours: other tasks")


@pytest.mark.parametrize("suite", SUITES)
def test_ours_stand_among_figures_for_as_many_tasks(study: Path, suite: str) -> None:
    """These come first; figures for other numbers of tasks are apart, each number by itself."""
    ours = read_measurements(HEADLINES).assign(model="ViT-B-32").replace({"task": {"emoji": CONTROL}})
    table, reasons = compare_with_literature(ours, ["ViT-B-32"], SUITES[suite], CONTROL)
    assert reasons == []
    number = str(len(SUITES[suite]))
    assert set(table.loc[table["paper"] == "ours", "tasks"]) == {number}
    assert [tasks for tasks, _ in itertools.groupby(table["tasks"])] == [
        number,
        *sorted({"8", "14", "20"} - {number}, key=int),
    ]
    of_standard = table.query("tasks == @number and model == 'ViT-B-32' and paradigm == 'standard'")
    assert of_standard["paper"].iloc[0] == "ours"
    assert len(of_standard) > 1


def test_suites_of_the_published_figures_are_ours(root: Path) -> None:
    suites = {suite: yaml.safe_load((root / "conf" / "suite" / f"{suite}.yaml").read_text()) for suite in SUITES}
    assert {suite: set(content["tasks"]) for suite, content in suites.items()} == {
        suite: set(tasks) for suite, tasks in SUITES.items()
    }


def test_every_published_cell_is_one_number() -> None:
    rows = published_rows(published_results())
    assert not rows.duplicated(["tasks", "model", "paradigm", "paper", "DTD"]).any()
    cells = rows[list(COLUMNS)].to_numpy().ravel().tolist()
    assert all(re.fullmatch(r"\d+\.\d{1,2}", cell) for cell in cells if cell)
    iso_c = rows.query("model == 'ViT-B-32' and paradigm == 'standard_iso_c' and paper.str.startswith('Marczak')")
    assert iso_c[["tasks", "DTD", "addition, tuned α"]].to_numpy().tolist() == [
        ["8", "leaky", "86.3"],
        ["14", "leaky", "80.3"],
        ["20", "leaky", "75.5"],
        ["8", "clean", "84.1"],
    ]


def test_published_figures_are_of_our_words(root: Path) -> None:
    published = published_results()
    assert set(published["model"]) < set(model_names())
    paradigms = {path.stem for path in (root / "conf" / "paradigm").glob("*.yaml")} - {"all", "main"}
    # Methods of merging that we do not have stand under their own names.
    methods = {*merging.names(), "adamerging", "iso_c_larv", "regmean_plus_plus"}
    assert set(published["paradigm"]) < paradigms | {f"standard_{method}" for method in methods}
    assert set(published["tasks"]) == {len(tasks) for tasks in SUITES.values()}
    known = {*COLUMNS.values(), ("negation", "alpha_1", "target"), ("negation", "alpha_1", "control")}
    assert set(published[["benchmark", "setting", "metric"]].itertuples(index=False, name=None)) <= known
    assert published["percent"].between(0, 100).all()
    for column in ("paper", "identifier", "method", "source"):
        assert published[column].str.len().min() > 0
    keys = ["paper", "paradigm", "model", "tasks", "dtd", "benchmark", "setting", "metric"]
    assert not published.duplicated(keys).any()


def test_literature_and_experiments_exclude_each_other(study: Path, run: Run) -> None:
    result = run("compare", "--literature", "HEAD")
    assert result.exit_code == 1
    assert "leave out the experiments" in result.stderr


def test_without_results(study: Path, run: Run) -> None:
    shutil.rmtree("reports")
    for arguments in ([], ["--literature"]):
        result = run("compare", *arguments)
        assert result.exit_code == 1
        assert result.stderr.startswith("error: reports/headlines.csv: there are no results of this study yet; ")


def test_without_a_pipeline(study: Path, run: Run) -> None:
    Path("dvc.yaml").unlink()
    result = run("compare")
    assert result.exit_code == 1
    assert result.stderr == "error: dvc.yaml: no such file; run this from the root of the project\n"


def test_markdown_escapes_what_ends_a_cell() -> None:
    text = render(pd.DataFrame({"a": ["x|y"]}), "", Format.markdown)
    assert text == "| a |\n|---|\n| x\\|y |\n"
    assert list(csv.reader(render(pd.DataFrame({"a": ["x,y"]}), "", Format.csv).splitlines())) == [["a"], ["x,y"]]


def test_brackets_in_cells_stay() -> None:
    assert " [bold] " in render(pd.DataFrame({"a": ["x [bold] y"]}), "", Format.table)
