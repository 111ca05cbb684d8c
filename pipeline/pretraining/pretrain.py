"""Pre-training of mini-clip: a contrastive loss on the captioned corpus, one readable loop.

    corpus (rendered from data/mini) → batches → encode images and distinct captions → caption_loss → Muon + AdamW

Random numbers depend on the seed and the step only. A run that was stopped and resumed therefore ends with the same
bytes as an uninterrupted one on the same machine with the same number of threads.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, normalize, pad

from pipeline.io.files import atomic_write
from pipeline.pretraining import MEAN, STD, build
from pipeline.pretraining.zero_shot import ZeroShot
from pipeline.sources.mini.corpus import Corpus, render_corpus


@dataclass(frozen=True)
class Settings:
    """Everything that determines the weights, besides the sources, the machine and the versions."""

    steps: int = 5400
    pairs: int = 120_000
    seed: int = 0
    threads: int = 1
    batch: int = 128
    matrix_lr: float = 0.02
    """Muon, for the matrices inside the transformer blocks."""
    matrix_decay: float = 0.05
    lr: float = 1e-3
    """AdamW, for everything else."""
    decay: float = 0.1
    warmup: int = 100
    clip: float = 1.0
    final_lr: float = 0.01
    """Factor of the learning rates at the end of the cosine."""


@dataclass(frozen=True)
class StepReport:
    """The numbers of a step.

    accuracies: zero-shot on val, by task; empty between evaluations.
    """

    step: int
    loss: float
    scale: float
    accuracies: dict[str, float]


def caption_loss(
    images: Float[Tensor, "n features"],
    texts: Float[Tensor, "captions features"],
    caption: Int64[Tensor, " n"],
    scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Return CLIP's symmetric cross-entropy for images that may share a caption.

    With one row per image, two images of the same caption would be each other's negatives. Here ``texts`` has every
    caption once: an image's target is its caption; a caption's target is uniform over its images.

    Args:
        images, texts: normalised embeddings.
        caption: row of ``texts`` that belongs to each image; every row belongs to at least one.
        scale: factor of the cosine similarities.
    """
    logits = scale * images @ texts.T
    to_text = cross_entropy(logits, caption)
    own = log_softmax(logits, dim=0).gather(1, caption[:, None])[:, 0]
    share = 1 / torch.bincount(caption, minlength=len(texts)).to(own.dtype)
    to_image = -(own * share[caption]).sum() / len(texts)
    return (to_text + to_image) / 2


def augment(images: UInt8[Tensor, "n 3 size size"], generator: torch.Generator) -> Float[Tensor, "n 3 size size"]:
    """Normalise, shift the batch by up to 2 pixels, vary contrast, tint half of the images; no flips: letters."""
    n, size = len(images), images.shape[-1]
    x = (images.float() / 255 - MEAN) / STD
    top, left = torch.randint(0, 5, (2,), generator=generator).tolist()
    x = pad(x, (2, 2, 2, 2), mode="replicate")[:, :, top : top + size, left : left + size]
    contrast = torch.empty(n, 1, 1, 1).uniform_(0.8, 1.2, generator=generator)
    tinted = (torch.rand(n, 1, 1, 1, generator=generator) < 0.5).float()
    return x * contrast + tinted * torch.randn(n, 3, 1, 1, generator=generator) * 0.3


def optimisers(model: nn.Module, settings: Settings) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices in the transformer blocks, AdamW for the rest (without decay on vectors)."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if ".resblocks." in name and p.ndim == 2]
    rest = [(name, p) for name, p in named if not (".resblocks." in name and p.ndim == 2)]
    decayed = [p for name, p in rest if p.ndim > 1 and "positional" not in name]
    plain = [p for name, p in rest if not (p.ndim > 1 and "positional" not in name)]
    groups = [{"params": decayed, "weight_decay": settings.decay}, {"params": plain, "weight_decay": 0.0}]
    return [
        torch.optim.Muon(matrices, lr=settings.matrix_lr, weight_decay=settings.matrix_decay),
        torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.98)),
    ]


