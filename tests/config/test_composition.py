"""params.yaml as it is composed from conf/: every option of every group, and the entries that follow from others."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from pipeline.config import LegalNames, load_parameters
from pipeline.config.derived import DERIVED, derive
from pipeline.errors import UserError
from pipeline.models import model_names
from pipeline.tasks import task_names
from tauflow.composition import compose

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
# What each option of the group means, where it is not the one paradigm of its name.
SEVERAL = {"main": ["standard", "posthoc", "ntk", "attention", "tau_jp"], "all": list(DESIGN)}


def legal_dump(content: Content, directory: Path) -> Content:
    """The parameters as the schema reads them back from YAML."""
    path = directory / "params.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_parameters(path, LEGAL).model_dump(mode="json")


def test_params_yaml_is_the_composed_default(composed: Composed, committed: Content) -> None:
    assert committed == composed()


def test_the_default_is_the_mini_suite_with_the_main_paradigms(composed: Composed) -> None:
    assert composed() == composed("suite=mini", "model=mini_clip", "paradigm=main")


def test_the_groups_have_options() -> None:
    assert set(PARADIGMS) == {*DESIGN, *SEVERAL}
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


@pytest.mark.parametrize("option", PARADIGMS)
def test_entries_that_follow_from_the_paradigm(option: str, composed: Composed) -> None:
    content = composed(f"paradigm={option}")
    chosen = SEVERAL.get(option, [option])
    recipe_of = {name: "standard" if name == "posthoc" else name for name in chosen}
    recipes = list(dict.fromkeys(recipe_of.values()))
    assert content["paradigms"] == chosen
    assert content["datasets"] == [*content["tasks"], content["control"]]
    assert content["recipes"] == recipes
    assert content["plain_recipes"] == [name for name in recipes if not name.startswith("tau_jp")]
    assert content["regularised_recipes"] == [name for name in recipes if name.startswith("tau_jp")]
    in_tangent_space = [name for name in chosen if DESIGN[name][2] == "tangent"]
    assert content["tangent_recipes"] == list(dict.fromkeys(recipe_of[name] for name in in_tangent_space))
    for name in chosen:
        tangent = name in in_tangent_space
        assert content["evaluations"][f"mini-clip-{name}"] == {
            "model": "mini-clip",
            "paradigm": name,
            "recipe": recipe_of[name],
            "val": "features/val" if tangent else "task_vectors",
            "test": "features/test" if tangent else "task_vectors",
        }
    assert list(content["evaluations"]) == [f"mini-clip-{name}" for name in chosen]


def test_evaluations_are_models_times_paradigms(composed: Composed, tmp_path: Path) -> None:
    content = composed("models=[mini-clip,ViT-B-32]", "paradigm=main", "paradigms=[ntk,posthoc]")
    found = content["evaluations"]
    assert list(found) == ["mini-clip-ntk", "mini-clip-posthoc", "ViT-B-32-ntk", "ViT-B-32-posthoc"]
    for name, recipe in (("ViT-B-32-ntk", "ntk"), ("mini-clip-posthoc", "standard")):
        assert (found[name]["model"], found[name]["paradigm"]) == (name.rpartition("-")[0], name.rpartition("-")[2])
        assert found[name]["recipe"] == recipe
    assert content["recipes"] == ["ntk", "standard"]
    legal_dump(content, tmp_path)


def test_a_recipe_that_several_paradigms_share_is_trained_once() -> None:
    penalty = SimpleNamespace(others="some")
    recipes = {name: SimpleNamespace(regulariser=of, start=None) for name, of in (("a", penalty), ("b", None))}
    paradigm = {
        name: SimpleNamespace(recipe=recipe, evaluated_in="weight") for name, recipe in zip("pqr", "bab", strict=True)
    }
    names: dict[str, Any] = {"models": ["m"], "tasks": ["t"], "control": "c", "paradigms": ["p", "q", "r"]}
    incremental = SimpleNamespace(orders=[])
    chosen: Any = SimpleNamespace(**names, paradigm=paradigm, recipe=recipes, imported={}, incremental=incremental)
    entries = derive(chosen)
    assert tuple(entries) == DERIVED
    assert entries["recipes"] == ["b", "a"]
    assert entries["plain_recipes"] == ["b"]
    assert entries["regularised_recipes"] == ["a"]
    assert [entry["recipe"] for entry in entries["evaluations"].values()] == ["b", "a", "b"]


def test_orders_of_arrival(composed: Composed, tmp_path: Path) -> None:
    content = composed("incremental.orders=[0,7]", "paradigm=main", "paradigms=[standard,ntk,tau_jp]")
    legal_dump(content, tmp_path)
    first, second = content["arrivals"]["order_0"], content["arrivals"]["order_7"]
    assert list(content["arrivals"]) == ["order_0", "order_7"]
    assert sorted(first) == sorted(second) == sorted(content["tasks"])
    assert first != second
    assert composed("incremental.orders=[7]")["arrivals"] == {"order_7": second}
    assert content["incremental_recipes"] == ["tau_jp_order_0", "tau_jp_order_7"]
    assert content["incremental_tangent_recipes"] == content["incremental_recipes"]
    found = content["incremental_evaluations"]
    assert [name.removeprefix("mini-clip-") for name in found] == [
        *("standard-0", "standard-7", "ntk-0", "ntk-7", "tau_jp-0", "tau_jp-7")
    ]
    assert found["mini-clip-ntk-7"] == {**content["evaluations"]["mini-clip-ntk"], "order": "7"}
    of_penalty = {**content["evaluations"]["mini-clip-tau_jp"], "recipe": "tau_jp_order_7", "order": "7"}
    assert found["mini-clip-tau_jp-7"] == of_penalty


def test_without_orders_there_is_no_incremental_learning(composed: Composed, tmp_path: Path) -> None:
    content = composed("incremental.orders=[]")
    legal_dump(content, tmp_path)
    assert content["arrivals"] == content["incremental_evaluations"] == {}
    assert content["incremental_recipes"] == content["incremental_tangent_recipes"] == []


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
    found, expected = composed(f"{key}={'null' if value is None else value}"), composed()
    assert legal_dump(found, tmp_path) == found
    *parents, last = key.split(".")
    section = expected
    for part in parents:
        section = section[part]
    assert section[last] != value
    section[last] = value
    assert found == expected


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
  mine: { recipe: mine, evaluated_in: tangent, negation_grid: null }
"""


