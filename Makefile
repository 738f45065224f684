# Everything a developer types. Each target sets up what it needs; running it again is harmless.
.PHONY: help setup test lint types demo lock clean
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo

help:            ## show this list
	@grep -E '^[a-z]+: .*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.installed ## make the virtual environment

$(VENV)/.installed: requirements.lock pyproject.toml scripts/setup
	@scripts/setup

test: setup      ## run all tests, on both cores
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: setup      ## style, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup     ## static types, strict
	$(BIN)/mypy

demo: setup      ## replay a year of flights through the whole loop
	$(BIN)/mainspring demo $(DEMO)

lock: setup      ## resolve requirements.lock anew
	$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
	  --extra demo --extra postgres --extra sklearn --extra xgboost --extra onnx --extra convert --extra webhooks --extra grpc --extra telemetry --extra explain --extra ray --extra vertex --extra tune --extra notebooks --extra bigquery --extra duckdb --group dev --upgrade pyproject.toml -o requirements.lock

clean:           ## remove what the targets made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
