"""Disentanglement, interference, geometry of task vectors, NTK localisation."""
