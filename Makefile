.DEFAULT_GOAL := help
.PHONY: help setup demo up down status test test-fast check format docs clean

# Bytecode is compiled once, by scripts/setup and the first import; never recompiled at each start.
unexport PYTHONDONTWRITEBYTECODE

PYTHON := .venv/bin/python
DBT := .venv/bin/dbt
DBT_FLAGS := --project-dir dbt_project --profiles-dir .

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing: Debian packages, uv, the locked environment
	@scripts/setup

demo: setup ## show the main job: MySQL → S3 → DuckDB → dbt → nps_summary, through Airflow
	@$(PYTHON) -m sandbox demo $(if $(RESPONSES),--responses $(RESPONSES)) $(if $(USERS),--users $(USERS))

up: setup ## start MariaDB, S3 and Airflow, with what they held before
	@$(PYTHON) -m sandbox up

down: ## stop them; the data stays
	@$(PYTHON) -m sandbox down

status: ## say what runs
	@$(PYTHON) -m sandbox status

test: setup ## all tests
	@.venv/bin/pytest

test-fast: setup ## the tests that start neither Airflow nor a service
	@.venv/bin/pytest -m "not service and not airflow and not e2e"

check: setup ## style, types, SQL, declarations
	@scripts/check

format: setup ## let the formatters write
	@.venv/bin/ruff check --fix --quiet; .venv/bin/ruff format

docs: setup ## write the dbt docs to dbt_project/target
	@$(DBT) docs generate $(DBT_FLAGS)

clean: down ## remove the sandbox with all its data
	@rm -rf .sandbox dbt_project/target dbt_project/logs
