"""The suites' learning rates are what their sweeps choose, and the choice follows its rule."""

from pathlib import Path

import pytest
import yaml

from tauflow.dvc.composition import compose
from tools.sweep import SWEEPS, TABLES, Trial, choose, combinations, read_trials

# The other sweeps choose nothing.
SUITES = sorted(
    {path.stem for path in SWEEPS.glob("*.yaml")} & {path.stem for path in Path("conf/suite").glob("*.yaml")}
)


def trial(single_task: float, addition: float, overrides: str = "") -> Trial:
    return Trial(
        paradigm="ntk",
        overrides=overrides,
        seed=0,
        single_task=single_task,
        alpha=0.3,
        addition=addition,
        normalized=0.8,
        addition_alpha_1=0.5,
        standard_error=0.01,
        seconds=1.0,
    )


def test_the_best_single_task_accuracy_wins_among_sums_within_one_standard_error() -> None:
    trials = [trial(0.70, 0.650), trial(0.80, 0.641), trial(0.90, 0.639)]
    assert choose(trials) == trials[1]


def test_every_combination_is_tried() -> None:
    assert list(combinations({"a": [1, 2], "b": [3, 4]})) == ["a=1 b=3", "a=1 b=4", "a=2 b=3", "a=2 b=4"]


@pytest.mark.parametrize("suite", SUITES)
def test_the_configuration_holds_the_choice(suite: str, tmp_path: Path) -> None:
    compose(Path(), [f"suite={suite}", "paradigm=all"], tmp_path / "params.yaml")
    composed = yaml.safe_load((tmp_path / "params.yaml").read_text())
    sweeps = yaml.safe_load((SWEEPS / f"{suite}.yaml").read_text())
    trials = read_trials(TABLES / f"{suite}.csv")
    for paradigm, sweep in sweeps.items():
        of_paradigm = [trial for trial in trials if trial.paradigm == paradigm and trial.seed == 0]
        assert {trial.overrides for trial in of_paradigm} >= set(combinations(sweep))
        for override in choose(of_paradigm).overrides.split():
            key, value = override.split("=")
            entry = composed
            for part in key.split("."):
                entry = entry[part]
            assert entry == float(value), key
