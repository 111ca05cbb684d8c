"""Number and size of each task's images, from its card or, before it is prepared, from its source."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import pandas as pd

from artifacts import layout
from pipeline.config import Parameters
from pipeline.images import Split
from pipeline.tasks import TaskCard, load_task


@dataclass(frozen=True)
class TaskSize:
    """Size of a task.

    counts: number of images per split.
    image_size: height and width; ``None`` if not known before the task is prepared.
    download_bytes: size of the download; ``None`` if the source is local.
    """

    counts: Mapping[Split, int]
    image_size: tuple[int, int] | None
    download_bytes: int | None

    @property
    def packed_bytes(self) -> int | None:
        """Return the bytes of all splits as packed arrays; ``None`` if the image size is not known."""
        return self.image_size and 3 * self.image_size[0] * self.image_size[1] * sum(self.counts.values())


def task_size(params: Parameters, task: str) -> TaskSize | None:
    """Return a task's size from its card, else from its source and the parameters; ``None`` if neither has it.

    Raises:
        UserError: the card is damaged, or the task is unknown.
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
    """Return a table of the tasks' sources: images of train, val (0: cut from train) and test, and their size.

    The column megabytes is the approximate download; 0 if the images are generated locally.
    """
    with files("pipeline").joinpath("definitions/task_sizes.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, index_col="task").fillna(0)
