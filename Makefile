# `make repro` and `make test` need only Python 3.11+, git and make; everything else comes from requirements.lock.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: repro test lint setup lock mini-sources mini-clip readme

setup: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tauflow needs Python 3.11 or newer, but $(PYTHON) is " + sys.version.split()[0])'
	@echo "Setting up .venv from requirements.lock (about 6 GB, a few minutes the first time)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --disable-pip-version-check --require-hashes --requirement requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# The main job: the whole DAG of dvc.yaml, then where to look.
repro: setup
	@$(BIN)/tauflow repro

test: setup
	@$(BIN)/pytest

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/pyright

# Resolve the dependencies anew; names no index host.
lock: setup
	@$(BIN)/pip install --quiet uv
	@$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links --group dev --group sources pyproject.toml -o requirements.lock

# Build data/mini/ again from the original packages (downloads them).
mini-sources: setup
	@$(BIN)/python -m tools.build_mini_sources --cache .tauflow/packages

# Train mini-clip's weights again from the committed corpus (up to 40 minutes on 2 cores).
mini-clip: setup
	@$(BIN)/python -m tools.pretrain_mini_clip --out data/mini/mini-clip.safetensors

# Copy the results table of the last `make repro` into the README.
readme: setup
	@$(BIN)/python -m tools.update_readme
