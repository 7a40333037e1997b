# Every target makes the environment it needs: .venv, from pyproject.toml and constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo test test-kill lint bench clean

demo: $(INSTALLED)
	$(BIN)/ganlab run digits-demo --out sweeps/digits-demo

test: $(INSTALLED)
	$(BIN)/python -m pytest

test-kill: $(INSTALLED) ## the full version of the kill test: ten SIGKILLs of the whole process group
	$(BIN)/python -m pytest tests/integration/test_kill.py --kills 10

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)
	$(BIN)/python -m tests.benchmarks

# torch goes first, alone: pip then takes the build offered here (a CPU build where there is one) and leaves it in place.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv || { echo "make: $(PYTHON) has no venv: install it first (Debian: apt-get install python3-venv)"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv sweeps build *.egg-info