def test_a_new_paradigm_is_one_file(tmp_path: Path) -> None:
    """With an extension, whose hash the composition fills in; in a process of its own, as DVC composes."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "conf" / "paradigm" / "mine.yaml").write_text(MINE, encoding="utf-8")
    (tmp_path / "extensions").mkdir()
    (tmp_path / "extensions" / "mine.py").write_text("# registers my_selection and my_penalty\n")
    command = (
        "from pathlib import Path; from tauflow.composition import compose; compose(Path.cwd(), ['paradigm=mine'])"
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
    assert parameters.recipes == ["mine", "standard"]
    # Its penalty sees no other task's images.
    assert (parameters.plain_recipes, parameters.regularised_recipes) == (["mine", "standard"], [])
    assert list(parameters.evaluations) == ["mini-clip-mine", "mini-clip-standard"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model=vit", "model: 'vit' is unknown; legal are mini_clip, vit_b_16"),
        ("lrr=1", "unknown key 'lrr'; legal keys here are seed, device, prepare"),
        ("seed.x=1", "unknown key 'seed.x'; legal keys here are none"),
        ("+finetune.lrr=1", "unknown key 'finetune.lrr' (value 1); legal keys here are lr, batch_size"),
        ("models=[vit]", "models: 'vit' is unknown; legal are"),
        ("paradigms=[ntk,nkt]", "paradigms: 'nkt' is unknown; legal are attention, ntk"),
        ("seed=[1", "no viable alternative at input '[1'"),
    ],
)
def test_a_wrong_override_is_one_line_and_writes_nothing(override: str, said: str, root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        compose(root, [override], tmp_path / "params.yaml")
    line = str(error.value)
    assert line.startswith(said)
    assert "\n" not in line
    assert not (tmp_path / "params.yaml").exists()


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
  theirs: { recipe: theirs, evaluated_in: weight, negation_grid: null }
  onwards: { recipe: onwards, evaluated_in: tangent, negation_grid: null }
  further: { recipe: further, evaluated_in: weight, negation_grid: null }
"""


def test_imported_recipes_and_what_starts_from_them(tmp_path: Path) -> None:
    """What is imported trains nowhere; what starts elsewhere trains in a stage of its own, and needs its start."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "conf" / "paradigm" / "imported.yaml").write_text(IMPORTED, encoding="utf-8")
    compose(tmp_path, ["suite=tiny", "paradigm=imported"])
    parameters = load_parameters(tmp_path / "params.yaml", LEGAL)
    assert parameters.recipes == ["theirs", "onwards", "further", "ours"]
    assert parameters.imported_recipes == ["theirs"]
    assert parameters.trained_recipes == ["onwards", "further", "ours"]
    assert (parameters.plain_recipes, parameters.regularised_recipes) == (["ours"], [])
    assert parameters.tangent_recipes == ["onwards"]
    assert parameters.continued == {
        f"mini-clip-{task}-{recipe}": {"model": "mini-clip", "task": task, "recipe": recipe, "start": start}
        for task in parameters.tasks
        for recipe, start in (("onwards", "theirs"), ("further", "ours"))
    }
    # The regulariser of `onwards` has seen every task.
    assert list(parameters.incremental_evaluations) == ["mini-clip-theirs-0", "mini-clip-further-0"]
    assert parameters.incremental_recipes == []


def test_a_paradigm_of_imported_vectors_alone_needs_no_recipe(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("__pycache__"))
    alone = (
        IMPORTED[IMPORTED.index("imported:") : IMPORTED.index("recipe:")] + IMPORTED[IMPORTED.index("paradigm:\n") :]
    )
    text = f"# @package _global_\nparadigms: [theirs]\n{alone.partition('  onwards')[0]}"
    (tmp_path / "conf" / "paradigm" / "alone.yaml").write_text(text, encoding="utf-8")
    compose(tmp_path, ["suite=tiny", "paradigm=alone"])
    parameters = load_parameters(tmp_path / "params.yaml", LEGAL)
    assert (parameters.recipe, parameters.trained_recipes) == ({}, [])
    assert (parameters.recipes, list(parameters.evaluations)) == (["theirs"], ["mini-clip-theirs"])
