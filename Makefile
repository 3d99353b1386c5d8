# Every target sets up what it needs; `make test` is all a fresh clone has to run.
# Variables: PYTHON (3.12 or newer), PYTEST_WORKERS, PYTEST_ARGS, SPHINXOPTS.

PYTHON ?= python3
PYTEST_WORKERS ?= 2
PYTEST_ARGS ?=
SPHINXOPTS ?= -W --keep-going

BIN := .venv/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SETUP_FILES := pyproject.toml constraints.txt

# Figures are drawn to memory: no display needed.
export MPLBACKEND ?= Agg

.PHONY: help quickstart lint test test-slow docs bench clean

help:
	@echo "make quickstart   install the package alone and run examples/quickstart.py"
	@echo "make test         lint, then the fast tests"
	@echo "make test-slow    the statistical tests (recovery, coverage, calibration)"
	@echo "make lint         ruff, import contracts, mypy"
	@echo "make docs         build the documentation into docs/_build/html"
	@echo "make bench        run the benchmarks and write docs/benchmarks.md (about 70 minutes)"
	@echo "make clean        remove what builds and tests have written (.venv stays)"

# --- set-up: one stamp per set of dependencies -----------------------------------------------

.venv/.stamp-core: $(SETUP_FILES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 12))' || { \
	  echo "bayes_moe needs Python 3.12 or newer, and '$(PYTHON)' is not (or does not run)." >&2; \
	  echo "Install one and name it: make PYTHON=python3.12 <target>" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e .
	@touch $@

.venv/.stamp: .venv/.stamp-core
	$(INSTALL) -e ".[test]"
	@touch $@

.venv/.stamp-docs: .venv/.stamp-core
	$(INSTALL) -e ".[docs]"
	@touch $@

# --- targets ---------------------------------------------------------------------------------

quickstart: .venv/.stamp-core
	$(BIN)/python examples/quickstart.py

lint: .venv/.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# loadfile keeps a file's tests in one worker, so that its compiled graphs are made once.
test: lint
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

test-slow: .venv/.stamp
	$(BIN)/python -m pytest -m slow -n $(PYTEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

docs: .venv/.stamp-docs
	$(BIN)/python -m sphinx -b html $(SPHINXOPTS) docs docs/_build/html

bench: .venv/.stamp
	$(BIN)/python -m benchmarks --write

clean:
	rm -rf build dist docs/_build docs/generated docs/.jupyter_cache
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
