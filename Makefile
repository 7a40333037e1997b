# Every target makes the environment it needs: .venv, from pyproject.toml and constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
DEVELOPERS := .venv/installed-for-developers
# What the tests run for real, by its Debian packages, and a library of Playwright; the last two for `make test-slurm` alone.
SYSTEM_PACKAGES := slurm-wlm munge iproute2 prometheus chromium libatomic1
FASHION := /usr/share/datasets/fashion-mnist
SLURM_PACKAGES := $(SYSTEM_PACKAGES) slurmdbd mariadb-server
# All tests on SLURM go to one process, and the longest tests go first (tests/conftest.py). Three processes on two cores:
# half of the time of two goes by waiting. `make test PROCESSES=2` where memory is short.
PROCESSES ?= 3
POOL = --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

.PHONY: install demo test test-fast test-exports test-slurm test-kill image-test coverage lint audit bench docs clean

install: $(INSTALLED) ## what users need, in .venv

# A processor without instructions for bfloat16 takes half the time in float32.
demo: $(INSTALLED) ## the published finding in minutes, on Fashion-MNIST's pictures; on digits where they are not
	@[ -d $(FASHION) ] \
	|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
	     && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends dataset-fashion-mnist; } \
	|| echo "make: Fashion-MNIST is missing, which root installs (on Debian: apt-get install dataset-fashion-mnist); digits take its place"
	if [ -d $(FASHION) ]; then sweep=fashion-demo; else sweep=digits-demo; fi; \
	float32=; $(BIN)/python -c 'import sys; from ganlab.models.precision import has_bfloat16; sys.exit(not has_bfloat16())' || float32='--set train.precision=float32'; \
	$(BIN)/ganlab run $$sweep --out sweeps/demo $$float32

test: $(DEVELOPERS)
	@$(call install,$(SYSTEM_PACKAGES))
	$(BIN)/python -m pytest $(POOL)

test-fast: PROCESSES = 2  # which wait for nothing
test-fast: $(DEVELOPERS) ## unit tests alone: they start no process
	$(BIN)/python -m pytest -m unit $(POOL)

test-slurm: $(DEVELOPERS) ## all tests on a real SLURM of three hosts: whatever can go wrong, and the accounting database
	@$(call install,$(SLURM_PACKAGES))
	$(BIN)/python -m pytest tests/slurm --slurm-full

test-exports: $(DEVELOPERS) ## every export opened by the tool that it is for; installs MLflow, W&B, TensorBoard, DuckDB, Croissant, RO-Crate
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[export,exports-dev]'
	$(BIN)/python -m pytest tests/exports

test-kill: $(DEVELOPERS) ## the full version of the kill test: ten SIGKILLs of the whole process group
	$(BIN)/python -m pytest tests/integration/test_kill.py --kills 10

image-test: ## the container image, built for real, with a sweep and the exporter run in it; needs no engine and no .venv
	$(PYTHON) tests/image.py

coverage: $(DEVELOPERS) ## lines that the unit tests run, in this process and in those they start
	$(BIN)/python -m pytest $(POOL) --ignore tests/integration --ignore tests/slurm --cov --cov-report term:skip-covered

lint: $(DEVELOPERS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: $(DEVELOPERS) ## licences of what is installed; known vulnerabilities of the pinned versions, by PyPI's database: strict, or none is "clean" too
	$(BIN)/pip-licenses --order license
	$(BIN)/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip --progress-spinner off

bench: $(DEVELOPERS)
	$(BIN)/python -m tests.benchmarks

docs: $(DEVELOPERS) ## the documentation as a site; the variable keeps Material from advertising its successor
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "open build/site/index.html, or: $(BIN)/python -m http.server --bind 127.0.0.1 --directory build/site"

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
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
	     && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv; } \
	|| { echo "make: $(PYTHON) with venv is missing, which root installs (on Debian: apt-get install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(DEVELOPERS): $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv sweeps build *.egg-info
