"""Costs, published figures and origins against what they are made from."""

import json
from pathlib import Path
from typing import Literal

import pytest

from pipeline.config import OtherTasks, Recipe, RegulariserSettings
from pipeline.errors import UserError
from pipeline.report.page.scatters import published as published_figure
from pipeline.report.tables.cost import TimingRecord, cost_table, paradigm_costs, step_variant
from pipeline.report.tables.literature import (
    CONTROL,
    DTDS,
    SUITES,
    TASKS,
    literature_table,
    of_tasks,
    orderings,
    published_points,
    published_results,
    why_not_comparable,
)
from pipeline.report.tables.origins import SourceTable, sources_table, vectors_table
from tests.report.studies import PARADIGMS, RECIPES, make_record, make_study

ROOT = Path(__file__).parents[2]


def tau_jp(mode: Literal["cyclic", "strict"]) -> RegulariserSettings:
    others = OtherTasks(tasks=["a"], control=None, arrivals=None, mode=mode, batch_size=2)
    return RegulariserSettings(name="tau_jp", weight=0.1, options={}, others=others)


@pytest.mark.parametrize(
    ("trainable", "space", "regulariser", "variant"),
    [
        ("all", "weight", None, "standard"),
        ("all", "tangent", None, "tangent"),
        ("attention", "weight", None, "attention"),
        ("attention", "tangent", None, "attention, tangent"),
        ("all", "tangent", tau_jp("cyclic"), "tau_jp cyclic"),
        ("all", "tangent", tau_jp("strict"), "tau_jp strict"),
        ("linear", "weight", None, None),
        ("attention", "tangent", tau_jp("cyclic"), None),
        ("all", "tangent", RegulariserSettings(name="mine", weight=1, options={}, others=None), None),
    ],
)
def test_a_recipe_costs_what_its_parts_do(
    trainable: str, space: Literal["weight", "tangent"], regulariser: RegulariserSettings | None, variant: str | None
) -> None:
    recipe = Recipe(trainable=trainable, trained_in=space, regulariser=regulariser, extension=None, start=None)
    assert step_variant(recipe) == variant


def test_variants_are_those_of_the_benchmark() -> None:
    """And the committed records hold them."""
    for path in (ROOT / "benchmarks" / "records").glob("training_steps_*.json"):
        record = TimingRecord.read(path)
        assert path.stem == f"training_steps_{record.model}"
        assert {"standard", "tangent", "attention", "tau_jp cyclic"} <= set(record.variants)


def test_costs_by_hand() -> None:
    record = make_record("small")
    costs = paradigm_costs(record, PARADIGMS, RECIPES)
    assert {name: (cost.milliseconds, cost.relative) for name, cost in costs.items()} == {
        "standard": (pytest.approx(100), 1),
        "posthoc": (pytest.approx(100), 1),
        "ntk": (pytest.approx(150), pytest.approx(1.5)),
        "tau_jp": (pytest.approx(200), pytest.approx(2)),
    }
    assert costs["ntk"].images_per_second == pytest.approx(10 / 0.15)
    assert costs["ntk"].memory_mib == 2
    table = cost_table(costs, PARADIGMS, record.timed_by)
    assert table.loc["tau_jp", "CPU time of a step, ms"] == "200"
    assert set(table.loc["biases"]) == {""}
    imported = PARADIGMS["standard"].model_copy(update={"recipe": "theirs"})  # which trains nowhere
    assert paradigm_costs(record, {"standard": PARADIGMS["standard"], "theirs": imported}, RECIPES).keys() == {
        "standard"
    }
    gpu = record.model_copy(update={"device": "cuda"})
    assert gpu.timed_by == "time"
    assert paradigm_costs(gpu, PARADIGMS, RECIPES)["ntk"].milliseconds == pytest.approx(450)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content.pop("variants"), "variants: Field required"),
        (lambda content: content["variants"].pop("standard"), "no variant 'standard'"),
        (lambda content: content["variants"]["standard"].update(seconds=-1), "variants.standard.seconds"),
    ],
)
def test_a_damaged_record_is_one_line(tmp_path: Path, damage, message: str) -> None:
    content = make_record("small").model_dump()
    damage(content)
    path = tmp_path / "record.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as error:
        TimingRecord.read(path)
    assert str(path) in str(error.value)
    assert "benchmarks.training_steps" in str(error.value)


