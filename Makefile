# One command per task, the same at the desk and in CI. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
ROOT := $(CURDIR)
BUILD := $(ROOT)/build
VENV := $(BUILD)/venv
PYTHON := $(VENV)/bin/python
SUITE ?= forky
INTERPRETER ?= python3
MUSL := x86_64-unknown-linux-musl
export DICHROIC_PYTHON := $(PYTHON)
export DICHROIC_PROMETHEUS := $(BUILD)/prometheus/usr/bin
export CARGO_TERM_COLOR ?= auto

.PHONY: help setup demo test test-peers test-libraries bench lint fmt beams otp setup-demo setup-test setup-docs setup-peers setup-libraries test-rust test-erlang \
        test-python test-python-on test-system test-corpora test-docs loom miri fuzz deny dialyzer dashboards docs docs-serve pictures static wheel release release-check clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: setup-demo ## See it work: an Erlang node and two Python programs, together (DEMO_SECONDS=30 ends it)
	@cargo build --release -p dichroic
	@$(PYTHON) examples/demo/demo.py

setup: setup-test setup-docs ## Install everything for development; lists it first

test: setup-test lint loom test-rust test-erlang test-python test-corpora test-system ## Everything that must pass
	@echo "all tests passed"

test-peers: setup-peers ## Beside real programs that take long to build: Prometheus 3, the OpenTelemetry Collector, SDKs
	./scripts/build-peers.sh
	cargo build --quiet -p dichroic
	$(PYTHON) -m pytest -q tests/peers

test-libraries: setup-libraries ## Packs beside programs of the real libraries: Phoenix, Ecto, Oban and others, built from their repositories
	./scripts/build-libraries.sh
	cargo build --quiet -p dichroic
	$(PYTHON) -m pytest -q tests/libraries

test-rust: setup-test ## Rust unit, property and integration tests
	DICHROIC_REQUIRE_ORACLES=1 cargo test --workspace --quiet --no-fail-fast

test-erlang: setup-test ## The relay: eunit, Common Test, xref
	$(MAKE) -C beam-relay test

test-python: setup-test ## The Python package
	cd python-shim && $(PYTHON) -m pytest -q

test-python-on: ## The Python package on another interpreter: make test-python-on INTERPRETER=python3.13
	venv=$(BUILD)/venv-$$($(INTERPRETER) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	$(INTERPRETER) -m venv $$venv; \
	$$venv/bin/python -m pip install --quiet --disable-pip-version-check -r python-shim/requirements-dev.txt; \
	cd python-shim; $$venv/bin/python --version; $$venv/bin/python -m mypy; $$venv/bin/python -m pytest -q

test-system: setup-test ## The real collector with real Erlang, Python and Prometheus around it
	cargo build --quiet -p dichroic
	$(PYTHON) -m pytest -q --ignore tests/peers --ignore tests/libraries tests

otp: setup-test ## The relay, attaching and discovering on another OTP: SUITE=forky is the Debian that has it
	cargo build --quiet -p dichroic
	programs=$$(./scripts/fetch-otp.sh $(SUITE)); export PATH=$$programs:$$PATH; \
	erl -noshell -eval 'io:format("OTP ~s~n", [erlang:system_info(otp_release)]), halt().'; \
	$(PYTHON) -m pytest -q -k 'not newer' $(if $(TESTS),$(TESTS),tests/test_attach.py tests/test_attach_config.py tests/test_discover.py tests/test_attach_tcp.py tests/test_attach_tls.py tests/test_truth.py tests/test_logs.py tests/test_nodes.py)

test-corpora: ## Data files of other projects, from the folder named by DICHROIC_CORPORA
	@if [ -z "$${DICHROIC_CORPORA:-}" ]; then echo "corpora: DICHROIC_CORPORA is not set; nothing to read"; \
	else cargo test --quiet -p dichroic-receiver-prometheus -p dichroic-receiver-otlp --test corpus; fi

bench: ## Measure, and print ratios against a baseline of the same run
	./bench/run.sh

beams: setup-test ## Compile the relay's modules that `dichroic attach` loads into nodes
	./scripts/build-beams.sh

lint: setup-test ## Formatting, clippy, ruff, mypy, invariants of the tree
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cd python-shim && $(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy
	$(PYTHON) -m ruff check examples dashboards tests bench scripts && $(PYTHON) -m ruff format --check examples dashboards tests bench scripts

fmt: ## Format everything
	cargo fmt --all
	$(PYTHON) -m ruff format python-shim examples dashboards tests bench scripts

loom: ## Models of every lock-free piece, all interleavings
	RUSTFLAGS="--cfg loom" cargo test -p dichroic-pipeline --test 'loom_*' --release --quiet --target-dir target/loom

miri: ## The pipeline's unit tests under Miri (nightly toolchain with the miri component)
	MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test -p dichroic-pipeline --lib --target-dir target/miri

fuzz: ## Fuzz every decoder in turn: make fuzz SECONDS=60 TARGETS='relay_session inflate' (nightly toolchain)
	./scripts/fuzz.sh $(or $(SECONDS),60) $(TARGETS)

deny: ## Licences, bans and sources of dependencies (needs cargo-deny)
	cargo deny check licenses bans sources

dialyzer: setup-test ## Dialyzer over the relay
	$(MAKE) -C beam-relay dialyzer

dashboards: setup-test ## Run every query of every dashboard against a real Prometheus
	cargo build --quiet -p dichroic
	$(PYTHON) -m pytest -q tests/test_dashboards.py

docs: setup-docs ## Build the documentation site into build/site; warnings are errors
	$(PYTHON) -m mkdocs build --quiet --strict --site-dir $(BUILD)/site
	@echo "built build/site/index.html"

docs-serve: setup-docs ## Serve the documentation on 127.0.0.1:8008 while you write
	$(PYTHON) -m mkdocs serve --dev-addr 127.0.0.1:8008

pictures: setup-test ## Draw the pictures of the README from a real run
	cargo build --quiet -p dichroic
	$(PYTHON) scripts/pictures.py

static: ## A static binary for any Linux (musl)
	rustup target add $(MUSL)
	command -v musl-gcc >/dev/null || ./scripts/apt.sh musl-tools
	cargo build --release -p dichroic --target $(MUSL)
	@ls -l target/$(MUSL)/release/dichroic

wheel: setup-test ## The Python wheels: with the binary in it, and pure (the client alone; needs no Rust)
	$(PYTHON) -m pip install --quiet 'maturin>=1.9,<2'
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir $(BUILD)/wheels ./python-shim
	cd python-shim && $(VENV)/bin/maturin build --release --out $(BUILD)/wheels

release: static wheel ## Binary, wheel, Hex package and checksums of this version in build/release
	./scripts/release.sh

release-check: ## TAG=v1.2.3: the tag, every manifest and the changelog name the same version
	./scripts/release.sh --check $(TAG)

setup-demo:
	@./scripts/setup.sh demo

setup-test:
	@./scripts/setup.sh test

setup-docs:
	@./scripts/setup.sh docs

setup-peers:
	@./scripts/setup.sh peers

setup-libraries:
	@./scripts/setup.sh libraries

clean: ## Remove what was built
	rm -rf target build
