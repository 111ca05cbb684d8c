"""Only what you touch runs: the promises of docs/how_to/, by DVC's own plan of a study that is up to date."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tauflow.planning.stale import plan
from tests.pipeline import additions
from tests.pipeline.additions import composed, replace, write
from tests.pipeline.conftest import Project

pytestmark = [
    pytest.mark.pipeline,
    # DVC's own use of pygtrie.
    pytest.mark.filterwarnings("ignore:_NoneStep.value will soon raise:DeprecationWarning"),
]

Change = Callable[[Project], object]
NOTHING: set[str] = set()
RESULTS = {"summary", "report"}
TABLES = {"comparison@mini-clip", *RESULTS}
EVALUATIONS = {
    *("single_task", "alpha_search", "addition", "negation"),
    *("disentanglement", "interference", "merging_grid", "incremental"),
}
TRAINED = {"finetune", "finetune_regularised", "finetune_continued", "task_vector", "features"}


@pytest.fixture
def study(reproduced: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The finished study, which is also the current directory; git takes back what a test changes."""
    monkeypatch.chdir(reproduced.root)
    yield reproduced
    reproduced.run("git", "checkout", "--quiet", ".")
    reproduced.run("git", "clean", "--quiet", "--force", "-d")


def stale() -> set[str]:
    return {stage.name for stage in plan() if stage.stale}


def instances(name: str, *stages: str) -> set[str]:
    """Return the instances of these stages for a paradigm or recipe of mini-clip, for every task or split of theirs."""
    tasks = ("optdigits", "textures")
    return {
        instance
        for stage in stages
        for instance in (
            {f"{stage}@mini-clip-{task}-{name}" for task in tasks}
            if stage.startswith(("finetune", "task_vector"))
            else {f"{stage}@mini-clip-{name}-{split}" for split in ("val", "test")}
            if stage == "features"
            else {f"{stage}@mini-clip-{name}{'-0' if stage == 'incremental' else ''}"}
        )
    }


def comment(project: Project, *patterns: str) -> None:
    """Append a comment to files, as rewording a message would change them."""
    paths = sorted(path for pattern in patterns for path in project.root.glob(pattern))
    assert paths
    for path in paths:
        path.write_text(f"{path.read_text('utf-8')}# reworded\n", encoding="utf-8")


def licence(project: Project) -> None:
    path = "pipeline/definitions/models/ViT-B-32/model.yaml"
    replace(project, path, "licence: ", "licence: not ")


# By what is added or changed. Where a choice must be composed to count, it says so.
UNTOUCHED: dict[str, Change] = {
    "a model": additions.model,
    "another model's licence": licence,
    "a task": additions.task,
    "a suite": additions.suite,
    "a paradigm": additions.paradigm,
    "a selection": additions.selection,
    "a regulariser": additions.regulariser,
    "a merging method": additions.merging_method,
    "an analysis that no stage runs": lambda project: write(
        project, "pipeline/analysis/sparsity.py", additions.ANALYSIS
    ),
    "a message of an error": lambda project: comment(project, "pipeline/errors.py"),
    "a message of the schema": lambda project: comment(project, "pipeline/config/*.py"),
    "a message of a command": lambda project: comment(project, "tauflow/*.py", "tauflow/*/*.py"),
    "where artifacts lie": lambda project: comment(project, "artifacts/layout.py", "artifacts/workspace.py"),
    "how often a fine-tuning is saved": lambda project: composed(project, "resume.interval=7"),
    "the same choices, composed again": composed,
}


@pytest.mark.parametrize("change", UNTOUCHED.values(), ids=UNTOUCHED)
def test_nothing_runs(study: Project, change: Change) -> None:
    change(study)
    assert stale() == NOTHING


def add_composed_paradigm(project: Project) -> None:
    additions.paradigm(project)
    composed(project, "paradigm=another", "paradigms=[standard,posthoc,tau_jp,another]")


def add_composed_model(project: Project) -> None:
    additions.model(project)
    composed(project, "models=[mini-clip,another]")


def add_composed_merging(project: Project) -> None:
    additions.merging_method(project)
    additions.merging_paradigm(project)
    composed(project, "paradigm=strongest", "paradigms=[standard,posthoc,tau_jp,strongest]")


def extend_recipe(project: Project) -> None:
    """Let a recipe that was trained name an extension."""
    additions.selection(project)
    replace(
        project,
        "conf/paradigm/tau_jp.yaml",
        "extension: null",
        f"extension: {additions.extended('extensions/norms.py')}",
    )
    composed(project)


