# Everything a developer runs.  Each target does its own set-up (scripts/setup.sh: system packages, .venv, native
# modules); once done, a further run of it costs a fraction of a second.
#
#   make demo               a 210 MiB file from a slow bucket, cold and warm
#   make test [T=PATH]      the tests that this user may run; without root it says what it skipped and why
#   make test SLOW=1        with those that take long, as CI runs them
#   make lint               style, types, layers, stubs
#   make generate           jindopy/rpc/v1/gen from the .proto files beside it
#   make bench [GROUP=...]  figures of speed: read, small, meta, native, cluster, idle, pipelines; without GROUP all of them
#   make soak               the long loops; the result is kept in bench/soak.json
#   make clean              removes what the build made, not the virtual environment

SHELL := /bin/bash
PYTHON := .venv/bin/python

.PHONY: help setup demo test lint generate bench soak clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' Makefile

setup:
	@scripts/setup.sh

demo: setup
	@$(PYTHON) -m bench.demo

test: setup
	@$(PYTHON) -m pytest -q $(or $(T),$(if $(SLOW),,-m "not slow"))

lint: setup
	@scripts/lint.sh

generate: setup
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(PYTHON) scripts/generate.py

bench: export JINDOPY_EXTRAS ?= $(if $(filter-out pipelines,$(GROUP)),,pipelines)
bench: setup
	@$(PYTHON) -m bench.run $(if $(GROUP),--group $(GROUP))

soak: setup
	@$(PYTHON) -m bench.soak

clean:
	rm -rf build dist *.egg-info jindopy/_ext/*.so ext/*.html .mypy_cache .ruff_cache .pytest_cache .hypothesis
	for source in ext/*.pyx; do rm -f "$${source%.pyx}.c"; done
	rm -f .venv/setup-*.stamp
