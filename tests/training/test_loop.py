"""The training loop: what it does in every space, what cannot change its result, and its failures."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.config import FinetuneSettings, PaddedCrop, Recipe, RegulariserSettings
from pipeline.errors import UserError
from pipeline.images import LabelledImages
from pipeline.models.encoders import ImageEncoder
from pipeline.models.heads import Head
from pipeline.paradigms import make_trainable
from pipeline.training import Plan, StepRecord, TrainingData, finetune, regulariser
from pipeline.training.objective import Objective

NO_CROP = PaddedCrop(kind="padded_crop", padding=0)

Train = Callable[..., tuple[dict[str, Tensor], list[StepRecord]]]
Recipes = Mapping[str, Recipe]
ImageFactory = Callable[..., LabelledImages]

KINDS = ["weight", "tangent", "attention", "cyclic", "strict", "strict in weight space"]
every_kind = pytest.mark.parametrize("kind", KINDS)


def separable(n: int) -> LabelledImages:
    """Dark and bright noise."""
    random = np.random.default_rng(0)
    labels = np.arange(n, dtype=np.int64) % 2
    images = random.integers(0, 100, (n, 3, 32, 32)) + 150 * labels[:, None, None, None]
    return LabelledImages(images.astype(np.uint8), labels)


def bits(tensors: dict[str, Tensor]) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def tau(trained: dict[str, Tensor], base: dict[str, Tensor]) -> Tensor:
    """Flattened, without the bias of the keys: its gradient is zero but for rounding, which AdamW blows up."""
    parts = []
    for name, theta in trained.items():
        difference = theta - base[name]
        parts.append(torch.cat(difference.chunk(3)[::2]) if name.endswith("in_proj_bias") else difference.flatten())
    return torch.cat(parts)


@every_kind
def test_loss_falls_on_a_separable_task(train: Train, recipes: Recipes, base: dict[str, Tensor], kind: str) -> None:
    lr = 1e-3 if recipes[kind].trained_in == "weight" else 3e-3
    trained, records = train(recipes[kind], separable(32), epochs=8.0, lr=lr)
    first, last = records[:4], records[-4:]
    assert np.mean([r.loss for r in first]) > 0.4
    assert np.mean([r.loss for r in last]) < 0.1
    assert [r.accuracy for r in last] == [1] * 4
    assert len(trained) == (4 if kind == "attention" else len(base))
    assert all(not torch.equal(trained[name], base[name]) for name in trained)
    assert all(theta.dtype == torch.float32 for theta in trained.values())


@every_kind
def test_the_penalty_of_the_curve(train: Train, recipes: Recipes, kind: str) -> None:
    """0 without a regulariser and before the first step."""
    _, records = train(recipes[kind])
    penalties = [record.penalty for record in records]
    assert penalties[0] == 0
    assert all((penalty > 0) == (recipes[kind].regulariser is not None) for penalty in penalties[1:])


@pytest.mark.parametrize("kind", ["cyclic", "strict", "strict in weight space"])
def test_the_first_step_is_that_of_no_regulariser(train: Train, recipes: Recipes, kind: str) -> None:
    """τ is 0, and the loss of the curve is the task's own; from the second step on they go apart."""
    plain = recipes[kind].model_copy(update={"regulariser": None})
    (expected, [first]), (actual, [record]) = train(plain, epochs=0.5), train(recipes[kind], epochs=0.5)
    assert bits(actual) == bits(expected)
    assert record == first
    assert bits(train(recipes[kind], epochs=1.0)[0]) != bits(train(plain, epochs=1.0)[0])


def test_a_penalty_keeps_tau_j_p_small(
    train: Train, make_recipe: Callable[..., Recipe], make_tau_jp: Callable[..., RegulariserSettings]
) -> None:
    """The more, the larger λ."""
    last = []
    for weight in (0.0, 0.3, 3.0):
        recipe = make_recipe("tangent", make_tau_jp("strict", weight=weight, batch_size=7))
        _, records = train(recipe, separable(16), epochs=12.0, augmentation=NO_CROP)
        last.append(records[-1].penalty)
    assert last[0] > 1.5 * last[1] > 2.0 * last[2]


