# Every target prepares what it needs; `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: soak help setup demo test test-rust conformance lint format bench bench-micro wheel wheels test-wheels sdist check-wheel fuzz compat chaos profile lock clean redis-versions rabbitmq-versions

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHON VENV
# Tests and benchmarks start thousands of interpreters: without compiled files each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE
# One build profile and one target folder for the extension, the Rust tests and clippy: nothing is compiled twice.
CARGO_TEST := cargo test --release --locked -p pyworker-native --no-default-features

help: ## Print the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

setup: ## Create .venv, install the locked tools and the tests' servers, build the release extension
	@scripts/setup

demo: ## Start a worker on a SQLite file, send tasks of several kinds, show what happened (needs no server)
	@scripts/setup --without-servers
	@$(BIN)/pyworker demo

test: setup ## Run the Rust and Python tests (PYTEST_ARGS="-k name" narrows the Python ones)
	@scripts/test $(PYTEST_ARGS)

test-rust: ## Run the Rust tests alone; needs no Python
	@$(CARGO_TEST)

conformance: setup ## The same scenarios on every broker that can be had here; writes the table in docs/brokers.md
	@scripts/conformance $(PYTEST_ARGS)

lint: setup ## Check style, types, clippy and the stub of the native core
	@scripts/lint

format: setup ## Format Rust and Python
	@cargo fmt --all
	@$(BIN)/ruff check --fix -q . && $(BIN)/ruff format -q .

bench: setup ## Measure everything and write docs/benchmarks.md (about half an hour; BENCH_ARGS="--quick" is shorter)
	@scripts/bench $(BENCH_ARGS)

bench-micro: setup ## Micro-benchmarks: frames, codecs, ETA heap, ledger, pool link
	@$(BIN)/python -m pytest -o addopts=--import-mode=importlib -o python_files="bench_*.py" -o python_functions="bench_*" bench/micro --benchmark-disable-gc $(BENCH_ARGS)

wheel: setup ## Build a stripped wheel into dist/ and check it in an empty environment
	@scripts/build_wheel
	@scripts/check_wheel

wheels: ## Build a manylinux wheel for every Python that is installed (PYTHONS="3.10 3.12" narrows), with zig's linker
	@scripts/build_wheels

sdist: setup ## Build the source distribution and prove that it builds without a network
	@scripts/build_sdist

test-wheels: ## Run the Python unit tests, a demo and a worker from the wheels of make wheels (PYTHONS="3.12 3.13" narrows)
	@scripts/test_wheels

check-wheel: ## Check the wheel in dist/ again
	@scripts/check_wheel

fuzz: ## Fuzz the decoders of bytes from outside (FUZZ_SECONDS each, default 60; needs cargo-fuzz and a nightly toolchain)
	@scripts/fuzz

compat: setup ## The adapter's and the lanes' tests on celery 5.3 to 5.7 (COMPAT="5.3 5.4" narrows)
	@scripts/compat $(PYTEST_ARGS)

chaos: setup ## The long chaos tests: everything is killed at random, nothing may be lost
	@$(BIN)/pytest -p no:benchmark -q --timeout 7200 tests/chaos --chaos-long $(PYTEST_ARGS)
	@$(BIN)/pytest -p no:benchmark -q -s --timeout 7200 tests/interop/test_rabbitmq_drops.py tests/interop/test_rabbitmq.py \
		-k "work_goes_on or short_of_memory" --chaos-long $(PYTEST_ARGS)
	@PYWORKER_POWER_CUTS=300 $(CARGO_TEST) --test power_cut

redis-versions: setup ## The tests of Redis on other servers, 6.0 to 8 and Valkey, downloaded outside the tree (VERSIONS="redis-6.0" narrows)
	@scripts/redis_versions

rabbitmq-versions: setup ## The tests of RabbitMQ on the server of a newer Debian, unpacked outside the tree; root only (SUITES="trixie")
	@scripts/rabbitmq_versions

soak: setup ## Work at 2,000 tasks/s with failures, reconnections and replaced children; memory, descriptors and keys stay flat (SOAK_SECONDS, default 120)
	@$(BIN)/python -m bench.soak

profile: setup ## Build with symbols and record where a draining worker spends its time (needs perf)
	@scripts/profile

lock: setup ## Renew requirements/dev.txt and Cargo.lock within the ranges of pyproject.toml and Cargo.toml
	@scripts/lock

clean: ## Remove .venv and everything built
	@rm -rf $(VENV) target dist .bench .compat native/fuzz/target pyworker/*.so .pytest_cache .mypy_cache .ruff_cache
