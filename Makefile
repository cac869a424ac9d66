.DEFAULT_GOAL := help
.PHONY: help setup demo up down status test check lint format docs clean

RUN := scripts/run

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
