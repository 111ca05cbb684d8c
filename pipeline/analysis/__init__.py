"""Analyses: disentanglement, interference, geometry of task vectors, incremental learning, NTK localisation."""
