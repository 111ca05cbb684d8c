"""The headline of a paradigm: what its run in MLflow is made from."""

from pathlib import Path

import pytest

from pipeline.config import load_parameters
from tauflow.dvc.composition import compose
from tauflow.tracking.headlines import paradigm_headlines
from tests.conftest import ROOT
from tests.report.studies import make_study

CONTINUED = ("paradigms=[standard,ntk]", "recipe.ntk.start=standard", "recipe.ntk.trained_in=weight")


def test_a_recipe_with_a_start_has_parameters_and_the_instances_that_trained_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of stages that was kept by hand lacked `finetune_continued`, so that its run had neither."""
    compose(ROOT, ["suite=tiny", "paradigm=main", *CONTINUED], tmp_path / "params.yaml")
    params = load_parameters(tmp_path / "params.yaml")
    monkeypatch.chdir(ROOT)  # where dvc.yaml is
    results = make_study(models=["mini-clip"], paradigms=params.paradigms, tasks=params.tasks).results
    headlines = {headline.paradigm: headline for headline in paradigm_headlines(params, results)}
    continued = headlines["ntk"]
    assert continued.trained == [f"finetune_continued@mini-clip-{task}-ntk" for task in params.tasks]
    assert continued.vectors == [f"task_vector@mini-clip-{task}-ntk" for task in params.tasks]
    assert continued.params["start"] == "standard"
    assert continued.params["lr"] > 0
    assert headlines["standard"].params["start"] == "pretrained"
