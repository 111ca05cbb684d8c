"""One line for each mistake in params.yaml: the key, the value and the legal ones."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import LegalNames, load_parameters
from pipeline.errors import UserError
from pipeline.models import model_names
from pipeline.tasks import task_names

Content = dict[str, Any]
Change = Callable[[Content], None]

OTHERS = "recipe.tau_jp.regulariser.others"


def at(content: Content, key: str) -> tuple[Content, str]:
    """The section that a dotted key lies in, and the last part of the key."""
    *parents, last = key.split(".")
    for parent in parents:
        content = content[parent]
    return content, last


def set_at(key: str, value: object) -> Change:
    def change(content: Content) -> None:
        section, last = at(content, key)
        section[last] = value

    return change


def delete(key: str) -> Change:
    def change(content: Content) -> None:
        section, last = at(content, key)
        del section[last]

    return change


def rename(old: str, new: str) -> Change:
    def change(content: Content) -> None:
        section, last = at(content, old)
        section[new] = section.pop(last)

    return change


def replace_task(content: Content) -> None:
    content["tasks"][0] = content["derived"]["datasets"][0] = "mnits"


def start_from_a_start(content: Content) -> None:
    content["recipe"]["ntk"]["start"], content["recipe"]["tau_jp"]["start"] = "standard", "ntk"


def repeat_task(content: Content) -> None:
    content["tasks"][1] = content["derived"]["datasets"][1] = content["tasks"][0]


def make_control_a_task(content: Content) -> None:
    content["control"] = content["derived"]["datasets"][-1] = content["tasks"][2]


def name_an_evaluation_otherwise(content: Content) -> None:
    content["derived"]["evaluations"]["ntk"] = content["derived"]["evaluations"].pop("mini-clip-ntk")


def name_no_others(content: Content) -> None:
    content["recipe"]["tau_jp"]["regulariser"]["others"] |= {"tasks": [], "control": None}


# A change, and the texts that the one line must contain.
MISTAKES: dict[str, tuple[Change, list[str]]] = {
    "unknown key": (set_at("sede", 3), ["'sede'", "3", "seed", "suite", "intervals"]),
    "unknown nested key": (
        set_at("finetune.learning_rate", 0.5),
        ["'finetune.learning_rate'", "0.5", "lr", "batch_size", "augmentation"],
    ),
    "unknown deep key": (set_at("search.addition.step", 0.1), ["'search.addition.step'", "0.1", "min, max, points"]),
    "unknown key of a paradigm": (
        set_at("paradigm.standard.space", "weight"),
        ["'paradigm.standard.space'", "'weight'", "choose from recipe, merging, evaluated_in, negation_grid"],
    ),
    "unknown key of a recipe": (
        set_at("recipe.standard.space", "weight"),
        ["'recipe.standard.space'", "choose from trainable, trained_in, regulariser, extension, start"],
    ),
    "unknown key of a regulariser": (
        set_at("recipe.tau_jp.regulariser.lambda", 1),
        ["'recipe.tau_jp.regulariser.lambda'", "choose from name, weight, options, others"],
    ),
    "unknown key of others": (
        set_at(f"{OTHERS}.split", "train"),
        [f"'{OTHERS}.split'", "choose from tasks, control, arrivals, mode, batch_size"],
    ),
    "unknown key of a grid of a paradigm": (
        set_at("paradigm.ntk.negation_grid.step", 0.1),
        ["'paradigm.ntk.negation_grid.step'", "choose from min, max, points"],
    ),
    "misspelt key": (rename("prepare.val_max", "valmax"), ["'prepare.valmax'", "5000", "val_fraction, val_max"]),
    "misspelt section": (rename("search", "serach"), ["'serach'", "search", "intervals"]),
    "missing key": (delete("prepare.val_max"), ["prepare.val_max", "missing"]),
    "missing learning rate": (delete("finetune.lr"), ["finetune.lr", "missing"]),
    "missing regulariser": (delete("recipe.ntk.regulariser"), ["recipe.ntk.regulariser", "missing"]),
    "text for a number": (set_at("seed", "many"), ["seed", "'many'", "integer"]),
    "text for a fraction": (set_at("prepare.val_fraction", "ten"), ["prepare.val_fraction", "'ten'", "number"]),
    "truth value for a number": (set_at("finetune.batch_size", True), ["finetune.batch_size", "True", "integer"]),
    "fraction for a number": (set_at("epochs.icons", 2.5), ["epochs.icons", "2.5", "integer"]),
    "number for a list": (set_at("tasks", 3), ["tasks", "3", "list"]),
    "number for a section": (set_at("search", 3), ["search", "3"]),
    "negative learning rate": (set_at("finetune.lr", -1.0), ["finetune.lr", "-1.0", "greater than 0"]),
    "no learning rate": (set_at("schedule.ntk.lr", 0), ["schedule.ntk.lr", "0", "greater than 0"]),
    "null for the learning rate of a recipe": (set_at("schedule.ntk.lr", None), ["schedule.ntk.lr", "None", "number"]),
    "no length": (set_at("schedule.ntk.length", 0), ["schedule.ntk.length", "0", "greater than 0"]),
    "fraction above one": (set_at("finetune.warmup", 1.5), ["finetune.warmup", "1.5", "less than or equal to 1"]),
    "no step": (set_at("finetune.steps", 0), ["finetune.steps", "0", "greater than 0"]),
    "half a step of warm-up": (set_at("finetune.warmup_steps", 0.5), ["finetune.warmup_steps", "0.5", "integer"]),
    "text for a switch": (set_at("finetune.compile", "on"), ["finetune.compile", "'on'", "boolean"]),
    "unknown augmentation": (
        set_at("finetune.augmentation.kind", "flip"),
        ["finetune.augmentation", "'flip'", "'padded_crop'", "'resized_crop'"],
    ),
    "key of another augmentation": (
        set_at("finetune.augmentation.scale", [0.9, 1.0]),
        ["'finetune.augmentation.padded_crop.scale'", "choose from kind, padding"],
    ),
    "scale upside down": (
        set_at("finetune.augmentation", {"kind": "resized_crop", "scale": [1.0, 0.9]}),
        ["finetune.augmentation", "scale [1.0, 0.9] goes down"],
    ),
    "scale above one": (
        set_at("finetune.augmentation", {"kind": "resized_crop", "scale": [0.9, 1.1]}),
        ["finetune.augmentation", "1.1", "less than or equal to 1"],
    ),
    "NaN": (set_at("finetune.lr", math.nan), ["finetune.lr", "nan", "finite"]),
    "infinity": (set_at("finetune.max_grad_norm", math.inf), ["finetune.max_grad_norm", "inf", "finite"]),
    "NaN in a grid": (set_at("search.negation.max", math.nan), ["search.negation.max", "nan", "finite"]),
    "unknown precision": (set_at("finetune.precision", "fp16"), ["finetune.precision", "'fp16'", "'fp32'", "'bf16'"]),
    "no micro-batch": (set_at("finetune.accumulation", 0), ["finetune.accumulation", "0", "greater than 0"]),
    "no process": (set_at("finetune.processes", 0), ["finetune.processes", "0", "greater than 0"]),
    "no interval": (set_at("resume.interval", 0), ["resume.interval", "0", "greater than 0"]),
    "negative penalty": (
        set_at("recipe.tau_jp.regulariser.weight", -0.1),
        ["recipe.tau_jp.regulariser.weight", "-0.1", "greater than or equal to 0"],
    ),
    "option that is a list": (
        set_at("recipe.tau_jp.regulariser.options.norm", ["l2"]),
        ["recipe.tau_jp.regulariser.options.norm", "['l2']", "string"],
    ),
    "unknown mode": (set_at(f"{OTHERS}.mode", "random"), [f"{OTHERS}.mode", "'random'", "'cyclic'", "'strict'"]),
    "others of no images": (set_at(f"{OTHERS}.batch_size", 0), [f"{OTHERS}.batch_size", "0", "greater than 0"]),
    "extension without a hash": (
        set_at("recipe.ntk.extension", {"path": "mine.py", "sha256": "latest"}),
        ["recipe.ntk.extension.sha256", "'latest'", "[0-9a-f]{64}"],
    ),
    "unknown device": (set_at("device", "tpu"), ["device", "'tpu'", "auto", "cpu", "cuda"]),
    "unknown task": (replace_task, ["tasks", "'mnits'", *task_names()]),
    "unknown control": (set_at("control", "mnits"), ["control", "'mnits'", *task_names()]),
    "unknown model": (set_at("models", ["ViT-B-31"]), ["models", "'ViT-B-31'", "ViT-B-32", "ViT-L-14"]),
    "unknown paradigm": (set_at("paradigms", ["standrad"]), ["paradigms", "'standrad'", "standard"]),
    "unknown recipe": (
        set_at("paradigm.posthoc.recipe", "standrad"),
        ["paradigm.posthoc.recipe: unknown name 'standrad'", "choose from attention, ntk, standard, tau_jp"],
    ),
    "recipe that is not composed": (delete("recipe.standard"), ["paradigm.standard.recipe: unknown name 'standard'"]),
    "no paradigm": (set_at("paradigms", []), ["paradigms", "[]", "standard"]),
    "no model": (set_at("models", []), ["models", "[]", "ViT-B-32"]),
    "unknown space": (set_at("recipe.ntk.trained_in", "flat"), ["recipe.ntk.trained_in", "'flat'", "'weight'"]),
    "unknown space of edits": (set_at("paradigm.ntk.evaluated_in", "flat"), ["evaluated_in", "'flat'", "'tangent'"]),
    "grid upside down": (set_at("search.addition.min", 99.0), ["search.addition", "less than min 99.0", "at least"]),
    "grid of one point": (set_at("search.negation.points", 1), ["search.negation", "from min 0.0", "2 or more"]),
    "grid below zero": (set_at("search.addition.min", -0.5), ["search.addition.min", "-0.5"]),
    "grid of no points": (set_at("search.addition.points", 0), ["search.addition.points", "0", "greater than 0"]),
    "paradigm's grid upside down": (
        set_at("paradigm.ntk.negation_grid.min", 99.0),
        ["paradigm.ntk.negation_grid", "less than min 99.0", "at least"],
    ),
    "duplicate task": (repeat_task, ["tasks", "'icons', 'icons'", "once"]),
    "control among tasks": (make_control_a_task, ["control", "'optdigits'", "another task"]),
    "missing epochs": (delete("epochs.icons"), ["epochs", "'icons'"]),
    "missing schedule": (delete("schedule.ntk"), ["schedule: no entry for recipe 'ntk'", "lr and length"]),
    "others of an unknown task": (
        set_at(f"{OTHERS}.tasks", ["icons", "mnits"]),
        [f"{OTHERS}: unknown name 'mnits'", "choose from icons, fashion", "signs, emoji"],
    ),
    "control of others that is not in the suite": (
        set_at(f"{OTHERS}.control", "cub"),
        [f"{OTHERS}: unknown name 'cub'"],
    ),
    "control among others": (set_at(f"{OTHERS}.control", "icons"), [OTHERS, "'icons'", "something twice"]),
    "no others": (name_no_others, [OTHERS, "[] is empty", "icons, fashion"]),
    "datasets without control": (
        set_at("derived.datasets", ["icons"]),
        ["derived.datasets: follows from other entries", "must be ['icons', 'fashion'", "'emoji']", "tauflow compose"],
    ),
    "recipe too few": (
        set_at("derived.recipes", ["standard", "ntk"]),
        ["derived.recipes: follows", "['standard', 'ntk', 'attention', 'tau_jp']"],
    ),
    "regularised recipe among the plain ones": (
        set_at("derived.plain_recipes", ["standard", "ntk", "attention", "tau_jp"]),
        ["derived.plain_recipes: follows", "['standard', 'ntk', 'attention'];"],
    ),
    "imported recipe that trains": (
        set_at("imported.ntk", {"trained_in": "weight"}),
        ["imported: 'ntk' is a recipe that trains as well"],
    ),
    "imported from nowhere": (
        set_at("imported.theirs", {"trained_in": "there"}),
        ["imported.theirs.trained_in", "'there'"],
    ),
    "unknown start": (
        set_at("recipe.ntk.start", "theirs"),
        ["recipe.ntk.start: unknown name 'theirs'; choose from attention, ntk"],
    ),
    "start of a start": (start_from_a_start, ["recipe.tau_jp.start: 'ntk' has a start itself"]),
    "start that nothing follows": (
        set_at("recipe.ntk.start", "standard"),
        ["derived.plain_recipes: follows", "['standard', "],
    ),
    "order twice": (set_at("incremental.orders", [3, 3]), ["incremental.orders: [3, 3] names an order twice"]),
    "the sum among other merging methods": (
        set_at("merging_grid.methods.sum", {}),
        ["merging_grid.methods: 'sum' is what the others are compared with; leave it out"],
    ),
    "options of a merging method that it does not have": (
        set_at("merging_grid.methods.ties", 0.1),
        ["merging_grid.methods.ties: 0.1 is invalid", "dictionary"],
    ),
    "a grid of merged vectors that goes down": (
        set_at("merging_grid.search.tangent", {"min": 1.0, "max": 0.0, "points": 3}),
        ["merging_grid.search.tangent: max 0.0 is less than min 1.0"],
    ),
    "another order of arrival": (
        set_at("derived.arrivals.order_0", ["icons"]),
        ["derived.arrivals: follows", "'order_0': ["],
    ),
    "no regularised recipe": (
        set_at("derived.regularised_recipes", []),
        ["derived.regularised_recipes: follows", "['tau_jp', 'tau_jp_order_0']"],
    ),
    "evaluation of another name": (
        name_an_evaluation_otherwise,
        ["derived.evaluations: follows", "'mini-clip-ntk': {"],
    ),
    "evaluation with another recipe": (
        set_at("derived.evaluations.mini-clip-posthoc.recipe", "ntk"),
        ["derived.evaluations: follows", "{'model': 'mini-clip', 'paradigm': 'posthoc', 'recipe': 'standard', "],
    ),
    "paradigm that no evaluation knows": (
        set_at("paradigms", ["ntk"]),
        ["derived.recipes: follows", "must be ['ntk']"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gives_one_line(mistake: str, content: Content, tmp_path: Path) -> None:
    change, texts = MISTAKES[mistake]
    change(content)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(UserError) as error:
        load_parameters(path, LegalNames(task_names(), model_names()))
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    for text in texts:
        assert text in line, f"{text!r} is not in {line!r}"
