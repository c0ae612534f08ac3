# Every target makes the environment it needs; VENV=/some/where puts it elsewhere.
VENV ?= .venv
PYTHON ?= python3
PYTEST_ARGS ?=
FUZZ_ARGS ?=
BIN := $(VENV)/bin
CORE := $(VENV)/.core
DEV := $(VENV)/.dev

.PHONY: study test lint fuzz bench notebooks figures docs clean

study: $(CORE)
	$(BIN)/migkit study

# needs SALib beside the core
figures: $(DEV)
	$(BIN)/migkit figures

# The kernels are tested three times: compiled, as plain Python, and compiled with index checks.
# Index checks need a cache of their own: Numba does not key its cache on them.
test: lint
	$(BIN)/pytest $(PYTEST_ARGS)
	NUMBA_DISABLE_JIT=1 $(BIN)/pytest -m nojit $(PYTEST_ARGS)
	cache=$$(mktemp -d) && NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=$$cache $(BIN)/pytest -m nojit $(PYTEST_ARGS); \
	status=$$?; rm -rf "$$cache"; exit $$status

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

# A new seed each time, which it prints; FUZZ_ARGS="--seed 3 --first 812 --cases 1" runs one case again.
fuzz: $(DEV)
	PYTHONPATH=. $(BIN)/python -W error tests/fuzz.py $(FUZZ_ARGS)

bench: $(DEV)
	$(BIN)/pytest -o addopts="--strict-markers --strict-config" --benchmark-only tests/benchmarks $(PYTEST_ARGS)

notebooks: $(DEV)
	$(BIN)/python notebooks/execute.py

# Warnings are errors: a broken reference or docstring fails.
docs: $(DEV)
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(CORE): pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q -e .
	touch $@

$(DEV): pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q -e '.[dev]'
	touch $(CORE) $@

clean:
	rm -rf .venv build dist docs/_build docs/generated docs/notebooks docs/jupyter_execute .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache .numba_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
