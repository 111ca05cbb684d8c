"""params.yaml as it is composed from conf/: every option of every group, and the entries that follow from others."""

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import Choices, LegalNames, checked, load_parameters
from pipeline.config.derived import derive
from pipeline.errors import UserError
from pipeline.foreign.pools import pool_names
from pipeline.models import model_names
from pipeline.tasks import task_names
from tauflow.dvc.composition import compose
from tests.committed import committed

Content = dict[str, Any]
Composed = Callable[..., Content]

ROOT = Path(__file__).parents[2]
GROUPS = {
    group.name: sorted(path.stem for path in group.glob("*.yaml"))
    for group in (ROOT / "conf").iterdir()
    if group.is_dir()
}
PARADIGMS, SUITES, MODELS = GROUPS["paradigm"], GROUPS["suite"], GROUPS["model"]
LEGAL = LegalNames(task_names(), model_names())

# Design, section 4: trainable, trained in, evaluated in, mode of τJp.
DESIGN = {
    "standard": ("all", "weight", "weight", None),
    "posthoc": ("all", "weight", "tangent", None),
    "ntk": ("all", "tangent", "tangent", None),
    "attention": ("attention", "weight", "weight", None),
    "attention_bias": ("attention_bias", "weight", "weight", None),
    "linear": ("linear", "weight", "weight", None),
    "linear_bias": ("linear_bias", "weight", "weight", None),
    "tau_jp": ("all", "tangent", "tangent", "cyclic"),
    "tau_jp_strict": ("all", "tangent", "tangent", "strict"),
}
# Paradigms that merge the task vectors of another one's recipe: the recipe, and the method.
MERGED = {
    "standard_ties": ("standard", "ties"),
    "standard_tsv_m": ("standard", "tsv_m"),
    "standard_iso_c": ("standard", "iso_c"),
    "standard_regmean": ("standard", "regmean"),
    "tau_jp_tsv_m": ("tau_jp", "tsv_m"),
}
# The paradigms of each option of the group, unless it is the one of its name.
SEVERAL = {"main": ["standard", "posthoc", "ntk", "attention", "tau_jp"], "all": list(DESIGN)}


def legal_dump(content: Content, directory: Path) -> Content:
    """The parameters as the schema reads them back from YAML."""
    path = directory / "params.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_parameters(path, LEGAL).model_dump(mode="json")


def test_the_committed_parameters_are_the_composed_default(composed: Composed) -> None:
    assert yaml.safe_load(committed("params.yaml")) == composed()


def test_the_default_is_the_mini_suite_with_the_main_paradigms(composed: Composed) -> None:
    assert composed() == composed("suite=mini", "model=mini_clip", "paradigm=main")


def test_the_groups_have_options() -> None:
    assert set(PARADIGMS) == {*DESIGN, *SEVERAL, *MERGED, *pool_names()}
    assert {"mini", "tiny"} <= set(SUITES)
    assert {"mini_clip", "vit_b_32", "vit_b_16", "vit_l_14"} <= set(MODELS)


@pytest.mark.parametrize(("suite", "paradigm"), list(product(SUITES, PARADIGMS)))
def test_every_paradigm_is_legal_with_every_suite(
    suite: str, paradigm: str, composed: Composed, tmp_path: Path
) -> None:
    content = composed(f"suite={suite}", f"paradigm={paradigm}")
    assert legal_dump(content, tmp_path) == content
    assert content["suite"] == suite


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_legal(model: str, composed: Composed, tmp_path: Path) -> None:
    content = composed(f"model={model}")
    assert legal_dump(content, tmp_path) == content
    assert [name.lower().replace("-", "_") for name in content["models"]] == [model]


@pytest.mark.parametrize("pool", pool_names())
def test_nothing_trains_for_a_pool(pool: str, composed: Composed) -> None:
    content = composed(f"paradigm={pool}")
    assert content["paradigms"] == content["derived"]["recipes"] == content["derived"]["imported_recipes"] == [pool]
    assert content["derived"]["trained_recipes"] == content["derived"]["tangent_recipes"] == []


