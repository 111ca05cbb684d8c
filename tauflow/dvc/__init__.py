"""DVC: compose ``params.yaml``, run ``dvc repro``, read, write and guard ``dvc.lock``, check results against it."""
