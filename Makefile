# `make repro` and `make test` need only Python 3.11+, git and make; everything else comes from requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --disable-pip-version-check

.PHONY: repro test lint docs pictures setup lock mini-sources mini-clip sweep readme

setup: .venv/.installed

# pip fetches the lock's uv, which installs the rest in half of pip's time; where it cannot reach the index, pip does.
# A set-up that stops half-way leaves no .installed, and the next one begins afresh.
.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tauflow needs Python 3.11 or newer, but $(PYTHON) is " + sys.version.split()[0])'
	@echo "Setting up .venv from requirements.lock (about 6 GB, a few minutes the first time)"
	@test -e $@ || rm -rf .venv
	@rm -f $@
	@$(PYTHON) -m venv .venv
	@sed -n '/^uv==/,/# via/p' requirements.lock | $(PIP) --quiet --require-hashes --requirement /dev/stdin
	@trap 'exit 130' INT; \
		UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(BIN)/pip config get global.index-url 2>/dev/null)}}" \
		$(BIN)/uv pip install --python .venv --system-certs --compile-bytecode --require-hashes --requirement requirements.lock \
		|| { echo "uv could not install the lock: pip tries"; $(PIP) --require-hashes --requirement requirements.lock; }
	@$(PIP) --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# The main job: the whole DAG of dvc.yaml, then where to look.
repro: setup
	@$(BIN)/tauflow repro

# A file of tests per core at a time, each with one thread: two threads beside other work are slower than one.
test: setup
	@OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/pyright

# The site, from the Markdown files and the docstrings; a warning is an error. Needs no network.
docs: setup
	@rm -rf docs/reference/api docs/_build
	@$(BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky --quiet -c docs . docs/_build
	@echo "Site: docs/_build/index.html"

# Draw the pictures of packages and stages again, from the imports and dvc.yaml.
pictures: setup
	@$(BIN)/python -m tools.pictures

# Resolve the dependencies anew; names no index host.
lock: setup
	@$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links --group dev --group docs --group sources --extra cluster --extra huggingface pyproject.toml -o requirements.lock

# Build data/mini/ again from the original packages (downloads them).
mini-sources: setup
	@$(BIN)/python -m tools.build_mini_sources --cache .tauflow/packages

# Train mini-clip's weights again from the committed corpus (up to 40 minutes on 2 cores).
mini-clip: setup
	@$(BIN)/python -m tools.pretrain_mini_clip --out data/mini/mini-clip.safetensors

# Try what is missing of tools/sweeps/mini.yaml, on val, and show what it chooses (half an hour from nothing).
sweep: setup
	@$(BIN)/python -m tools.sweep --suite mini

# Copy the results table of the last `make repro` into the README.
readme: setup
	@$(BIN)/python -m tools.update_readme
