"""Edited models: evaluate, classify, export, push and register them; import, inspect and merge task vectors."""
