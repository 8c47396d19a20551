# What a newcomer needs are `make demo` and `make test`. Each makes the virtual environment by itself.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench torture pages clean

demo: .venv/.installed
	$(BIN)/storage-service demo

test: .venv/.installed
	$(BIN)/python -m pytest

# The inner loop: under a minute.
check: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/pages.py check
	$(BIN)/python -m pytest -q tests/unit tests/flow tests/architecture

bench: .venv/.installed
	$(BIN)/python -m bench

# The long tier, about an hour: kills under load, hostile disks and bytes, planted bugs. See docs/reliability.md.
torture: .venv/.installed
	$(BIN)/python -m tests.torture

pages: .venv/.installed
	$(BIN)/python tools/pages.py write

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
