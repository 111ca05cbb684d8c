"""How many images tasks have, and how large: from their cards or, before they are prepared, as their sources say."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import pandas as pd

from pipeline.config import Parameters
from pipeline.tasks import Split, TaskCard, load_task
from tauflow import layout


@dataclass(frozen=True)
class TaskSize:
    """Images by split, their height and width, and the bytes of their sources.

    image_size: ``None`` where nobody knows before they are prepared. download_bytes: ``None`` where the source is here.
    """

    counts: Mapping[Split, int]
    image_size: tuple[int, int] | None
    download_bytes: int | None

    @property
    def packed_bytes(self) -> int | None:
        """All splits as packed arrays."""
        return self.image_size and 3 * self.image_size[0] * self.image_size[1] * sum(self.counts.values())


def task_size(params: Parameters, task: str) -> TaskSize | None:
    """What the task's card says; else what its source ships, cut as the parameters say; ``None``: nobody knows.

    Raises:
        UserError: the card is damaged, or there is no such task.
    """
    shipped = _shipped()
    fetched = int(shipped.loc[task, "megabytes"] * 1e6) or None if task in shipped.index else None
    path = layout.task_card(task)
    if path.exists():
        card = TaskCard.read(path)
        return TaskSize(card.counts, card.image_size, fetched)
    if task not in shipped.index:
        return None
    train, val, test, side = (int(n) for n in shipped.loc[task, ["train", "val", "test", "image_size"]])
    settings = params.prepare
    if not val:
        val = min(int(settings.val_fraction * train), settings.val_max)
        train -= val
    if task == params.control and settings.control_train_images is not None:
        train = min(train, settings.control_train_images)
    limit = settings.max_images or train + val + test
    counts: dict[Split, int] = {"train": min(train, limit), "val": min(val, limit), "test": min(test, limit)}
    native = side or getattr(load_task(task).source, "image_size", None)
    side = min((side for side in (settings.resolution, native) if side), default=None)
    return TaskSize(counts, (side, side) if side else None, fetched)


def _shipped() -> pd.DataFrame:
    """What the sources of tasks ship, by task: images of train, val (0: it is cut from train) and test, and their size.

    megabytes: of the download, roughly; 0: it is made here, of images as they are packed.
    """
    with files("pipeline").joinpath("definitions/task_sizes.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, index_col="task").fillna(0)
