# Everything a person or CI does here. `make` alone prints this list.

VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
GENERATOR := $(VENV)/generator/bin/openapi-python-client
# On an ordinary Linux machine the index's own torch brings several GB of CUDA libraries; CPU=1 takes PyTorch's CPU build.
ifeq ($(CPU),1)
TORCH_INDEX := --extra-index-url https://download.pytorch.org/whl/cpu
endif

.PHONY: help quickstart up test test-long conformance fuzz bench-training bench-tasks bench-service bench-overhead bench-kills bench-api
.PHONY: bench-overload bench-banking77 lint format e2e-production starter docs sdk clean

help: ## print this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 26

$(STAMP): pyproject.toml constraints.txt sdk/pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH_INDEX) -c constraints.txt "torch"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH_INDEX) -c constraints.txt -e ".[dev]"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ./sdk
	@touch $(STAMP)

quickstart: $(STAMP) ## install, run two jobs through the whole stack, show what they learnt, stop
	@$(BIN)/python -m examples.quickstart

up: $(STAMP) ## start Luthier on this machine and stay
	@$(BIN)/luthierd up

test-long: $(STAMP) ## the equalities at full length: stopped at every step, killed at random, beside TRL and HF (about 20 minutes)
	$(BIN)/python -m benchmarks.equalities

# Whole files go to a process each: many wait for a stack of their own to start, and another file's tests run meanwhile.
test: $(STAMP) ## lint, types, imports and all tests that fit in 15 minutes
	@$(MAKE) --no-print-directory lint
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist loadfile -m "not slow and not gpu"

conformance: $(STAMP) ## OpenAI's clients, oldest to newest, Python and npm, their own tests, five tools on them, all unmodified (installs them; about 25 minutes)
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m tests.conformance.run

fuzz: $(STAMP) ## schemathesis over the OpenAPI document, every check, 10,000 requests and more
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m tests.conformance.fuzz

lint: $(STAMP) ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

e2e-production: $(STAMP) ## Postgres, redis-server, S3 over HTTP, two APIs, two workers, a kill
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q -m "slow or not slow" tests/production

bench-service: $(STAMP) ## seconds from POST to the first step, and of a whole job
	$(BIN)/python -m benchmarks.service

bench-overhead: $(STAMP) ## what the service takes of a ten-minute job
	$(BIN)/python -m benchmarks.overhead

bench-kills: $(STAMP) ## 50 random kill -9: jobs lost, duplicated, different
	$(BIN)/python -m benchmarks.kills

bench-training: $(STAMP) ## our training child beside TRL and HF Trainer: speed, memory, loss (at most 40 minutes)
	$(BIN)/python -m benchmarks.training

bench-api: $(STAMP) ## 1,000 clients that poll their jobs, on SQLite and Postgres; a gigabyte of rows checked
	$(BIN)/python -m benchmarks.api

bench-overload: $(STAMP) ## ten times as many chats as the service can answer: what is answered then
	$(BIN)/python -m benchmarks.overload

bench-banking77: $(STAMP) ## 77 intents on minilm-l6 through the API, by every way of updating (about an hour)
	$(BIN)/python -m examples.banking77

bench-tasks: $(STAMP) ## one real run for each task through the API, beside what it must beat (about 30 minutes)
	$(BIN)/python -m benchmarks.tasks

starter: $(STAMP) ## train the starter model anew (about 15 minutes)
	$(BIN)/python -m examples.train_starter

docs: $(STAMP) ## write the tables in docs/ anew from the code
	$(BIN)/python -m deploy.docs_tables

# openapi-python-client has an environment of its own: it needs an older typer than luthierd.
$(GENERATOR): sdk/generator.txt
	@$(PYTHON) -m venv $(VENV)/generator
	@$(VENV)/generator/bin/python -m pip install --quiet --disable-pip-version-check -r sdk/generator.txt
	@touch $(GENERATOR)

sdk: $(STAMP) $(GENERATOR) ## make the client of sdk/ and its pages anew from the routes, the docstrings and sdk/luthier/_async
	PYTHONPATH=sdk $(BIN)/python -m codegen $(GENERATOR)

clean: ## remove what the targets above made
	rm -rf $(VENV) .quickstart .pytest_cache .mypy_cache .ruff_cache
