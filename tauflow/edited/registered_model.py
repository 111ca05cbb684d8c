"""Code of a registered model: MLflow copies this file and the package `pipeline`, and runs it to load the model.

So the model needs neither Tauflow's repository nor DVC nor pickle. :mod:`tauflow.edited.package` writes the files
that it reads.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from pipeline.config import EvaluationSettings
from pipeline.editing import read_task_vector
from pipeline.editing.spaces import EditSpace, TangentSpace, WeightSpace
from pipeline.models import load_model_definition
from pipeline.models.encoders import load_image_encoder
from pipeline.models.heads import read_head


class EditedClip(PythonModel):
    """An edited image encoder with the heads of all tasks: classifies images as classes of one task."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the encoder, τ in tangent space, and all heads."""
        config = context.model_config
        package = Path(context.artifacts["package"])
        device = torch.device(config["device"] or ("cuda" if torch.cuda.is_available() else "cpu"))
        encoder = load_image_encoder(load_model_definition(config["model"]), package / "image_encoder.safetensors")
        settings = EvaluationSettings(batch_size=config["batch_size"], directions=1, edits=1)
        vector = package / "task_vector.safetensors"
        self._space: EditSpace
        if vector.exists():
            self._space = TangentSpace(encoder, [read_task_vector(vector)], device, settings)
        else:
            self._space = WeightSpace(encoder, [], device, settings)
        self._heads = {
            task: read_head(package / "heads" / f"{task}.safetensors").to(device) for task in config["tasks"]
        }

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]  MLflow's own examples narrow it as well
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return the most probable class of every image, and the probabilities of all classes.

        Args:
            context: unused.
            model_input: uint8 images, ``[n, 3, height, width]``, RGB.
            params: ``task`` names the task whose classes are predicted.

        Raises:
            MlflowException: the task is unknown, no images are given, or an edit is so large that embeddings overflow.
        """
        task = (params or {}).get("task", "")
        if task not in self._heads:
            raise MlflowException.invalid_parameter_value(
                f"params: unknown task {task!r}; choose from {', '.join(self._heads)}"
            )
        if not len(model_input):
            raise MlflowException.invalid_parameter_value("there are no images")
        head = self._heads[task]
        batches = torch.from_numpy(np.ascontiguousarray(model_input)).split(self._space.batch_size)
        embedded = self._space.embeddings(torch.ones(1, self._space.size), batches)
        embeddings = torch.cat([batch for _, _, batch in embedded])
        if not torch.linalg.vector_norm(embeddings, dim=1).isfinite().all():  # an infinite length leaves no direction
            raise MlflowException.invalid_parameter_value("embeddings overflow; register an edit of smaller α")
        probabilities = head.logits(embeddings).double().softmax(dim=1).cpu().numpy()
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
