"""The parts of a recipe: the trained parameters and the space of training."""

from pipeline.paradigms.registry import Registry
from pipeline.paradigms.selections import select, selection
from pipeline.paradigms.trainable import TrainableEncoder, make_trainable

__all__ = ["Registry", "TrainableEncoder", "make_trainable", "select", "selection"]
