# Each target is one line to the tool; `make` alone lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
CLI := $(BIN)/opencode-monitor

# Python keeps its bytecode, also where it was told not to: hundreds of processes that tests start would compile the program anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help install run test coverage test-full lint format lock docs golden bench bench-start bench-queries bench-migrate bench-cost bench-carried bench-judgement clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(VENV)/tested ## Make the virtual environment with all that tests and checks need, in the tested versions

# What is needed to run alone is a third of it, and is there three times as fast.
$(VENV)/installed: pyproject.toml requirements-dev.lock
	$(PYTHON) -m venv $(VENV)
	$(PIP) -c requirements-dev.lock hatchling editables
	$(PIP) -c requirements-dev.lock --no-build-isolation -e .
	@touch $@

$(VENV)/tested: $(VENV)/installed
	$(PIP) -r requirements-dev.lock
	@touch $@

run: $(VENV)/installed ## Import OpenCode's data, or a sample where there is none, and show what it cost
	@if $(CLI) import --dry-run >/dev/null 2>&1; then $(CLI) import && $(CLI) daily && $(CLI) models; else $(CLI) demo; fi

test: install ## Run all tests, on DuckDB and PostgreSQL
	$(BIN)/python -m pytest -n 3 --dist worksteal

coverage: install ## Run all tests and tell what they do not reach; less than 90 % fails
	$(BIN)/python -m pytest -n 3 --dist worksteal --cov --cov-report=term

test-full: install ## At full size, what `make test` runs small: migrations of 200,000 parts, kills, bad records, all examples of properties
	$(BIN)/python -m pytest --full -rP -m sized

lint: install ## Check style, types and imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## Put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## Write requirements-dev.lock anew from pyproject.toml
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet 'pip>=25.1'
	$(VENV)-lock/bin/python -m pip install --quiet --group dev 'hatchling>=1.27' editables '.[mcp,postgres]'
	{ echo '# The versions that the tests ran with; `make lock` writes this file from pyproject.toml.'; $(VENV)-lock/bin/python -m pip freeze --exclude opencode-monitor-analytics; } > requirements-dev.lock
	rm -rf $(VENV)-lock

docs: install ## Draw the tables anew: docs/schema.svg, and the diagram in docs/schema.md
	$(BIN)/python docs/erd.py

golden: install ## Write the golden database of each revision that has none: tests/golden/<revision>.duckdb
	$(BIN)/python tests/golden/make_golden.py

bench: install ## Measure import and report beside their references
	$(BIN)/python benchmarks/ingest.py
	$(BIN)/python benchmarks/report.py

bench-start: install ## Measure the CPU time of every --help and of the status line
	$(BIN)/python benchmarks/start.py

bench-queries: install ## Measure the questions of docs/queries.md on the old schema and on the new one
	$(BIN)/python benchmarks/queries.py

bench-carried: install ## Measure carried cost beside a bare sum over the same parts
	$(BIN)/python benchmarks/carried.py

bench-migrate: install ## Measure the migration up and down beside a bare copy
	$(BIN)/python benchmarks/migrate.py

bench-cost: install ## Measure pricing and metrics beside bare sums over the same rows
	$(BIN)/python benchmarks/cost.py

bench-judgement: install ## Measure what anomalies and forecast find on made-up histories whose truth is known
	$(BIN)/python benchmarks/judgement.py

clean: ## Remove what the targets made
	rm -rf $(VENV) .coverage* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist htmlcov
