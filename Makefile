# Amiral: `make run` and `make test` work on a bare machine with Python >= 3.11; everything lands in .venv.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
BENCH ?= pipeline

# Nothing that we depend on may report home.
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export BENTOML_DO_NOT_TRACK := True
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := 1
export ORT_DISABLE_TELEMETRY := 1

# uv does not read pip's configuration; hand over what is in the environment.
ifneq ($(PIP_FIND_LINKS),)
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif
ifneq ($(PIP_INDEX_URL),)
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

.PHONY: help run test lint format serve bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo '  ARGS="..." is handed to the command, e.g. make run ARGS="--bars /my/bars"'

run: $(VENV)/.installed ## install, then the main job: snapshots -> dataset -> models -> gates -> registry -> report
	@$(BIN)/amiral run $(ARGS)

test: lint ## install, lint, type check, then all tests
	@$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

lint: $(VENV)/.installed ## ruff, mypy and the import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo > $(VENV)/imports.txt || { cat $(VENV)/imports.txt; exit 1; }

format: $(VENV)/.installed ## rewrite the code in the house style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

serve: $(VENV)/.installed ## start the scoring service on the loopback interface
	@$(BIN)/python -m serving $(ARGS)

bench: $(VENV)/.installed ## measure BENCH=pipeline (default) or BENCH=training; the last line is JSON
	@$(BIN)/python -m benchmarks.$(BENCH) $(ARGS)

lock: ## resolve the versions anew into requirements.lock (needs uv)
	@env -u UV_FIND_LINKS uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
		--no-header --no-annotate --no-emit-index-url --quiet --output-file requirements.lock
	@# The libraries of torch's GPU build: a CPU build must not bring them, a GPU build pins and brings them itself.
	@sed -E -i.bak '/^(nvidia-(cu|nccl|nvjitlink|nvshmem|nvtx)|cuda-|triton)/d' requirements.lock && rm requirements.lock.bak

clean: ## remove the environment, never the data
	rm -rf $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml .ci/install
	@.ci/install $(VENV)
	@touch $@