@pytest.mark.parametrize("option", [*DESIGN, *SEVERAL])
def test_entries_that_follow_from_the_paradigm(option: str, composed: Composed) -> None:
    content = composed(f"paradigm={option}")
    chosen = SEVERAL.get(option, [option])
    recipe_of = {name: "standard" if name == "posthoc" else name for name in chosen}
    recipes = list(dict.fromkeys(recipe_of.values()))
    assert content["paradigms"] == chosen
    assert content["derived"]["datasets"] == [*content["tasks"], content["control"]]
    assert content["derived"]["recipes"] == recipes
    assert content["derived"]["plain_recipes"] == [name for name in recipes if not name.startswith("tau_jp")]
    regularised = [name for name in recipes if name.startswith("tau_jp")]
    variants = [f"{name}_order_0" for name in regularised]
    assert content["derived"]["regularised_recipes"] == [*regularised, *variants]
    in_tangent_space = [name for name in chosen if DESIGN[name][2] == "tangent"]
    assert content["derived"]["tangent_recipes"] == [
        *dict.fromkeys(recipe_of[name] for name in in_tangent_space),
        *variants,
    ]
    for name in chosen:
        tangent = name in in_tangent_space
        assert content["derived"]["evaluations"][f"mini-clip-{name}"] == {
            "model": "mini-clip",
            "paradigm": name,
            "recipe": recipe_of[name],
            "unmerged": recipe_of[name],
            "val": "features/val" if tangent else "task_vectors",
            "test": "features/test" if tangent else "task_vectors",
        }
    assert list(content["derived"]["evaluations"]) == [f"mini-clip-{name}" for name in chosen]


@pytest.mark.parametrize("name", MERGED)
def test_a_merged_paradigm_has_task_vectors_of_its_own(name: str, composed: Composed) -> None:
    recipe, method = MERGED[name]
    content = composed(f"paradigm={name}")
    vectors = f"task_vectors/mini-clip/{recipe}"
    # A method that needs no images waits for none.
    images = f"image_statistics/mini-clip/{name}" if method == "regmean" else vectors
    entry = {"model": "mini-clip", "paradigm": name, "recipe": recipe}
    key = f"mini-clip-{name}"
    assert content["paradigm"][name]["merging"]["name"] == method
    assert content["derived"]["merged"] == {key: {**entry, "images": images, "heads": vectors}}
    assert content["derived"]["recipes"] == [recipe, name]
    # No variant of a recipe is trained for arrivals, which a merged paradigm does not evaluate.
    assert content["derived"]["trained_recipes"] == [recipe]
    assert content["derived"]["incremental_evaluations"] == {}
    tangent = content["paradigm"][name]["evaluated_in"] == "tangent"
    assert content["derived"]["tangent_recipes"] == ([recipe, name] if tangent else [])
    assert content["derived"]["evaluations"][key] == {
        **entry,
        "recipe": name,
        "unmerged": recipe,
        "val": "features/val" if tangent else "task_vectors",
        "test": "features/test" if tangent else "task_vectors",
    }


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("paradigm.standard_tsv_m.merging.name=tsv", "unknown merging method 'tsv'; choose from average"),
        ("+paradigm.standard_tsv_m.merging.options.x=1", "merging method tsv_m: unknown option 'x'; choose from"),
        ("paradigm.standard_tsv_m.merging.name=regmean", "merging method regmean: needs images of every task"),
        ("tasks=[textures]", "takes two or more tasks, not ['textures']; name more tasks"),
    ],
)
def test_a_wrong_merge_is_one_line_and_writes_nothing(override: str, message: str, root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        compose(root, ["suite=tiny", "paradigm=standard_tsv_m", override], tmp_path / "params.yaml")
    assert str(error.value).startswith(f"paradigm.standard_tsv_m.merging: {message}")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "params.yaml").exists()


def test_evaluations_are_models_times_paradigms(composed: Composed, tmp_path: Path) -> None:
    content = composed("models=[mini-clip,ViT-B-32]", "paradigm=main", "paradigms=[ntk,posthoc]")
    evaluations = content["derived"]["evaluations"]
    assert list(evaluations) == ["mini-clip-ntk", "mini-clip-posthoc", "ViT-B-32-ntk", "ViT-B-32-posthoc"]
    for name, recipe in (("ViT-B-32-ntk", "ntk"), ("mini-clip-posthoc", "standard")):
        assert (evaluations[name]["model"], evaluations[name]["paradigm"]) == (
            name.rpartition("-")[0],
            name.rpartition("-")[2],
        )
        assert evaluations[name]["recipe"] == recipe
    assert content["derived"]["recipes"] == ["ntk", "standard"]
    legal_dump(content, tmp_path)


