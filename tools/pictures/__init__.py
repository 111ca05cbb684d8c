"""Pictures of the project: its packages, drawn from their imports, and its stages, drawn from dvc.yaml."""
