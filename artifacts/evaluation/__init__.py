"""Reading the inputs of evaluation: edit spaces over a recipe's task vectors, and benchmarks."""
