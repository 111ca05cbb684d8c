"""Zero-shot accuracies of mini-clip on the mini suite, to monitor pre-training."""

from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
from torch import Tensor, nn

from pipeline.images.images import LabelledImages
from pipeline.pretraining import MEAN, STD
from pipeline.sources.mini import TASKS, materialise
from pipeline.tasks.registry import TaskDefinition, load_task

_BATCH = 500


@dataclass(frozen=True)
class ZeroShot:
    """The mini suite's tasks, with their splits."""

    tokenizer: open_clip.SimpleTokenizer
    tasks: dict[str, tuple[TaskDefinition, dict[str, LabelledImages]]]

    @classmethod
    def load(cls, sources: Path, tokenizer: open_clip.SimpleTokenizer) -> "ZeroShot":
        """Generate the images of all tasks.

        Raises:
            ValueError: a source is missing or damaged.
        """
        return cls(tokenizer, {name: (load_task(name), materialise(name, sources)) for name in TASKS})

    @torch.no_grad()
    def correct(self, model: nn.Module, task: str, split: str) -> Tensor:
        """Return whether each image of a split is classified correctly, ``[n]``; leaves the model in train mode."""
        definition, splits = self.tasks[task]
        images, labels = splits[split].images, torch.from_numpy(splits[split].labels)
        model.eval()
        head = open_clip.build_zero_shot_classifier(model, self.tokenizer, definition.classes, definition.templates)
        predicted = []
        for start in range(0, len(images), _BATCH):
            x = (torch.from_numpy(images[start : start + _BATCH]).float() / 255 - MEAN) / STD
            predicted.append((model.get_submodule("visual")(x) @ head).argmax(1))
        model.train()
        return torch.cat(predicted) == labels

    def accuracies(self, model: nn.Module, split: str) -> dict[str, float]:
        """Return the accuracy on each task's split."""
        return {task: self.correct(model, task, split).double().mean().item() for task in self.tasks}