def learning_rate_factor(step: int, settings: Settings) -> float:
    """Return the factor of the learning rates: linear warm-up, then a cosine down to ``final_lr``."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.final_lr + (1 - settings.final_lr) * 0.5 * (1 + math.cos(math.pi * done))


def pretrain(
    settings: Settings,
    sources: Path,
    checkpoint: Path,
    resume: bool = False,
    evaluate_every: int = 1000,
    checkpoint_every: int = 250,
    report: Callable[[StepReport], None] = lambda step: None,
) -> dict[str, Tensor]:
    """Pre-train mini-clip and return its state dict, both towers.

    Args:
        sources: the directory of the committed sources, ``data/mini``.
        checkpoint: file written every ``checkpoint_every`` steps, from which ``resume`` continues.
        report: called after every step.

    Raises:
        ValueError: a source is missing or damaged, or the checkpoint has other settings.
    """
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    model, tokenizer = build()
    zero_shot = ZeroShot.load(sources, tokenizer)
    corpus = render_corpus(sources, settings.pairs, settings.seed)
    tokens = tokenizer(corpus.captions)
    optimisers_ = optimisers(model, settings)
    rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers_]
    first = _load(checkpoint, settings, model, optimisers_) if resume and checkpoint.exists() else 0

    for step in range(first, settings.steps):
        factor = learning_rate_factor(step, settings)
        for optimiser, initial in zip(optimisers_, rates, strict=True):
            for group, rate in zip(optimiser.param_groups, initial, strict=True):
                group["lr"] = rate * factor
        images, caption, distinct = _batch(corpus, settings, step)
        embedded = normalize(model.get_submodule("visual")(images), dim=-1)
        texts = model.encode_text(tokens[distinct], normalize=True)  # pyright: ignore[reportCallIssue]
        loss = caption_loss(embedded, texts, caption, model.get_parameter("logit_scale").exp())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        for optimiser in optimisers_:
            optimiser.step()
            optimiser.zero_grad()
        with torch.no_grad():
            model.get_parameter("logit_scale").clamp_(max=math.log(100))
        done = step + 1
        accuracies = zero_shot.accuracies(model, "val") if done % evaluate_every == 0 or done == settings.steps else {}
        if done % checkpoint_every == 0:
            _save(checkpoint, settings, model, optimisers_, done)
        report(StepReport(done, loss.item(), model.get_parameter("logit_scale").exp().item(), accuracies))
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def _batch(
    corpus: Corpus, settings: Settings, step: int
) -> tuple[Float[Tensor, "n 3 size size"], Int64[Tensor, " n"], Int64[Tensor, " captions"]]:
    """Return augmented images, the row of each image's caption among the distinct captions, and these captions."""
    chosen = np.random.default_rng([settings.seed, step]).integers(0, len(corpus), settings.batch)
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
    distinct, caption = np.unique(corpus.caption_ids[chosen], return_inverse=True)
    images = augment(torch.from_numpy(corpus.images[chosen]), generator)
    return images, torch.from_numpy(caption), torch.from_numpy(distinct)


def _save(path: Path, settings: Settings, model: nn.Module, parts: list[torch.optim.Optimizer], step: int) -> None:
    state = {
        "settings": asdict(settings),
        "step": step,
        "model": model.state_dict(),
        "optimisers": [o.state_dict() for o in parts],
    }
    with atomic_write(path) as temporary:
        torch.save(state, temporary)


def _load(path: Path, settings: Settings, model: nn.Module, parts: list[torch.optim.Optimizer]) -> int:
    state: dict[str, Any] = torch.load(path, weights_only=True)
    if state["settings"] != asdict(settings):
        raise ValueError(f"{path}: has other settings, {state['settings']}; delete it or use the same settings")
    model.load_state_dict(state["model"])
    for optimiser, saved in zip(parts, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    return state["step"]
