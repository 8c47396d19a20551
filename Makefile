# What a newcomer needs are `make demo` and `make test`. Each makes the virtual environment by itself.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench bench-quick bench-peers torture pages clean

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

# Half an hour, and some 20 GB of disk meanwhile. See docs/performance.md.
bench: .venv/.installed-bench
	$(BIN)/python -m bench

# Every row in a minute, at sizes that give no figures.
bench-quick: .venv/.installed
	$(BIN)/python -m bench --quick

# Beside NATS, Redis (redis-server is the system's) and RCDB; what is not there is skipped, and said.
bench-peers: .venv/.installed-bench-peers
	$(BIN)/python -m bench.peers

# The long tier, about an hour: kills under load, hostile disks and bytes, planted bugs. See docs/reliability.md.
torture: .venv/.installed
	$(BIN)/python -m tests.torture

pages: .venv/.installed
	$(BIN)/python tools/pages.py write

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

.venv/.installed-%: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,$*]'
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