def test_differences_from_the_published_where_ours_are_comparable() -> None:
    study = make_study(models=["ViT-B-32"], tasks=TASKS, control=CONTROL)
    assert why_not_comparable("ViT-B-32", study.tasks, study.control, published_results()) == ""
    table = literature_table(study.results, "ViT-B-32", study.tasks, study.control, "")
    of_tau_jp = table.query("paradigm == 'tau_jp'").set_index("paper")
    means = study.results.query("paradigm == 'tau_jp' and scope == 'mean' and benchmark == 'addition'")
    ours = 100 * means.query("setting == 'tuned' and metric == 'accuracy'")["value"].iloc[0]
    assert of_tau_jp.index[0] == "ours"
    assert of_tau_jp["addition, tuned α"].iloc[0].startswith(f"{ours:.1f} [")
    cells = zip(table["paradigm"], table["paper"], table["addition, tuned α"], strict=True)
    (yoshida,) = [cell for paradigm, paper, cell in cells if paradigm == "tau_jp" and paper.startswith("Yoshida")]
    assert yoshida == f"84.5 ({ours - 84.5:+.1f})"
    assert set(table["model"]) == {"ViT-B-32"}
    assert set(table["tasks"]) == {"8"}
    assert list(dict.fromkeys(table["paradigm"])) == ["standard", "posthoc", "tau_jp"]


def test_no_difference_where_nothing_is_comparable() -> None:
    study = make_study()
    reason = why_not_comparable("small", study.tasks, study.control, published_results())
    assert "another model" in reason
    assert "other tasks" in reason
    table = literature_table(study.results, "small", study.tasks, study.control, reason)
    theirs = table[table["paper"] != "ours"]
    assert set(theirs["model"]) == {"ViT-B-32"}
    assert set(theirs["tasks"]) == {"8"}
    assert set(table.loc[table["paper"] == "ours", "tasks"]) == {"3"}
    assert not any("(" in cell for cell in theirs["addition, tuned α"])


@pytest.mark.parametrize("suite", SUITES)
def test_figures_for_other_tasks_are_never_beside_ours(suite: str) -> None:
    study = make_study(models=["ViT-B-32"], paradigms=["standard"], tasks=SUITES[suite], control=CONTROL)
    published = published_results()
    comparable = of_tasks(published, study.tasks)
    assert set(comparable["tasks"]) == {len(SUITES[suite])}
    assert set(of_tasks(published, study.tasks[1:])["paper"]) == set()
    assert why_not_comparable("ViT-B-32", study.tasks, study.control, published) == ""
    table = literature_table(study.results, "ViT-B-32", study.tasks, study.control, "")
    assert set(table["tasks"]) == {str(len(SUITES[suite]))}
    papers = {"paper14": {"Gargiulo et al. 2025", "Tang et al. 2024", "Jung et al. 2026"}}
    papers |= {"paper20": papers["paper14"] - {"Tang et al. 2024"}, "public20": {"Tang et al. 2024"}}
    theirs = table.loc[table["paper"] != "ours", "paper"].str.partition(",")[0]
    assert set(theirs) == papers.get(suite, set(theirs))
    points = published_points(study.results, "ViT-B-32", study.tasks, ["standard"], "")
    assert set(points["source"].str.removesuffix(", ViT-B-32")) == {"ViT-B-32", *theirs}
    standard = comparable.query("model == 'ViT-B-32' and paradigm == 'standard'")
    assert set(points.loc[points["source"] != "ViT-B-32", "percent"]) <= set(standard["percent"])


