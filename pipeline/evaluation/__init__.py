"""Everything is an edit: accuracies of edited models, the coefficient search, and their intervals."""

from pipeline.evaluation.correctness import read_correct, write_correct
from pipeline.evaluation.prediction import Benchmark, Predictions, predict
from pipeline.evaluation.search import (
    AdditionSearch,
    NegationSearch,
    search_addition,
    search_negation,
    search_per_task,
)

__all__ = [
    "AdditionSearch",
    "Benchmark",
    "NegationSearch",
    "Predictions",
    "predict",
    "read_correct",
    "search_addition",
    "search_negation",
    "search_per_task",
    "write_correct",
]
