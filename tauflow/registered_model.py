"""The code of a registered model: MLflow copies this file and the package `pipeline` beside it, and runs it to load it.

So it needs neither Tauflow's repository nor DVC, and no pickle. What it reads is written by
:mod:`tauflow.model_package`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from pipeline.editing import read_task_vector
from pipeline.editing.spaces import EditSpace, TangentSpace, WeightSpace
from pipeline.models import load_model_definition
from pipeline.models.encoders import load_image_encoder
from pipeline.models.heads import read_head


class EditedClip(PythonModel):
    """An edited image encoder with the heads of all tasks: classifies images as classes of one task."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the encoder, in tangent space also τ, and all heads."""
        config = context.model_config
        package = Path(context.artifacts["package"])
        device = torch.device(config["device"] or ("cuda" if torch.cuda.is_available() else "cpu"))
        encoder = load_image_encoder(load_model_definition(config["model"]), package / "image_encoder.safetensors")
        vector = package / "task_vector.safetensors"
        self._space: EditSpace
        if vector.exists():
            self._space = TangentSpace(encoder, [read_task_vector(vector)], device)
        else:
            self._space = WeightSpace(encoder, [], device)
        self._heads = {
            task: read_head(package / "heads" / f"{task}.safetensors").to(device) for task in config["tasks"]
        }
        self._batch_size = config["batch_size"]

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]  MLflow's own examples narrow it as well
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """The most probable class of every image, and the probabilities of all.

        Args:
            context: not used.
            model_input: uint8 images, ``[n, 3, height, width]``, RGB.
            params: ``task`` says whose classes.

        Raises:
            MlflowException: the task is unknown, there are no images, or the edit is so large that embeddings overflow.
        """
        task = (params or {}).get("task", "")
        if task not in self._heads:
            raise MlflowException.invalid_parameter_value(
                f"params: task {task!r} is unknown; legal are {', '.join(self._heads)}"
            )
        if not len(model_input):
            raise MlflowException.invalid_parameter_value("there are no images")
        head = self._heads[task]
        batches = torch.from_numpy(np.ascontiguousarray(model_input)).split(self._batch_size)
        embedded = self._space.embeddings(torch.ones(1, self._space.size), batches)
        logits = torch.cat([head.logits(embeddings) for _, _, embeddings in embedded])
        if not logits.isfinite().all():
            raise MlflowException.invalid_parameter_value("embeddings overflow; register an edit of smaller α")
        probabilities = logits.double().softmax(dim=1).cpu().numpy()
        best = probabilities.argmax(axis=1)
        return pd.DataFrame(
            {
                "class": [head.classes[index] for index in best],
                "index": best,
                "probability": probabilities.max(axis=1),
                "probabilities": probabilities.tolist(),
            }
        )


set_model(EditedClip())
