.DEFAULT_GOAL := help
.PHONY: help setup demo up down status test test-e2e test-nightly test-standins test-fast test-image image faults mutants check format docs site bench clean

# Let Python keep bytecode: scripts/setup and the first import compile it once.
unexport PYTHONDONTWRITEBYTECODE

PYTHON := .venv/bin/python
# Without .venv, the system's Python runs the sandbox's command: it says that nothing is set up, and
# stops what an earlier set-up left running.
SANDBOX := $(or $(wildcard $(PYTHON)),PYTHONPATH=sandbox python3) -m millrace_sandbox
PYTEST := .venv/bin/pytest -n 4 --dist loadscope --no-loadscope-reorder --durations=20
# They take as long as all the others, and a scheduler that runs shows what no other test does.
E2E := airflow or sandbox
COVER := $(if $(COVERAGE),--cov --cov-report=term --cov-report=html)
DBT := .venv/bin/dbt
DBT_FLAGS := --project-dir dbt_project --profiles-dir .

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing: Debian packages, uv, the locked environment
	@scripts/setup

demo: ## show the main job, through Airflow; options: TARGET=redshift|bigquery, SOURCE=mysql
	@scripts/setup $(filter redshift bigquery,$(TARGET)) $(filter mysql,$(SOURCE))
	@$(PYTHON) -m millrace_sandbox demo $(if $(RESPONSES),--responses $(RESPONSES)) $(if $(USERS),--users $(USERS))

up: ## start MariaDB, S3, Google Sheets and Airflow, with what they held before
	@scripts/setup $(filter redshift bigquery,$(TARGET)) $(filter mysql,$(SOURCE))
	@$(PYTHON) -m millrace_sandbox up

down: ## stop these services; the data stays
	@$(SANDBOX) down

status: ## say what runs
	@$(SANDBOX) status

test: ## run the project's tests, on real services; COVERAGE=1 measures which lines they run
	@scripts/setup redshift bigquery mysql helm
	@$(PYTEST) -m "not ($(E2E) or image or nightly)" tests --ignore=tests/faults $(COVER)

test-e2e: ## run the end-to-end tests: the demo, and all else that starts an Airflow
	@scripts/setup redshift mysql api celery
	@$(PYTEST) -n 2 -m "($(E2E)) and not nightly" tests --ignore=tests/faults $(COVER) $(if $(COVERAGE),--cov-append)

test-nightly: ## run the tests that CI runs at night, as they take long
	@scripts/setup redshift bigquery mysql helm api celery
	@$(PYTEST) -n 2 -m nightly tests --ignore=tests/faults

test-standins: ## run the stand-ins' own tests; COVERAGE=1 adds the lines that they run
	@scripts/setup redshift
	@$(PYTEST) standins $(COVER) $(if $(COVERAGE),--cov-append)

test-fast: ## run the tests that start neither Airflow nor a service
	@scripts/setup helm
	@.venv/bin/pytest -m "not (service or image or nightly or $(E2E))"

image: ## build the container images without Docker, on Debian as root
	@scripts/setup image
	@scripts/image

test-image: image ## run the images: alone, all of docker-compose.yaml, and the pods of the chart
	@.venv/bin/pytest -m image tests

faults: ## interrupt the pipeline N=100 times, see that a retry repairs it; SEED=17 replays, RECORD=file
	@scripts/setup redshift mysql
	@FAULTS_N=$(or $(N),100) FAULTS_SEED=$(SEED) FAULTS_RECORD=$(RECORD) $(PYTEST) tests/faults

mutants: ## change N=30 things a room, see that a test notices; ROOM=landing, AGAIN=survived, SEED=1
	@scripts/setup redshift mutants
	@$(PYTHON) -m tests.mutants run $(ROOM) -n $(or $(N),30) --seed $(or $(SEED),1) \
		$(if $(AGAIN),--again "$(AGAIN)")

check: ## check style, types, SQL, declarations
	@scripts/setup redshift bigquery
	@scripts/check

format: setup ## let ruff fix and format the code
	@.venv/bin/ruff check --fix --quiet; .venv/bin/ruff format

docs: setup ## write the dbt docs to dbt_project/target
	@$(DBT) docs generate $(DBT_FLAGS)

site: setup ## write the docs as a site to .sandbox/site
	@.venv/bin/mkdocs build --quiet && echo "Open .sandbox/site/index.html"

bench: ## measure Millrace and what users would pick instead; quick: ROWS=200000
	@scripts/setup redshift celery
	@$(PYTHON) -m benchmarks all $(if $(ROWS),--rows $(ROWS))

clean: down ## remove the sandbox with all its data
	@rm -rf .sandbox dbt_project/target dbt_project/logs
