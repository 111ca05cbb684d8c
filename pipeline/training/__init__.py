"""Fine-tuning."""

from pipeline.training.curve import write_curve
from pipeline.training.loop import StepRecord, finetune, learning_rate

__all__ = ["StepRecord", "finetune", "learning_rate", "write_curve"]
