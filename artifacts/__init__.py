"""The artifacts of a study: their paths, and how to read them. Below both stages and commands."""
