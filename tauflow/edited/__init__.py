"""Evaluate, register and export an edited model; inspect its task vectors."""
