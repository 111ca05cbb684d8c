"""Costs, published figures and origins against what they are made from."""

import json
from pathlib import Path
from typing import Literal

import pytest
import yaml

from pipeline.config import OtherTasks, Recipe, RegulariserSettings
from pipeline.errors import UserError
from pipeline.report.cost import Record, cost_table, paradigm_costs, step_variant
from pipeline.report.literature import (
    CONTROL,
    TASKS,
    literature_table,
    orderings,
    published_points,
    published_results,
    why_not_comparable,
)
from pipeline.report.origins import STAGE_PARAMETERS, Source, sources_table, vectors_table
from tests.report.studies import PARADIGMS, RECIPES, make_record, make_study

ROOT = Path(__file__).parents[2]


def tau_jp(mode: Literal["cyclic", "strict"]) -> RegulariserSettings:
    others = OtherTasks(tasks=["a"], control=None, mode=mode, batch_size=2)
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
        record = Record.read(path)
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
        Record.read(path)
    assert str(path) in str(error.value)
    assert "benchmarks.training_steps" in str(error.value)


def test_differences_from_the_published_where_ours_are_comparable() -> None:
    study = make_study(models=["ViT-B-32"], tasks=TASKS, control=CONTROL)
    assert why_not_comparable("ViT-B-32", study.tasks, study.control, published_results()) == ""
    table = literature_table(study.results, "ViT-B-32", study.control, "")
    of_tau_jp = table.query("paradigm == 'tau_jp'").set_index("paper")
    means = study.results.query("paradigm == 'tau_jp' and task == 'mean' and benchmark == 'addition'")
    ours = 100 * means.query("setting == 'tuned' and metric == 'accuracy'")["value"].iloc[0]
    assert of_tau_jp.index[0] == "ours"
    assert of_tau_jp["addition, tuned α"].iloc[0].startswith(f"{ours:.1f} [")
    cells = zip(table["paradigm"], table["paper"], table["addition, tuned α"], strict=True)
    (yoshida,) = [cell for paradigm, paper, cell in cells if paradigm == "tau_jp" and paper.startswith("Yoshida")]
    assert yoshida == f"84.5 ({ours - 84.5:+.1f})"
    assert set(table["model"]) == {"ViT-B-32"}
    assert list(dict.fromkeys(table["paradigm"])) == ["standard", "posthoc", "tau_jp"]


def test_no_difference_where_nothing_is_comparable() -> None:
    study = make_study()
    reason = why_not_comparable("small", study.tasks, study.control, published_results())
    assert "another model" in reason
    assert "other tasks" in reason
    table = literature_table(study.results, "small", study.control, reason)
    theirs = table[table["paper"] != "ours"]
    assert set(theirs["model"]) == {"ViT-B-32"}
    assert not any("(" in cell for cell in theirs["addition, tuned α"])


def test_orderings() -> None:
    study = make_study()
    found = orderings(study.results, "small", list(study.paradigms), "another model")
    means = study.results.query(
        "task == 'mean' and benchmark == 'negation' and setting == 'tuned' and metric == 'target'"
    )
    best_first = means.sort_values("value")["paradigm"].tolist()
    assert [part.split()[0] for part in found.loc["small", "negation: target"].split(", ")] == best_first
    assert found.loc["Yoshida et al. 2025, ViT-B-32", "normalised, α = 1"] == "tau_jp 97.2, standard 20.5"
    points = published_points(study.results, "small", ["standard"], "another model")
    assert set(points["paradigm"]) == {"standard"}


def test_each_source_has_the_parameters_of_its_stage() -> None:
    dag = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
    declared = {
        name: ", ".join(dag[name].get("do", dag[name])["params"]).replace("${item.", "<").replace("}", ">")
        for name in STAGE_PARAMETERS
    }
    assert declared == STAGE_PARAMETERS
    table = sources_table([Source("", "addition@m-ntk", "a.csv", "0"), Source("", "comparison@m", "b.csv", "1")])
    assert table["parameters"].tolist() == [declared["addition"], declared["comparison"]]
    assert table["MD5"].tolist() == ["0", "1"]


def test_task_vectors_of_other_weights_stand_apart() -> None:
    same = {"space": "weight", "seed": 0, "base_sha256": "b", "code": "c"}
    table = vectors_table({"standard": {"x": same, "y": same, "z": {**same, "base_sha256": "d"}}})
    assert table["tasks"].tolist() == ["x, y", "z"]
    assert table["θ₀: SHA-256"].tolist() == ["b", "d"]
