# Every target does its own set-up: a fresh machine needs Python 3.11+ and make only.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= runs/quickstart

.PHONY: help setup quickstart test check docs bench clean
.DEFAULT_GOAL := help

help:
	@echo "make quickstart   the controlled study on emoji-pairs, then a report (about 5 minutes)"
	@echo "make test         the test suite"
	@echo "make check        what CI runs: format, lint, types, tests"
	@echo "make docs         the documentation as a site in site/, to be opened from disk"
	@echo "make bench        every benchmark (an idle machine, please)"
	@echo "make setup        the environment in .venv, pinned by constraints.txt"

# The stamp's name holds no version: it is as old as the last change of what it was made from.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "error: Python 3.11 or newer is needed, got " + sys.version.split()[0] + "; set PYTHON=python3.11")'
	@echo "Setting up $(VENV): some minutes and about 6 GB the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(VENV)/.ready

quickstart: setup
	@$(BIN)/sempairs study run quickstart --out $(OUT)

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --dist worksteal

docs: setup
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "site/index.html"

bench: setup
	@for script in benchmarks/[a-z]*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) runs build dist site