def test_a_recipe_that_several_paradigms_share_is_trained_once(composed: Composed) -> None:
    content = composed("paradigm=main", "paradigms=[posthoc,tau_jp,standard]")
    del content["derived"]
    entries = derive(checked(content, Choices))
    assert entries.recipes == ["standard", "tau_jp"]
    assert entries.plain_recipes == ["standard"]
    assert [entry.recipe for entry in entries.evaluations.values()] == ["standard", "tau_jp", "standard"]


def test_orders_of_arrival(composed: Composed, tmp_path: Path) -> None:
    content = composed("incremental.orders=[0,7]", "paradigm=main", "paradigms=[standard,ntk,tau_jp]")
    legal_dump(content, tmp_path)
    first, second = content["derived"]["arrivals"]["order_0"], content["derived"]["arrivals"]["order_7"]
    assert list(content["derived"]["arrivals"]) == ["order_0", "order_7"]
    assert sorted(first) == sorted(second) == sorted(content["tasks"])
    assert first != second
    assert composed("incremental.orders=[7]")["derived"]["arrivals"] == {"order_7": second}
    variants = ["tau_jp_order_0", "tau_jp_order_7"]
    assert content["derived"]["trained_recipes"] == ["standard", "ntk", "tau_jp", *variants]
    assert content["derived"]["regularised_recipes"] == ["tau_jp", *variants]
    assert content["derived"]["tangent_recipes"] == ["ntk", "tau_jp", *variants]
    others = content["derived"]["recipe"]["tau_jp_order_7"]["regulariser"]["others"]
    assert others == {**content["recipe"]["tau_jp"]["regulariser"]["others"], "arrivals": second}
    evaluations = content["derived"]["incremental_evaluations"]
    assert [name.removeprefix("mini-clip-") for name in evaluations] == [
        *("standard-0", "standard-7", "ntk-0", "ntk-7", "tau_jp-0", "tau_jp-7")
    ]
    assert evaluations["mini-clip-ntk-7"] == {**content["derived"]["evaluations"]["mini-clip-ntk"], "order": "7"}
    variant = {"recipe": "tau_jp_order_7", "unmerged": "tau_jp_order_7", "order": "7"}
    of_penalty = {**content["derived"]["evaluations"]["mini-clip-tau_jp"], **variant}
    assert evaluations["mini-clip-tau_jp-7"] == of_penalty


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("merging_grid.paradigms=null", ["standard", "ntk"]),
        ("merging_grid.paradigms=[tau_jp,ntk]", ["ntk"]),
        ("merging_grid.paradigms=[]", []),
    ],
)
def test_the_paradigms_whose_vectors_are_merged(override: str, expected: list[str], composed: Composed) -> None:
    content = composed("paradigm=main", "paradigms=[standard,ntk]", override)
    evaluations = content["derived"]["merging_evaluations"]
    assert evaluations == {
        f"mini-clip-{name}": content["derived"]["evaluations"][f"mini-clip-{name}"] for name in expected
    }


def test_without_orders_there_is_no_incremental_learning(composed: Composed, tmp_path: Path) -> None:
    content = composed("incremental.orders=[]")
    legal_dump(content, tmp_path)
    assert content["derived"]["arrivals"] == content["derived"]["incremental_evaluations"] == {}
    assert not [name for name in content["derived"]["recipe"] if "_order_" in name]


