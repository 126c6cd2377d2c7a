# The two commands to begin with are `make demo` and `make test`; `make` alone lists all.
#
# Each first sees to it that .venv has what it needs (tools/environment.sh), which costs nothing if it has.
# Another Python: `make test PYTHON=python3.13`. Arguments for pytest: `make test TESTS=tests/unit`, `ARGS="-k journal -x"`.
# JOBS tests run at a time; JOBS=0 runs them in this very process, one by one, as a debugger needs it.

VENV ?= .venv
TESTS ?=
ARGS ?=
PYTHON ?=
# Two more than there are processors, since many tests wait; more than eight get into each other's way.
JOBS ?= $(shell n=$$(($$(nproc) + 2)); echo $$((n < 8 ? n : 8)))

export VENV PYTHON
# The tests start thousands of processes: without its cache each would compile all of the program anew.
unexport PYTHONDONTWRITEBYTECODE
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test faults lint benchmark clean

help: ## list the commands
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: ## a learner images a surface with four heads of a simulated probe: a minute, a picture (ARGS=chambers, ARGS=svm: others)
	@tools/environment.sh demo
	@$(BIN)/taskmaster demo $(ARGS)

test: ## every test that this machine can run
	@tools/environment.sh test
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(TESTS) $(ARGS)

faults: ## all that can go wrong with a daemon, hundreds of times, and what it costs (ARGS="--minutes 60", "--only kill")
	@tools/environment.sh test
	@$(BIN)/python -m tests.faults $(ARGS)

lint: ## style, types, and who may import whom
	@tools/environment.sh lint
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

benchmark: ## how fast it is, side by side with what else there is
	@tools/environment.sh test
	@$(BIN)/python -m benchmarks $(ARGS)

clean: ## forget everything that was installed, built or measured here
	rm -rf $(VENV) demo-output build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf .coverage*
