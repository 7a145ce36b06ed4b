# Commands for development and CI. `make` without a target prints them.

VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
GENERATOR := $(VENV)/generator/bin/openapi-python-client
# On Linux the package index's own torch brings several GB of CUDA libraries. CPU=1 installs PyTorch's CPU build.
ifeq ($(CPU),1)
TORCH_INDEX := --extra-index-url https://download.pytorch.org/whl/cpu
endif

.PHONY: help quickstart up test test-fast test-long test-models conformance fuzz bench-training bench-tasks bench-service bench-overhead bench-kills bench-api
.PHONY: bench-overload bench-banking77 lint format e2e-production starter docs docs-build docs-serve sdk clean

help: ## print this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 26

$(STAMP): pyproject.toml constraints.txt sdk/pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH_INDEX) -c constraints.txt "torch"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH_INDEX) -c constraints.txt -e ".[dev]"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ./sdk
	@touch $(STAMP)

quickstart: $(STAMP) ## install, run two fine-tuning jobs end to end, print the results, stop
	@$(BIN)/python -m examples.quickstart

up: $(STAMP) ## start Luthier on this machine and keep it running
	@$(BIN)/luthierd up

test-long: $(STAMP) ## equality checks of training at full length: resume after every step, random kills, TRL and HF (about 20 minutes)
	$(BIN)/python -m benchmarks.equalities

# Each process runs whole test files. Many files wait for their own stack to start, while other processes run tests.
test: $(STAMP) ## lint, types, imports, docs, and all tests that fit in 15 minutes
	@$(MAKE) --no-print-directory lint
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu"

test-fast: $(STAMP) ## tests that start no process, in under 90 seconds: what to run while you work
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu and not integration"

test-models: $(STAMP) ## every task and update on tiny models of 20 real architectures; writes the table in docs/models.md
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q -n logical --maxprocesses 4 tests/families -m "slow or not slow" --record-lives
	@$(MAKE) --no-print-directory docs

conformance: $(STAMP) ## OpenAI's Python and npm clients, oldest to newest, their own tests, and five tools, unmodified (installs them; about 25 minutes)
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m tests.conformance.run

fuzz: $(STAMP) ## schemathesis over the OpenAPI document: every check, more than 10,000 requests
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m tests.conformance.fuzz

lint: $(STAMP) ## ruff, mypy, import-linter, strict build of the docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory docs-build

format: $(STAMP) ## apply ruff's fixes and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

e2e-production: $(STAMP) ## a job on Postgres, redis-server, and S3 over HTTP, with two APIs, two workers, and a kill
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q -m "slow or not slow" tests/production

bench-service: $(STAMP) ## time from POST to the first step, and of whole jobs
	$(BIN)/python -m benchmarks.service

bench-overhead: $(STAMP) ## share of a ten-minute job that is not training
	$(BIN)/python -m benchmarks.overhead

bench-kills: $(STAMP) ## jobs lost, duplicated, or changed by 50 random kill -9
	$(BIN)/python -m benchmarks.kills

bench-training: $(STAMP) ## speed, memory, and loss of training beside TRL and HF Trainer (at most 40 minutes)
	$(BIN)/python -m benchmarks.training

bench-api: $(STAMP) ## 1,000 polling clients on SQLite and Postgres; validation of a gigabyte of rows
	$(BIN)/python -m benchmarks.api

bench-overload: $(STAMP) ## goodput at 10 times the maximum request rate
	$(BIN)/python -m benchmarks.overload

bench-banking77: $(STAMP) ## accuracy on Banking77 with minilm-l6, for every update mode (about an hour)
	$(BIN)/python -m examples.banking77

bench-tasks: $(STAMP) ## one run on real data per task, beside its baseline (about 30 minutes)
	$(BIN)/python -m benchmarks.tasks

starter: $(STAMP) ## train the starter model again (about 15 minutes)
	$(BIN)/python -m examples.train_starter

docs: $(STAMP) ## write the tables in docs/ that come from the code
	$(BIN)/python -m deploy.docs_tables

docs-build: $(STAMP) ## build the documentation site into site/; a broken link fails
	$(BIN)/zensical build --strict

docs-serve: $(STAMP) ## serve the documentation site on http://localhost:8008 and rebuild it on changes
	$(BIN)/zensical serve --dev-addr localhost:8008

# openapi-python-client needs an older typer than luthierd, so it has its own environment.
$(GENERATOR): sdk/generator.txt
	@$(PYTHON) -m venv $(VENV)/generator
	@$(VENV)/generator/bin/python -m pip install --quiet --disable-pip-version-check -r sdk/generator.txt
	@touch $(GENERATOR)

sdk: $(STAMP) $(GENERATOR) ## generate the client in sdk/, its pages, and the HTTP reference from the routes and sdk/luthier/_async
	PYTHONPATH=sdk $(BIN)/python -m codegen $(GENERATOR)

clean: ## remove the files that the targets above created
	rm -rf $(VENV) .quickstart .pytest_cache .mypy_cache .ruff_cache .cache site