@pytest.mark.parametrize(
    ("images", "epochs", "steps"),
    [
        (19, 2.0, [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1)]),  # the third batch of an epoch has 3 images
        (5, 3.0, [(0, 0), (1, 1), (2, 2)]),  # fewer than a batch
        (32, 0.5, [(0, 0), (1, 0)]),
        (32, 1.25, [(0, 0), (1, 0), (2, 0), (3, 0), (4, 1)]),
        (32, 0.01, [(0, 0)]),  # at least one
    ],
)
def test_steps_and_epochs(
    train: Train,
    recipes: Recipes,
    finetune_settings: FinetuneSettings,
    images: int,
    epochs: float,
    steps: list[tuple[int, int]],
) -> None:
    """Batches of 8; the schedule is as long as the steps, and each of them is reported once."""
    seen: list[StepRecord] = []
    _, records = train(recipes["weight"], separable(images), epochs=epochs, on_step=seen.append)
    assert [(r.step, r.epoch) for r in records] == steps
    assert seen == records
    plan = Plan(finetune_settings, 1e-3, epochs, 0)
    assert [r.lr for r in records] == [plan.learning_rate(step, len(steps)) for step in range(len(steps))]


def test_head_is_frozen(
    make_encoder: Callable[[], ImageEncoder],
    make_head: Callable[..., Head],
    recipes: Recipes,
    finetune_settings: FinetuneSettings,
) -> None:
    head = make_head(2)
    before = head.weight.clone()
    model, plan = make_trainable(make_encoder(), recipes["weight"]), Plan(finetune_settings, 1e-3, 2.0, 0)
    finetune(model, TrainingData(separable(8), head), plan, torch.device("cpu"), lambda record: None)
    assert torch.equal(head.weight, before)


@every_kind
def test_seed_fixes_every_bit(train: Train, recipes: Recipes, kind: str) -> None:
    results = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)  # other code's random numbers do not matter
        np.random.seed(noise)
        trained, records = train(recipes[kind], seed=seed)
        results.append((bits(trained), records))
    assert results[0] == results[1]
    assert results[0][0] != results[2][0]


def test_augmentation_has_an_effect(train: Train, recipes: Recipes) -> None:
    assert bits(train(recipes["weight"])[0]) != bits(train(recipes["weight"], augmentation=NO_CROP)[0])


@every_kind
@pytest.mark.parametrize("accumulation", [3, 8])
def test_micro_batches_change_nothing(
    train: Train, recipes: Recipes, base: dict[str, Tensor], kind: str, accumulation: int
) -> None:
    """But the order of summation. Gradients are clipped as a whole: their norm is that of the batch, and too large."""
    options = {"epochs": 4.0, "max_grad_norm": 0.5}
    trained, records = train(recipes[kind], **options)
    divided, actual = train(recipes[kind], accumulation=accumulation, **options)
    for name in ("loss", "penalty", "accuracy", "grad_norm"):
        expected = [getattr(record, name) for record in records]
        assert [getattr(record, name) for record in actual] == pytest.approx(expected, rel=1e-5, abs=1e-6), name
    assert min(record.grad_norm for record in records) > 0.5
    expected = tau(trained, base)
    assert (tau(divided, base) - expected).norm() < 1e-4 * expected.norm()


@every_kind
def test_bf16_stays_close_to_fp32(train: Train, recipes: Recipes, base: dict[str, Tensor], kind: str) -> None:
    """Under autocast, with weights and optimiser in fp32: bf16 keeps 8 bits, and AdamW works with those."""
    full, mixed = (train(recipes[kind], epochs=4.0, precision=precision) for precision in ("fp32", "bf16"))
    assert bits(full[0]) != bits(mixed[0])
    assert all(theta.dtype == torch.float32 for theta in mixed[0].values())
    # They are not bf16 numbers in disguise.
    assert any(not torch.equal(theta, theta.bfloat16().float()) for theta in mixed[0].values())
    assert [r.loss for r in mixed[1]] == pytest.approx([r.loss for r in full[1]], rel=0.02)
    assert [r.penalty for r in mixed[1]] == pytest.approx([r.penalty for r in full[1]], rel=0.05, abs=1e-6)
    cosine = torch.nn.functional.cosine_similarity(tau(full[0], base), tau(mixed[0], base), dim=0)
    assert cosine > 0.99


