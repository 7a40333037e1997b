# Every target makes the environment it needs: .venv, from pyproject.toml and constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
# What the tests run for real, by its Debian packages; the last two for `make test-slurm` alone.
SYSTEM_PACKAGES := slurm-wlm munge iproute2 prometheus chromium
SLURM_PACKAGES := $(SYSTEM_PACKAGES) slurmdbd mariadb-server
# Whole runs go one at a time: each fills the machine, and Ray gives a node half a minute to start.
WHOLE_RUNS := integration slurm

.PHONY: demo test test-slurm test-kill lint bench clean

demo: $(INSTALLED)
	$(BIN)/ganlab run digits-demo --out sweeps/digits-demo

test: $(INSTALLED)
	@$(call install,$(SYSTEM_PACKAGES))
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(patsubst %,--ignore tests/%,$(WHOLE_RUNS))
	$(BIN)/python -m pytest $(addprefix tests/,$(WHOLE_RUNS))

test-slurm: $(INSTALLED) ## all tests on a real SLURM of three hosts: whatever can go wrong, and the accounting database
	@$(call install,$(SLURM_PACKAGES))
	$(BIN)/python -m pytest tests/slurm --slurm-full

test-kill: $(INSTALLED) ## the full version of the kill test: ten SIGKILLs of the whole process group
	$(BIN)/python -m pytest tests/integration/test_kill.py --kills 10

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)
	$(BIN)/python -m tests.benchmarks

# Root on Debian installs what is missing of $(1); anyone else is told, and tests that need it are skipped with the reason.
define install
missing=$$(for package in $(1); do dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || printf '%s ' $$package; done); \
if [ -z "$$missing" ]; then :; \
elif [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
    echo "make: tests are skipped for want of $${missing}(on Debian, as root: apt-get install $${missing% })"; \
else \
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
fi
endef

# torch goes first, alone: pip then takes the build offered here (a CPU build where there is one) and leaves it in place.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv || { echo "make: $(PYTHON) has no venv: install it first (Debian: apt-get install python3-venv)"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv sweeps build *.egg-info
