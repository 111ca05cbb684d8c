"""Fine-tuning: the loop and its parts."""

from pipeline.training.batches import count_images
from pipeline.training.curve import StepRecord, write_curve
from pipeline.training.loop import finetune
from pipeline.training.plan import Plan, TrainingData
from pipeline.training.processes import Processes, joined
from pipeline.training.regularisers import regulariser
from pipeline.training.resume import ResumeFile, resume_key

__all__ = [
    "Plan",
    "Processes",
    "ResumeFile",
    "StepRecord",
    "TrainingData",
    "count_images",
    "finetune",
    "joined",
    "regulariser",
    "resume_key",
    "write_curve",
]
