# One virtual environment, made from a lock of versions and hashes. Works with GNU make 3.81 and later.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
JOBS ?= logical
UPGRADE ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq
INSTALL := $(PIP) install --only-binary :all: --require-hashes
INSTALL_PROJECT := $(PIP) install --no-deps --no-build-isolation -e .
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header $(if $(UPGRADE),--upgrade)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo run test test-examples mutants check bench bench-peers soak lock clean distclean

help: ## Say what can be made
	@echo "make TARGET [PYTHON=python3.13] [VENV=.venv-3.13] [JOBS=2] [ARGS='-k lease']"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.run ## Show the whole loop on sample data, no account needed
	@$(BIN)/taskqueue-mcp demo $(ARGS)

run: $(VENV)/.run ## Serve the queue on this machine, with a worker beside it that can read the sample inventory
	@test -e demo-output/inventory.db || { mkdir -p demo-output && $(BIN)/python -c \
		'from pathlib import Path; from taskqueue_mcp.sample import build; build(Path("demo-output/inventory.db"))'; }
	@TASKQUEUE_WORKER__SOURCES__INVENTORY="$${TASKQUEUE_WORKER__SOURCES__INVENTORY:-demo-output/inventory.db}" \
		$(BIN)/taskqueue-mcp serve --with-worker $(ARGS)

test: $(VENV)/.dev ## Run the tests, on all processors (JOBS=0 for one after the other)
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal --inline-snapshot=disable --ignore=tests/examples $(ARGS)

test-examples: $(VENV)/.examples ## Run the tests of examples/ (downloads the model vendors' clients, some 100 MB)
	@TASKQUEUE_CI=1 $(BIN)/python -m pytest -q tests/examples $(ARGS)

mutants: $(VENV)/.dev ## Break the product on purpose, in one place at a time, and see that a test notices
	@$(BIN)/python -m tests.mutants $(ARGS)

check: $(VENV)/.dev ## Check format, lint, types and the direction of imports
	@broken=0; \
	$(BIN)/ruff format --check --quiet . && echo "format: as ruff has it" || broken=1; \
	$(BIN)/ruff check --quiet . && echo "lint: nothing found" || broken=1; \
	$(BIN)/mypy || broken=1; \
	$(BIN)/lint-imports --no-logo || broken=1; \
	exit $$broken

bench: $(VENV)/.dev ## Measure throughput and latency on this machine
	@$(BIN)/python -m benchmarks $(ARGS)

bench-peers: $(VENV)/.dev ## Measure other queues beside ours (installs them into .venv-peers and .node-peers, some 2 GB)
	@$(BIN)/python -m benchmarks peers $(ARGS)

soak: $(VENV)/.dev ## Run the long tests: crashes, power cuts, clock jumps, full disks (ARGS="--times 0.1" for a tenth)
	@$(BIN)/python -m pytest -q --soak --timeout=0 --ignore=tests/examples $(ARGS)

lock: $(VENV)/.dev ## Remake the locks from pyproject.toml (UPGRADE=1 takes the newest versions)
	@$(COMPILE) pyproject.toml --extra claude requirements/build.in -o requirements/run.txt
	@$(COMPILE) pyproject.toml --extra all --group dev requirements/build.in requirements/dev.in \
		-c requirements/run.txt -o requirements/dev.txt
	@$(COMPILE) pyproject.toml --extra examples -c requirements/dev.txt -o requirements/examples.txt
	@$(COMPILE) requirements/peers.in -o requirements/peers.txt
	@for lock in requirements/*.txt; do \
		{ echo "# Made by 'make lock': names, versions and hashes."; grep -v -e '://' -e '^#' -e '^--' $$lock; } \
			> $$lock.new && mv $$lock.new $$lock || exit 1; \
		echo "$$lock: $$(grep -c == $$lock) packages"; \
	done

clean: ## Remove caches, builds and what the demo made
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage build dist demo-output
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## Remove the virtual environments too
	@rm -rf .venv .venv-* .node-peers .ci/node/node_modules

# A stamp a lock: a second call installs nothing until the lock or the project's own metadata changes.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed, and '$(PYTHON)' is not. Name one that is: make PYTHON=python3.12 ..." >&2; \
		exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@printf '*\n' > $(VENV)/.gitignore

$(VENV)/.run: requirements/run.txt pyproject.toml | $(BIN)/python
	@echo "installing requirements/run.txt"
	@$(INSTALL) -r requirements/run.txt
	@$(INSTALL_PROJECT)
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo "installing requirements/dev.txt"
	@$(INSTALL) -r requirements/dev.txt
	@$(INSTALL_PROJECT)
	@touch $(VENV)/.run $@

$(VENV)/.examples: requirements/examples.txt $(VENV)/.dev
	@echo "installing requirements/examples.txt"
	@$(INSTALL) -r requirements/examples.txt
	@touch $@
