"""DVC's files: composing ``params.yaml``, reading ``dvc.lock``."""
