# `make demo` and `make test` work in a fresh clone: each makes .venv when it is missing and installs what it needs, once.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: demo test check bench site dist help

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/installed-train ## Run the whole loop on a model of a million parameters; a second time it only shows what is there. JUDGE=20: then judge 20 pairs
	$(BIN)/palate demo
ifdef JUDGE
	$(BIN)/palate judge runs/kitchen --pairs $(JUDGE)
endif

# Checks and tests run beside each other: the checks use one core. Tests start some hundred processes. Without bytecode on the disk each of
# them would compile all of Palate anew. Many wait for a browser, a database or another process, so one more runs than there are cores.
test: .venv/installed-dev ## Check the code and run every test
	@$(MAKE) --no-print-directory --jobs=2 check tests

.PHONY: tests
tests: .venv/installed-dev
	env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder \
		-n $$($(BIN)/python -c 'import os; print(min((os.cpu_count() or 1) + 1, 4))')

check: .venv/installed-dev ## Lint, types, import layers
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed-dev ## Run the demo for four seeds and print the table of docs/benchmarks.md; benchmarks/ has more
	$(BIN)/python -m benchmarks

site: .venv/installed-dev ## Build the documentation site into site/
	$(BIN)/zensical build --strict
	$(BIN)/python docs/markdown_pages.py

dist: .venv/installed-dev ## Build wheel and sdist into dist/, and try them in a new environment, which takes minutes
	$(BIN)/python -m tests.distribution

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed-train: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) -e '.[train,label]'
	@touch $@

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) -e '.[train,label,dev]'
	@touch $@ .venv/installed-train
