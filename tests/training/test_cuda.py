"""Fine-tuning and evaluation on a GPU, where there is one: close to the CPU, and to themselves byte by byte."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.config import EvaluationSettings, PaddedCrop, Recipe, ResizedCrop
from pipeline.editing import TaskVector
from pipeline.editing.spaces import TangentSpace, WeightSpace
from pipeline.images import LabelledImages
from pipeline.models import load_model_definition
from pipeline.models.devices import prepare_device
from pipeline.models.encoders import ImageEncoder, build_clip
from pipeline.paradigms import make_trainable
from pipeline.training import Processes, ResumeFile, StepRecord
from pipeline.training.batches import Batches
from pipeline.training.feed import Feed

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

Result = tuple[dict[str, Tensor], list[StepRecord]]
Train = Callable[..., Result]
Recipes = Mapping[str, Recipe]

CPU = torch.device("cpu")
SETTINGS = EvaluationSettings(batch_size=4, directions=1, edits=1)
RESIZED = ResizedCrop(kind="resized_crop", scale=(0.9, 1.0))
KINDS = ["weight", "tangent", "attention", "cyclic", "strict", "strict in weight space"]
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def gpu() -> torch.device:
    """With deterministic kernels and no TF32, as the stages have it."""
    return prepare_device("cuda")


def bits(result: Result) -> tuple[dict[str, bytes], list[StepRecord]]:
    return {name: tensor.numpy().tobytes() for name, tensor in result[0].items()}, result[1]


def moved(theta: dict[str, Tensor], base: dict[str, Tensor]) -> Tensor:
    """τ without the bias of the keys: its gradient is zero but for rounding, which AdamW blows up."""
    return torch.cat([(theta[name] - base[name]).flatten() for name in theta if "in_proj_bias" not in name])


@every_kind
def test_fp32_is_that_of_the_cpu(
    kind: str, train: Train, recipes: Recipes, base: dict[str, Tensor], gpu: torch.device
) -> None:
    (theta, curve), (expected, records) = (train(recipes[kind], device=device) for device in (gpu, CPU))
    for key in ("loss", "penalty", "accuracy", "grad_norm"):
        values = [getattr(record, key) for record in curve]
        assert values == pytest.approx([getattr(record, key) for record in records], rel=1e-3, abs=1e-6), key
    assert (moved(theta, base) - moved(expected, base)).norm() < 1e-2 * moved(expected, base).norm()


@every_kind
def test_bf16_stays_close_to_fp32(
    kind: str, train: Train, recipes: Recipes, base: dict[str, Tensor], gpu: torch.device
) -> None:
    full, mixed = (train(recipes[kind], device=gpu, precision=precision) for precision in ("fp32", "auto"))
    assert bits(full)[0] != bits(mixed)[0]
    assert [r.loss for r in mixed[1]] == pytest.approx([r.loss for r in full[1]], rel=0.02)
    assert [r.penalty for r in mixed[1]] == pytest.approx([r.penalty for r in full[1]], rel=0.05, abs=1e-6)
    assert torch.nn.functional.cosine_similarity(moved(full[0], base), moved(mixed[0], base), dim=0) > 0.99


def test_tangents_in_bf16(
    make_encoder: Callable[[], ImageEncoder],
    make_images: Callable[..., LabelledImages],
    recipes: Recipes,
    gpu: torch.device,
) -> None:
    """f₀(x) + J(x) τ, of a τ that matters."""
    trainable = make_trainable(make_encoder().to(gpu), recipes["tangent"])
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for theta in trainable.trained.values():
            theta.add_((0.05 * torch.randn(theta.shape, generator=random)).to(gpu))
    images = torch.from_numpy(make_images(6).images).to(gpu)
    for embed in (trainable, trainable.tangent):
        expected = embed(images)
        with torch.autocast("cuda", torch.bfloat16):
            tangents = embed(images).float()
        assert (tangents - expected).norm() < 0.03 * expected.norm()


@every_kind
@pytest.mark.parametrize("crop", [PaddedCrop(kind="padded_crop", padding=2), RESIZED])
def test_a_run_repeats_its_bytes(
    kind: str, crop: PaddedCrop | ResizedCrop, train: Train, recipes: Recipes, gpu: torch.device
) -> None:
    options = {"device": gpu, "precision": "auto", "augmentation": crop, "epochs": 6.0, "accumulation": 2}
    first, again = (bits(train(recipes[kind], **options)) for _ in range(2))
    assert first == again


@pytest.mark.parametrize("kind", ["weight", "tangent", "cyclic"])
@pytest.mark.parametrize("interval", [1, 4])
def test_a_stopped_run_ends_with_the_same_bytes(
    kind: str, interval: int, train: Train, recipes: Recipes, gpu: torch.device, tmp_path: Path
) -> None:
    """Also where many steps' numbers are read together."""
    options = {"device": gpu, "precision": "auto", "augmentation": RESIZED, "epochs": 13.0}
    expected = bits(train(recipes[kind], **options))
    resume = ResumeFile(tmp_path / "resume.safetensors", "key", interval)

    def stop(record: StepRecord) -> None:
        if record.step == 9:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(recipes[kind], resume=resume, on_step=stop, **options)
    seen: list[StepRecord] = []
    assert bits(train(recipes[kind], resume=resume, on_step=seen.append, **options)) == expected
    assert seen == expected[1][9 // interval * interval :]


@pytest.mark.parametrize("size", [32, 20])
@pytest.mark.parametrize("crop", [PaddedCrop(kind="padded_crop", padding=2), RESIZED])
def test_batches_are_those_of_the_cpu(
    size: int, crop: PaddedCrop | ResizedCrop, make_images: Callable[..., LabelledImages], gpu: torch.device
) -> None:
    """In their order, to the bit where nothing is resized and to two levels of 255 where it is."""
    batches = Batches(make_images(50, size=size), 8, crop, 0)
    feeds = (Feed(batches, None, crop, (32, 32), device, Processes()).iterate(2, 30) for device in (gpu, CPU))
    compared = 0
    for actual, expected in zip(*feeds, strict=True):
        assert (actual.step, actual.epoch) == (expected.step, expected.epoch)
        assert actual.own.labels is not None
        assert expected.own.labels is not None
        assert torch.equal(actual.own.labels.cpu(), expected.own.labels)
        difference = (actual.own.images.cpu().int() - expected.own.images.int()).abs().max()
        assert difference <= (0 if isinstance(crop, PaddedCrop) else 2)
        compared += 1
    assert compared == 28


@pytest.mark.parametrize("kind", ["weight", "tangent", "attention", "cyclic"])
def test_checkpointing_changes_no_bit(kind: str, train: Train, recipes: Recipes, gpu: torch.device) -> None:
    options = {"device": gpu, "precision": "auto"}
    plain, checkpointed = (bits(train(recipes[kind], checkpointing=on, **options)) for on in (False, True))
    assert plain == checkpointed


@pytest.mark.parametrize("kind", ["weight", "tangent"])
def test_checkpointing_saves_memory(
    kind: str, make_images: Callable[..., LabelledImages], recipes: Recipes, gpu: torch.device
) -> None:
    """Uses mini-clip: in tangent space, the tiny encoder's first block takes almost all of the memory."""
    definition, peaks = load_model_definition("mini-clip"), []
    for checkpointing in (False, True):
        encoder = ImageEncoder(build_clip(definition).get_submodule("visual"), definition, "0" * 64)
        trainable = make_trainable(encoder.to(gpu), recipes[kind])
        if checkpointing:
            trainable.checkpoint_activations()
        images = torch.from_numpy(make_images(512).images).to(gpu)
        for _ in range(2):
            torch.cuda.reset_peak_memory_stats(gpu)
            before = torch.cuda.memory_allocated(gpu)
            trainable(images).square().sum().backward()
            peaks.append(torch.cuda.max_memory_allocated(gpu) - before)
    assert peaks[3] < 0.8 * peaks[1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_compiled_is_eager(train: Train, recipes: Recipes, base: dict[str, Tensor], gpu: torch.device) -> None:
    torch.compiler.reset()
    eager, compiled = (train(recipes["weight"], device=gpu, compile=compile) for compile in (False, True))
    torch.compiler.reset()
    assert [r.loss for r in compiled[1]] == pytest.approx([r.loss for r in eager[1]], rel=1e-3)
    assert (moved(compiled[0], base) - moved(eager[0], base)).norm() < 2e-2 * moved(eager[0], base).norm()


@pytest.mark.parametrize("size", [32, 28])
def test_edits_are_those_of_the_cpu(
    size: int,
    make_encoder: Callable[[], ImageEncoder],
    make_images: Callable[..., LabelledImages],
    make_vector: Callable[..., TaskVector],
    gpu: torch.device,
) -> None:
    """In either space, with images of the model's size and of another."""
    vectors = [make_vector(0, scale=0.02), make_vector(1, scale=0.02, part="attn")]
    edits = torch.tensor([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0], [0.3, -1.0]])
    batches = [torch.from_numpy(make_images(5, size=size).images)]
    three_edits = SETTINGS.model_copy(update={"edits": 3})
    for space, settings in ((WeightSpace, SETTINGS), (TangentSpace, SETTINGS), (WeightSpace, three_edits)):
        on_gpu, on_cpu = (
            space(make_encoder(), vectors, device, settings).embeddings(edits, batches) for device in (gpu, CPU)
        )
        for (edit, batch, actual), (same, also, expected) in zip(on_gpu, on_cpu, strict=True):
            assert (edit, batch) == (same, also)
            assert (actual.cpu() - expected).norm() < 1e-2 * expected.norm()
    features = [
        torch.cat(list(TangentSpace(make_encoder(), vectors, device, SETTINGS).features(batches[0]))).cpu()
        for device in (gpu, CPU)
    ]
    assert (features[0] - features[1]).norm() < 1e-2 * features[1].norm()