@pytest.mark.parametrize("name", DESIGN)
def test_paradigms_are_those_of_the_design(name: str, composed: Composed) -> None:
    content = composed("paradigm=all")
    paradigm = content["paradigm"][name]
    recipe = content["recipe"][paradigm["recipe"]]
    regulariser = recipe["regulariser"]
    mode = regulariser and regulariser["others"]["mode"]
    assert (recipe["trainable"], recipe["trained_in"], paradigm["evaluated_in"], mode) == DESIGN[name]
    if regulariser:  # Yoshida et al.: the norm, not squared, of 16 images of every other task and of the control
        assert (regulariser["name"], regulariser["options"]) == ("tau_jp", {"norm": "l2"})
        assert regulariser["others"]["tasks"] == content["tasks"]
        assert regulariser["others"]["control"] == content["control"]
        assert regulariser["others"]["batch_size"] == 16


def test_regularised_recipes_follow_the_suite(composed: Composed) -> None:
    content = composed("suite=tiny", "paradigm=tau_jp", "tasks=[textures]", "control=optdigits")
    others = content["recipe"]["tau_jp"]["regulariser"]["others"]
    assert (others["tasks"], others["control"]) == (["textures"], "optdigits")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("finetune.lr", 0.00123),
        ("finetune.accumulation", 4),
        ("schedule.ntk.length", 0.77),
        ("recipe.tau_jp.regulariser.weight", 0.123),
        ("recipe.tau_jp.regulariser.others.control", None),
        ("resume.interval", 7),
    ],
)
def test_an_override_changes_what_it_names_and_nothing_else(
    key: str, value: object, composed: Composed, tmp_path: Path
) -> None:
    changed, expected = composed(f"{key}={'null' if value is None else value}"), composed()
    assert legal_dump(changed, tmp_path) == changed
    *parents, last = key.split(".")
    section = expected
    for part in parents:
        section = section[part]
    assert section[last] != value
    section[last] = value
    expected["derived"] = derive(checked({k: v for k, v in expected.items() if k != "derived"}, Choices)).model_dump()
    assert changed == expected


MINE = """# @package _global_
defaults:
  - standard
  - _self_
paradigms: [mine, standard]
schedule:
  mine: { lr: 1e-4, length: 0.5 }
recipe:
  mine:
    trainable: my_selection
    trained_in: weight
    regulariser: { name: my_penalty, weight: 0.1, options: { strength: 2.0, loud: true }, others: null }
    extension: { path: extensions/mine.py, sha256: "${sha256:extensions/mine.py}" }
    start: null
paradigm:
  mine: { recipe: mine, merging: null, evaluated_in: tangent, negation_grid: null }
"""


def test_a_new_paradigm_is_one_file(tmp_path: Path) -> None:
    """With an extension, whose hash the composition fills in; in a process of its own, as DVC composes."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "conf" / "paradigm" / "mine.yaml").write_text(MINE, encoding="utf-8")
    (tmp_path / "extensions").mkdir()
    (tmp_path / "extensions" / "mine.py").write_text("# registers my_selection and my_penalty\n")
    command = (
        "from pathlib import Path; from tauflow.dvc.composition import compose; compose(Path.cwd(), ['paradigm=mine'])"
    )
    subprocess.run([sys.executable, "-c", command], cwd=tmp_path, check=True)
    parameters = load_parameters(tmp_path / "params.yaml", LEGAL)
    extension = parameters.recipe["mine"].extension
    assert extension is not None
    assert extension.sha256 == hashlib.sha256((tmp_path / extension.path).read_bytes()).hexdigest()
    regulariser = parameters.recipe["mine"].regulariser
    assert regulariser is not None
    assert regulariser.options == {"strength": 2.0, "loud": True}
    assert regulariser.others is None
    assert parameters.derived.recipes == ["mine", "standard"]
    # Its penalty sees no other task's images.
    assert (parameters.derived.plain_recipes, parameters.derived.regularised_recipes) == (["mine", "standard"], [])
    assert list(parameters.derived.evaluations) == ["mini-clip-mine", "mini-clip-standard"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model=vit", "model: unknown option 'vit'; choose from mini_clip, vit_b_16"),
        ("lrr=1", "unknown key 'lrr'; choose from suite, tasks, control, models, paradigms, seed"),
        ("seed.x=1", "unknown key 'seed.x'; choose from none"),
        ("+finetune.lrr=1", "unknown key 'finetune.lrr' (value 1); choose from lr, batch_size"),
        ("models=[vit]", "models: unknown name 'vit'; choose from"),
        ("paradigms=[ntk,nkt]", "paradigms: unknown name 'nkt'; choose from attention, ntk"),
        ("seed=[1", "no viable alternative at input '[1'"),
    ],
)
def test_a_wrong_override_is_one_line_and_writes_nothing(
    override: str, message: str, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        compose(root, [override], tmp_path / "params.yaml")
    line = str(error.value)
    assert line.startswith(message)
    assert "\n" not in line
    assert not (tmp_path / "params.yaml").exists()


def test_mistakes_on_the_page_about_experiments_are_what_is_said(root: Path, tmp_path: Path) -> None:
    page = (root / "docs" / "how_to" / "run_experiments.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^    \$ dvc exp run -S (\S+)\n    ERROR: (.+)$", page, flags=re.MULTILINE)
    assert len(quoted) == 2
    for override, message in quoted:
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            compose(root, [override], tmp_path / "params.yaml")


IMPORTED = """# @package _global_
defaults:
  - tau_jp
  - _self_