def test_paradigms_that_nobody_published_for_our_tasks_stand_alone() -> None:
    study = make_study(models=["ViT-B-32"], paradigms=["tau_jp"], tasks=SUITES["paper14"], control=CONTROL)
    table = literature_table(study.results, "ViT-B-32", study.tasks, study.control, "")
    assert table[["paradigm", "paper"]].to_numpy().tolist() == [["tau_jp", "ours"]]


def test_orderings() -> None:
    study = make_study()
    rows = orderings(study.results, "small", study.tasks, list(study.paradigms), "another model")
    means = study.results.query(
        "scope == 'mean' and benchmark == 'negation' and setting == 'tuned' and metric == 'target'"
    )
    best_first = means.sort_values("value")["paradigm"].tolist()
    assert [part.split()[0] for part in rows.loc["small", "negation: target"].split(", ")] == best_first
    assert rows.loc["Yoshida et al. 2025, ViT-B-32", "normalised, α = 1"] == "tau_jp 97.2, standard 20.5"
    points = published_points(study.results, "small", study.tasks, ["standard"], "another model")
    assert set(points["paradigm"]) == {"standard"}


def test_each_source_has_the_parameters_of_its_stage() -> None:
    sources = [
        SourceTable("", "addition@m-ntk", "a.csv", ["seed", "tasks"], "0"),
        SourceTable("", "x@m", "b.csv", [], "1"),
    ]
    table = sources_table(sources)
    assert table["parameters"].tolist() == ["seed, tasks", ""]
    assert table["MD5"].tolist() == ["0", "1"]


def test_task_vectors_of_other_weights_stand_apart() -> None:
    same = {"space": "weight", "seed": 0, "base_sha256": "b", "code": "c"}
    table = vectors_table({"standard": {"x": same, "y": same, "z": {**same, "base_sha256": "d"}}})
    assert table["tasks"].tolist() == ["x, y", "z"]
    assert table["θ₀: SHA-256"].tolist() == ["b", "d"]


def test_every_published_figure_says_whether_its_dtd_is_clean_and_where_alpha_was_chosen() -> None:
    published = published_results()
    assert set(published["dtd"]) <= {*DTDS, ""}
    tuned = published["setting"] == "tuned"
    others = {"fixed at 0.3", "fixed at 1.5", "not stated", "unlabelled test images"}
    assert set(published.loc[tuned, "tuned_on"]) == {"val", *others}
    merged = published["paradigm"].str.startswith("standard_") | (published["paper"] == "Tang et al. 2024")
    assert set(published.loc[tuned & ~merged, "tuned_on"]) == {"val"}
    learned = published["paradigm"] == "standard_adamerging"
    assert set(published.loc[learned, "tuned_on"]) == {"unlabelled test images"}
    assert set(published.loc[~tuned, "tuned_on"]) == {""}


def test_figures_of_leaky_checkpoints_are_marked_and_not_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    published = published_results()
    leaky = published.assign(dtd=published["dtd"].mask(published["paper"] == "Yoshida et al. 2025", "leaky"))
    monkeypatch.setattr("pipeline.report.tables.literature.published_results", lambda: leaky)
    study = make_study()
    table = literature_table(study.results, "small", study.tasks, study.control, "another model")
    marks = dict(zip(table["paper"].str.partition(",")[0], table["DTD"], strict=True))
    assert marks["Yoshida et al. 2025"] == "leaky"
    assert marks["Porrello et al. 2026"] == "clean"
    assert marks["ours"] == ""
    order = orderings(study.results, "small", study.tasks, list(study.paradigms), "another model")
    assert "Yoshida et al. 2025, ViT-B-32" not in order.index
    points = published_points(study.results, "small", study.tasks, ["standard", "tau_jp"], "another model")
    figure = published_figure(points, "small", ["standard", "tau_jp"], "normalised")
    (trace,) = [trace for trace in figure.data if trace.name.startswith("Yoshida")]
    assert trace.name.endswith("(leaky DTD)")
    assert trace.marker.symbol.endswith("-open")