@pytest.mark.parametrize(("kind", "message"), [("weight", "loss is nan"), ("cyclic", "penalty is inf")])
def test_numbers_that_are_none(train: Train, recipes: Recipes, kind: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        train(recipes[kind], lr=1e30, epochs=5.0)
    line = str(error.value)
    assert line.startswith(f"{message} at step 1 of 10 ")
    assert "finetune.lr" in line
    assert "params.yaml" in line
    assert "\n" not in line


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_penalty_that_is_no_number(
    train: Train, recipes: Recipes, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    """It is named, not the loss, which is fine."""
    monkeypatch.setattr(regulariser, "_functions", dict(regulariser._functions))

    @regulariser("broken")
    def broken(encoder: object, images: object, options: object) -> Tensor:
        return torch.tensor(value, requires_grad=True)

    settings = RegulariserSettings(name="broken", weight=1.0, options={}, others=None)
    with pytest.raises(UserError, match=f"^penalty is {value} at step 0 of 4 "):
        train(recipes["weight"].model_copy(update={"regulariser": settings}))


def test_weights_that_the_last_step_broke(train: Train, recipes: Recipes) -> None:
    """No further loss would show it."""
    with pytest.raises(UserError, match=r"^weights are NaN or infinite after the last of 1 steps; lower finetune\.lr"):
        train(recipes["weight"], separable(8), lr=1e30, weight_decay=1e30, epochs=1.0)


@pytest.mark.parametrize(("images", "accumulation"), [(16, 9), (5, 6)])
def test_a_batch_that_cannot_be_divided(train: Train, recipes: Recipes, images: int, accumulation: int) -> None:
    line = (
        f"^a batch of {min(8, images)} images cannot be divided among 1 processes with {accumulation} micro-batches; "
    )
    with pytest.raises(UserError, match=line):
        train(recipes["weight"], separable(images), accumulation=accumulation)


def test_no_other_task(
    make_encoder: Callable[[], ImageEncoder],
    make_head: Callable[..., Head],
    recipes: Recipes,
    finetune_settings: FinetuneSettings,
) -> None:
    """As when the only other task is the task itself."""
    plan = Plan(finetune_settings, 1e-3, 1.0, 0, recipes["cyclic"].regulariser)
    model = make_trainable(make_encoder(), recipes["cyclic"])
    with pytest.raises(UserError, match=r"^regulariser tau_jp: there are no other tasks to take images from"):
        finetune(model, TrainingData(separable(8), make_head(2)), plan, torch.device("cpu"), lambda record: None)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"name": "tau_pj"}, "unknown regulariser 'tau_pj'; choose from .*tau_jp.*"),
        ({"options": {"norm": "l1"}}, "regulariser tau_jp: unknown options .*'l1'.*; choose norm: l2 or norm: squared"),
        ({"others": None}, "regulariser tau_jp: others is null; name the tasks whose images it penalises"),
    ],
)
def test_a_regulariser_that_is_described_wrongly(
    train: Train, recipes: Recipes, change: dict[str, object], line: str
) -> None:
    settings = recipes["cyclic"].regulariser
    assert settings is not None
    with pytest.raises(UserError, match=f"^{line}$"):
        train(recipes["cyclic"].model_copy(update={"regulariser": settings.model_copy(update=change)}))


def test_a_step_is_one_call() -> None:
    """Nothing else of an objective is public, so that the penalty cannot come after the loss."""
    assert [name for name, value in vars(Objective).items() if callable(value) and not name.startswith("_")] == [
        "backward"
    ]