paradigms: [theirs, onwards, further]
imported:
  theirs: { trained_in: weight }
recipe:
  onwards:
    trainable: all
    trained_in: tangent
    regulariser: ${recipe.tau_jp.regulariser}
    extension: null
    start: theirs
  further: { trainable: all, trained_in: weight, regulariser: null, extension: null, start: ours }
  ours: { trainable: all, trained_in: weight, regulariser: null, extension: null, start: null }
schedule:
  onwards: { lr: 1e-4, length: 0.5 }
  further: { lr: 1e-4, length: 0.5 }
  ours: { lr: 1e-4, length: 0.5 }
paradigm:
  theirs: { recipe: theirs, merging: null, evaluated_in: weight, negation_grid: null }
  onwards: { recipe: onwards, merging: null, evaluated_in: tangent, negation_grid: null }
  further: { recipe: further, merging: null, evaluated_in: weight, negation_grid: null }
"""


def test_imported_recipes_and_what_starts_from_them(tmp_path: Path) -> None:
    """Imported recipes do not train; recipes with a start train in a separate stage, which depends on the start."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "conf" / "paradigm" / "imported.yaml").write_text(IMPORTED, encoding="utf-8")
    compose(tmp_path, ["suite=tiny", "paradigm=imported"])
    parameters = load_parameters(tmp_path / "params.yaml", LEGAL)
    assert parameters.derived.recipes == ["theirs", "onwards", "further", "ours"]
    assert parameters.derived.imported_recipes == ["theirs"]
    assert parameters.derived.trained_recipes == ["onwards", "further", "ours"]
    assert (parameters.derived.plain_recipes, parameters.derived.regularised_recipes) == (["ours"], [])
    assert parameters.derived.tangent_recipes == ["onwards"]
    continued = {name: entry.model_dump() for name, entry in parameters.derived.continued.items()}
    assert continued == {
        f"mini-clip-{task}-{recipe}": {"model": "mini-clip", "task": task, "recipe": recipe, "start": start}
        for task in parameters.tasks
        for recipe, start in (("onwards", "theirs"), ("further", "ours"))
    }
    # The regulariser of `onwards` has seen every task.
    assert list(parameters.derived.incremental_evaluations) == ["mini-clip-theirs-0", "mini-clip-further-0"]
    assert list(parameters.derived.recipe) == ["onwards", "further", "ours"]


def test_a_paradigm_of_imported_vectors_alone_needs_no_recipe(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("__pycache__"))
    alone = (
        IMPORTED[IMPORTED.index("imported:") : IMPORTED.index("recipe:")] + IMPORTED[IMPORTED.index("paradigm:\n") :]
    )
    text = f"# @package _global_\nparadigms: [theirs]\n{alone.partition('  onwards')[0]}"
    (tmp_path / "conf" / "paradigm" / "alone.yaml").write_text(text, encoding="utf-8")
    compose(tmp_path, ["suite=tiny", "paradigm=alone"])
    parameters = load_parameters(tmp_path / "params.yaml", LEGAL)
    assert (parameters.recipe, parameters.derived.trained_recipes) == ({}, [])
    assert (parameters.derived.recipes, list(parameters.derived.evaluations)) == (["theirs"], ["mini-clip-theirs"])
