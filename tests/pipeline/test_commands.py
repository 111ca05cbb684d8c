"""``tauflow evaluate`` and ``compare`` on what the real pipeline made."""

import io
import shutil

import pandas as pd
import pytest

from pipeline.files import read_json
from pipeline.measurements import MEAN, read_measurements, select
from tests.pipeline.conftest import Project

pytestmark = pytest.mark.pipeline

COLUMNS = {"value": "", "ci_low": ": low", "ci_high": ": high"}


@pytest.mark.parametrize("paradigm", ["standard", "posthoc"])
def test_the_edit_of_a_stage_gets_its_numbers_and_intervals(reproduced: Project, paradigm: str) -> None:
    """In weight space and in tangent space."""
    reports = reproduced.root / "reports" / "mini-clip" / paradigm
    alpha = read_json(reports / "alpha.json")["alpha"]["addition"]
    edit = ",".join(f"{task}={alpha}" for task in ("optdigits", "textures"))
    output = reproduced.run("tauflow", "evaluate", "--edit", edit, "--paradigm", paradigm, "--format", "csv").stdout
    found = pd.read_csv(io.StringIO(output)).set_index("task")
    expected = read_measurements(reproduced.root / "reports" / "results.csv")
    expected = select(expected, paradigm=paradigm)
    sums = select(expected, benchmark="addition", setting="tuned")
    for task in ("optdigits", "textures", MEAN):
        row = found.loc["mean over tasks" if task == MEAN else task]
        for title, rows in (
            ("zero-shot", select(expected, benchmark="zero_shot")),
            ("edited", select(sums, metric="accuracy")),
            ("normalised", select(sums, metric="normalized")),
        ):
            for column, suffix in COLUMNS.items():
                (number,) = select(rows, task=task)[column]
                assert row[f"{title}{suffix}"] == pytest.approx(100 * number, abs=0.0501), (task, title, column)
    control = select(expected, benchmark="zero_shot", task="emoji").iloc[0]
    assert found.loc["emoji (control)", "zero-shot: low"] == pytest.approx(100 * control["ci_low"], abs=0.0501)


def test_evaluate_without_artifacts_says_what_to_do(clone: Project) -> None:
    shutil.rmtree(clone.root / "data" / "task_vectors")
    result = clone.run("tauflow", "evaluate", "--edit", "textures=1", check=False)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: data/task_vectors/mini-clip/standard/optdigits.safetensors: no such file; restore")


def test_experiments_and_revisions_side_by_side(clone: Project) -> None:
    text = (clone.root / "reports" / "results.csv").read_text("utf-8")
    parameters = (clone.root / "params.yaml").read_text("utf-8")
    (clone.root / "reports" / "results.csv").write_text(
        text.replace("clip,standard,0,", "clip,standard,7,")
        .replace("posthoc,0,", "posthoc,7,")
        .replace("tau_jp,0,", "tau_jp,7,")
    )
    (clone.root / "params.yaml").write_text(
        "\n".join("seed: 7" if line == "seed: 0" else line for line in parameters.splitlines())
    )
    clone.run("dvc", "exp", "save", "--quiet", "--name", "seven")
    clone.run("git", "checkout", "--quiet", "--", ".")
    before = clone.run("git", "status", "--porcelain").stdout
    result = clone.run("tauflow", "compare", "workspace", "seven", "HEAD", "--format", "csv")
    table = pd.read_csv(io.StringIO(result.stdout))
    assert table["experiment"].tolist() == ["workspace", "seven", "HEAD"] * 4
    assert list(dict.fromkeys(table["paradigm"])) == ["zero-shot", "standard", "posthoc", "tau_jp"]
    own = pd.read_csv(io.StringIO(clone.run("tauflow", "compare", "--format", "csv").stdout))
    pd.testing.assert_frame_equal(
        select(table, experiment="seven").drop(columns="experiment").reset_index(drop=True), own
    )
    assert result.stderr.splitlines() == [
        "note: seven against workspace: seed: 0 → 7",
        "note: HEAD against workspace: the same parameters",
    ]
    assert clone.run("git", "status", "--porcelain").stdout == before


def test_an_unknown_experiment(reproduced: Project) -> None:
    result = reproduced.run("tauflow", "compare", "no-such-name", check=False)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line == "error: experiments: unknown Git revision 'no-such-name'; `dvc exp list` shows their names"


def test_an_unknown_paradigm_is_one_line(clone: Project) -> None:
    before = (clone.root / "params.yaml").read_bytes()
    result = clone.run("tauflow", "compose", "paradigm=nkt", check=False)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: paradigm: 'nkt' is unknown; legal are all, attention, ")
    assert (clone.root / "params.yaml").read_bytes() == before
