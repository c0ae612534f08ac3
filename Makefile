# Every target makes the environment it needs; VENV=/some/where puts it elsewhere.
VENV ?= .venv
PYTHON ?= python3
PYTEST_ARGS ?=
FUZZ_ARGS ?=
CLAIM_ARGS ?=
BIN := $(VENV)/bin
CORE := $(VENV)/.core
DEV := $(VENV)/.dev
PYTHONS ?= 3.11 3.12 3.13
OLDEST := $(abspath $(VENV)-oldest)
OLDEST_PYTHON ?= python3.11

.PHONY: study claim test test-pythons test-short test-oldest test-qemu lint fuzz bench notebooks figures docs clean

study: $(CORE)
	$(BIN)/migkit study

# Runs stock QEMU on this machine; CLAIM_ARGS="--qemu-root FOLDER" adds a version that was unpacked.
claim: $(CORE)
	$(BIN)/pip install -q -e '.[qemu]'
	$(BIN)/migkit claim $(CLAIM_ARGS)

# needs SALib beside the core
figures: $(DEV)
	$(BIN)/migkit figures

# The kernels are tested three times: compiled, as plain Python, and compiled with index checks.
# Index checks need a cache of their own: Numba does not key its cache on them.
test: lint
	$(BIN)/python tests/compile_engines.py
	$(BIN)/pytest $(PYTEST_ARGS)
	NUMBA_DISABLE_JIT=1 $(BIN)/pytest -m nojit $(PYTEST_ARGS)
	cache=$$(mktemp -d) && export NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=$$cache && \
	$(BIN)/python tests/compile_engines.py && $(BIN)/pytest -m nojit $(PYTEST_ARGS); \
	status=$$?; rm -rf "$$cache"; exit $$status
	$(MAKE) test-pythons

# The tests marked short, on each other version of Python that is installed, in an environment each. To run it finds out
# whether it is installed: pyenv has a command for versions that are not active.
test-pythons: $(DEV)
	own=$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	for version in $(PYTHONS); do \
	    if [ $$version = $$own ]; then continue; fi; \
	    if ! python$$version -c '' 2> /dev/null; then echo "Python $$version is not installed: not tested."; continue; fi; \
	    $(MAKE) test-short VENV=$(VENV)-$$version PYTHON=python$$version || exit 1; \
	done

test-short: $(DEV)
	$(BIN)/pytest -m short $(PYTEST_ARGS)

# The tests with each dependency that pyproject.toml names at its lower bound, on the lowest version of Python. The Numba
# cache is its own: two versions of Numba overwrite the index of each other.
test-oldest: $(OLDEST)/.dev
	export NUMBA_CACHE_DIR=$(OLDEST)/numba && \
	$(OLDEST)/bin/python tests/compile_engines.py && $(OLDEST)/bin/pytest $(PYTEST_ARGS)

# The bounds are constraints: installation fails where they do not fit each other, and takes no later version. uv, because
# pip needs minutes.
$(OLDEST)/.dev: pyproject.toml
	$(OLDEST_PYTHON) -m venv --clear $(OLDEST)
	grep -oE '"[A-Za-z0-9._-]+(\[[a-z]+\])?>=[0-9.]+"' $< | sed -E 's/"|\[[a-z]+\]//g; s/>=/==/' > $(OLDEST)/bounds.txt
	$(OLDEST)/bin/pip install -q uv
	$(OLDEST)/bin/uv pip install -q --python $(OLDEST)/bin/python \
	    -c $(OLDEST)/bounds.txt -b $(OLDEST)/bounds.txt -e '.[dev]'
	touch $@

# Against the qemu-system-x86_64 of this machine; skipped, with the reason, where there is none.
test-qemu: $(DEV)
	$(BIN)/pytest -m qemu -rs $(PYTEST_ARGS)

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
	rm -rf .venv .venv-* build dist docs/_build docs/generated docs/notebooks docs/jupyter_execute .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache .numba_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
