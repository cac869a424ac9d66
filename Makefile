.DEFAULT_GOAL := help
.PHONY: help setup demo up down status test test-fast check format docs bench clean

# Bytecode is compiled once, by scripts/setup and the first import; never recompiled at each start.
unexport PYTHONDONTWRITEBYTECODE

PYTHON := .venv/bin/python
# Where nothing is set up yet, this Python says so, and stops what an earlier set-up left running.
SANDBOX := $(or $(wildcard $(PYTHON)),PYTHONPATH=sandbox python3) -m millrace_sandbox
DBT := .venv/bin/dbt
DBT_FLAGS := --project-dir dbt_project --profiles-dir .

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing: Debian packages, uv, the locked environment
	@scripts/setup

demo: ## show the main job, through Airflow; TARGET=redshift, SOURCE=mysql: with those
	@scripts/setup $(filter redshift,$(TARGET)) $(filter mysql,$(SOURCE))
	@$(PYTHON) -m millrace_sandbox demo $(if $(RESPONSES),--responses $(RESPONSES)) $(if $(USERS),--users $(USERS))

up: ## start MariaDB, S3, Google Sheets and Airflow, with what they held before
	@scripts/setup $(filter redshift,$(TARGET)) $(filter mysql,$(SOURCE))
	@$(PYTHON) -m millrace_sandbox up

down: ## stop them; the data stays
	@$(SANDBOX) down

status: ## say what runs
	@$(SANDBOX) status

test: ## all tests; COVERAGE=1: and which lines they ran
	@scripts/setup redshift mysql
	@.venv/bin/pytest -n 3 --dist loadscope --no-loadscope-reorder $(if $(COVERAGE),--cov --cov-report=term --cov-report=html)

test-fast: setup ## the tests that start neither Airflow nor a service
	@.venv/bin/pytest -m "not service and not airflow and not e2e"

check: ## style, types, SQL, declarations
	@scripts/setup redshift
	@scripts/check

format: setup ## let the formatters write
	@.venv/bin/ruff check --fix --quiet; .venv/bin/ruff format

docs: setup ## write the dbt docs to dbt_project/target
	@$(DBT) docs generate $(DBT_FLAGS)

bench: ## measure Millrace beside what users would pick instead; ROWS=200000: a quick look
	@scripts/setup redshift
	@$(PYTHON) -m benchmarks all $(if $(ROWS),--rows $(ROWS))

clean: down ## remove the sandbox with all its data
	@rm -rf .sandbox dbt_project/target dbt_project/logs
