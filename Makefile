# Écluse: everything that a person or a continuous integration needs, by name.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
# Without kept bytecode every process would compile 300 modules again: a second of each start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup servers demo run test test-compiled compiled lint quality bench validate-r4 compare-mappings compare-documents fuzz soak docs clean peers xds-peers dicom-peers fuzz-guided chaos rabbitmq fhir-peer tests

help: ## Say what can be made
	@grep -hE '^[a-z0-9-]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(BIN)/ecluse: pyproject.toml tools/setup
	@tools/setup python $(VENV)
	@touch $(BIN)/ecluse

setup: $(BIN)/ecluse ## Make the virtual environment (.venv) with Écluse in it
	@true

servers: ## Install the real servers that the tests talk to (Debian packages)
	@tools/setup servers

demo: setup ## Three old systems feed one patient's record, through real sockets
	@$(BIN)/ecluse demo $(DEMO)

run: setup ## Run the gateway with ecluse.yaml or the embedded default
	@$(BIN)/ecluse run

test: setup servers ## Lint, types, import contracts and every test, real servers included
	@tools/setup tests $(VENV)
	@$(MAKE) --no-print-directory -j2 lint tests

# The type checker has one thread, and the tests mostly wait: each has the time of the other.
tests: setup
	@tools/run_tests $(BIN)/pytest

lint: setup ## Style, types, import arrows
	@tools/setup tests $(VENV)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# Where there are real messages to measure the mappings with. Nothing of them is in the project.
CORPORA ?= $(wildcard ../shared/corpora/hl7v2 ../shared/corpora/cda)

quality: setup ## Measure what the mappings keep of real messages (CORPORA=folders); fails under 95 %
	@if [ -z "$(strip $(CORPORA))" ]; then echo "no corpora to measure with; CORPORA=folder names some" >&2; exit 1; fi
	@$(BIN)/ecluse mapping coverage $(CORPORA) --fail-under 95

compiled: setup ## Compile the hot modules to machine code: a wheel in build/wheel
	@tools/setup tests $(VENV)
	@tools/setup compiler $(VENV)
	@tools/compile $(CURDIR)/$(BIN)/python

test-compiled: compiled ## The tests of what is compiled, on the compiled modules
	@cd build/compiled && PYTHONPATH=$(CURDIR)/build/compiled $(CURDIR)/$(BIN)/pytest -q \
		-p no:cacheprovider tests/unit/mapping tests/unit/r4 tests/unit/hl7

bench: compiled servers ## Measure, medians and ratios in benchmarks/results/ (BENCH="--only backlog")
	@cd build/compiled && PYTHONPATH=$(CURDIR)/build/compiled $(CURDIR)/$(BIN)/python \
		-m benchmarks.run --results $(CURDIR)/benchmarks/results $(BENCH)

validate-r4: setup ## Compare the R4 checker with the official FHIR validator (needs a JDK and Maven)
	@tools/setup tests $(VENV)
	@tools/validate_r4/run $(BIN)/python $(VALIDATE)

peers: setup ## Send the corpora with HAPI, Camel, python-hl7 and a bare socket; compare (needs a JDK and Maven)
	@tools/setup tests $(VENV)
	@tools/peers/run $(BIN)/python $(or $(MESSAGES),../shared/corpora/hl7v2)

xds-peers: setup ## Submit, find and fetch with IPF (JDK, Maven; DOCUMENTS=folder, SECONDS_MAX=120)
	@tools/setup tests $(VENV)
	@tools/xds_peers/run $(BIN)/python $(or $(DOCUMENTS),../shared/corpora/cda)

dicom-peers: setup ## Store, query, move, commit with dcmjs-dimse and dicom-rs (Node.js; cargo)
	@tools/setup tests $(VENV)
	@tools/dicom_peers/run $(CURDIR)/$(BIN)/python

compare-mappings: compiled ## Map the same results with LinuxForHealth's converter (needs a JDK and Maven)
	@tools/compare_mappings/run $(CURDIR)/$(BIN)/python --corpora $(CURDIR)/../shared/corpora/hl7v2

compare-documents: compiled ## Map CDA documents with python-fhir-converter, too (DOCUMENTS=folder)
	@tools/compare_documents/run $(CURDIR)/$(BIN)/python \
		$(abspath $(or $(DOCUMENTS),../shared/corpora/cda))

chaos: setup servers ## Break things at random under load; a ledger judges (CHAOS="--minutes 30 --seed N")
	@tools/setup tests $(VENV)
	@$(BIN)/python -m tests.chaos $(CHAOS)

rabbitmq: setup ## The doorbell on a real RabbitMQ: killed, frozen, its queue deleted
	@tools/setup tests $(VENV)
	@tools/setup rabbitmq
	@ECLUSE_RABBITMQ=1 $(BIN)/pytest -q tests/integration/pipeline/test_rabbitmq.py

fhir-peer: setup ## Deliver to HAPI FHIR's JPA server, through kills and cuts (needs a JDK and Maven)
	@tools/setup tests $(VENV)
	@tools/fhir_peer/run $(BIN)/python

fuzz: setup ## Throw wrong bytes at framing, reader and acknowledgement (FUZZ_SECONDS=300)
	@tools/setup tests $(VENV)
	@FUZZ_SECONDS=$${FUZZ_SECONDS:-300} $(BIN)/pytest tests/fuzz -q

soak: setup ## Connect, abort, half objects and kill -9 at the DICOM door (SOAK_SECONDS=3600)
	@tools/setup tests $(VENV)
	@SOAK_SECONDS=$${SOAK_SECONDS:-3600} $(BIN)/pytest tests/acceptance/test_dicom_soak.py -q -s

fuzz-guided: setup ## The same guided by coverage, with Atheris (needs a wheel of it for this Python)
	@tools/setup tests $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --only-binary :all: 'atheris>=3'
	@for target in framing reading acknowledging unpacking; do \
		$(BIN)/python -m tests.fuzz.guided $$target $$(($${FUZZ_SECONDS:-300} / 4)) || exit 1; done

docs: setup ## Write the generated pages (command reference, settings, v2-to-FHIR) into docs/
	@$(BIN)/python tools/build_docs.py
	@if [ -d ../shared/corpora/v2-to-fhir ]; then PYTHONPATH=. $(BIN)/python tools/build_comparison.py; fi

clean: ## Remove what was made here
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
