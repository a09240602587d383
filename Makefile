# `make demo` and `make test` set everything up from a bare clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
# A job that make starts prints its commands for the PATH of the user's own shell.
ifndef STN_ICNN_USER_PATH
export STN_ICNN_USER_PATH := $(PATH)
endif
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: install lint format type layers test tests demo ui cluster cluster-down bench audit check clean

install: $(READY)

$(READY): pyproject.toml constraints.txt
	@echo "installing STN-iCNN, PyTorch, Ray and MLflow into $(VENV), 2.4 GB: about two to five minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,export,test]'
	@echo "compiling all of it, so that jobs start sooner"
	@$(BIN)/python -m compileall -qq $(VENV)/lib || true  # packages hold templates that are no Python
	@touch $@
	@echo "installed: make demo shows it at work"

lint: $(READY)
	ruff check .
	ruff format --check .

format: $(READY)
	ruff check --fix .
	ruff format .

type: $(READY)
	mypy

layers: $(READY)
	lint-imports

# The checks of the source run beside the tests.
test: $(READY)
	$(MAKE) --no-print-directory --jobs=2 lint type layers tests

tests: $(READY)
	pytest

demo: $(READY)
	python jobs/e2e.py demo

# make ui PORT=5001: where 5000 is taken.
ui: $(READY)
	python -m cluster.tracking.run_list $(if $(PORT),--port '$(PORT)')

# A cluster on this machine, to submit jobs to. make cluster OPTIONS=--help; one with a --folder is
# ended with the same.
cluster: $(READY)
	@python -m cluster.local up $(OPTIONS)

cluster-down: $(READY)
	@python -m cluster.local down $(OPTIONS)

# make bench REFERENCE=CHECKOUT_OF_THE_AUTHORS_CODE SHARDS=DIR RAW=DIR MODEL=PATH: each may be left out.
bench: $(READY)
	python -m benchmarks.bench $(if $(REFERENCE),--reference '$(REFERENCE)') \
	    $(if $(SHARDS),--shards '$(SHARDS)') $(if $(RAW),--raw '$(RAW)') \
	    $(if $(MODEL),--model '$(MODEL)')

# Known weaknesses of the packages that are installed, as PyPI tells them. It fails where one has some,
# and where PyPI tells of none.
audit: $(READY)
	@test -x $(VENV)/audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)/audit && \
	    $(VENV)/audit/bin/pip install --quiet --disable-pip-version-check 'pip-audit>=2.10,<3'; }
	$(VENV)/audit/bin/pip-audit --strict --skip-editable --progress-spinner off \
	    --path $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

check: test demo

clean:
	rm -rf $(VENV)