ITS_OWN: dict[str, tuple[Change, set[str]]] = {
    "a paradigm": (
        add_composed_paradigm,
        instances("another", "finetune", "task_vector", "geometry", *EVALUATIONS) | TABLES,
    ),
    "a merged paradigm": (
        add_composed_merging,
        instances("strongest", "merge", "geometry", *EVALUATIONS - {"incremental", "merging_grid"}) | TABLES,
    ),
    "an extension that a recipe names": (
        extend_recipe,
        instances("tau_jp", "finetune_regularised", "task_vector", "features", "geometry", *EVALUATIONS)
        | instances("tau_jp_order_0", "finetune_regularised", "task_vector", "features")
        | TABLES,
    ),
    "an analysis": (additions.analysis, {f"sparsity@mini-clip-{r}" for r in ("standard", "tau_jp")} | RESULTS),
    "a table's title": (lambda project: replace(project, "artifacts/catalogue.py", '"NTK"', '"The NTK"'), RESULTS),
    "the report's code": (lambda project: comment(project, "pipeline/report/page/*.py"), {"report"}),
    "one analysis's code": (
        lambda project: comment(project, "pipeline/analysis/localisation.py"),
        {"localisation@mini-clip", "report"},
    ),
    "results of other seeds": (
        lambda project: write(project, "reports/seeds/1.csv", "model\n"),
        {"report"},
    ),
}


@pytest.mark.parametrize(("change", "expected"), ITS_OWN.values(), ids=ITS_OWN)
def test_only_its_own_stages_run(study: Project, change: Change, expected: set[str]) -> None:
    change(study)
    assert stale() == expected


def test_a_second_model_leaves_the_first_ones_stages_alone(study: Project) -> None:
    add_composed_model(study)
    assert {name for name in stale() if "@another" not in name} == {"summary", "report"}


def test_a_task_leaves_the_other_ones_fine_tunings_alone(study: Project) -> None:
    """Stages of single tasks stay up to date; stages that compare or add tasks involve all of them."""
    additions.task(study)
    composed(study, "tasks=[optdigits,textures,another]", "+epochs.another=3")
    ran = stale()
    assert {"download@another", "prepare@another", "finetune@mini-clip-another-standard"} <= ran
    single = ("download@", "prepare@", "pretrained@", "head@", "finetune@", "task_vector@")
    assert {
        name for name in ran if name.startswith(single) and "another" not in name and "tau_jp" not in name
    } == NOTHING


KINDS: dict[str, tuple[Change, set[str]]] = {
    "a grid of α": (
        lambda project: composed(project, "search.addition.points=3"),
        {*("alpha_search", "addition", "negation", "comparison", "summary", "merging_grid", "incremental", "report")},
    ),
    "a grid of heatmaps": (
        lambda project: composed(project, "disentanglement.grid.points=4"),
        {"disentanglement", "report"},
    ),
    "another merging method": (
        lambda project: composed(project, "+merging_grid.methods.dare={}"),
        {"merging_grid", "report"},
    ),
    "another order of arrival": (
        lambda project: composed(project, "incremental.orders=[0,1]"),
        {*TRAINED - {"finetune", "finetune_continued"}, "incremental", "report"},
    ),
    "code of the evaluation": (
        lambda project: comment(project, "pipeline/evaluation/search.py"),
        {*EVALUATIONS, "geometry", "localisation", "comparison", "summary", "report"},
    ),
}


@pytest.mark.parametrize(("change", "kinds"), KINDS.values(), ids=KINDS)
def test_only_stages_of_these_kinds_run(study: Project, change: Change, kinds: set[str]) -> None:
    """A new grid trains nothing, finer heatmaps propagate nothing again, a new order trains only its own recipe."""
    change(study)
    ran = stale()
    assert {name.partition("@")[0] for name in ran} == kinds
    assert all("order_1" in name for name in ran if name.partition("@")[0] in TRAINED)


@pytest.mark.parametrize(
    "page", sorted((Path(__file__).parents[2] / "docs" / "how_to").glob("add_*.md")), ids=lambda p: p.stem
)
def test_every_page_says_what_runs(page: Path) -> None:
    """The promises of a page stand under one heading, so that none is made that is not tried here."""
    assert "## What runs" in page.read_text(encoding="utf-8")
