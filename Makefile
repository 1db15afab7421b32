# Everything a developer does, in one place. Works with GNU make 3.81 (macOS) and later;
# every path below is relative, so the folder may lie anywhere and have blanks in its name.

PORT ?= $(or $(BYODPP_PORT),3000)
KEYCLOAK_PORT ?= 8080
SEED ?= 20261120
PYTEST_ARGS ?=
PY := .venv/bin/python

# The order of sets, and every generated test value, repeat from run to run; SEED=… for other ones.
REPEATABLE = PYTHONHASHSEED=0 BYODPP_TEST_SEED=$(SEED)
# Nothing uses pytest's part of schemathesis, which every start of pytest would import, those in tests too.
# Tests start hundreds of programs: what Python compiles is kept, also where it is told to keep nothing.
LIGHT = PYTEST_ADDOPTS="-p no:schemathesis $$PYTEST_ADDOPTS" PYTHONDONTWRITEBYTECODE=

.DEFAULT_GOAL := help
.PHONY: help run keycloak test check format docs bench soak lock clean environment development competitors

help: ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

environment:
	@sh scripts/environment runtime

development:
	@sh scripts/environment dev

competitors:
	@sh scripts/environment bench

run: environment ## start the application on http://127.0.0.1:3000 (PORT=…), everything included
	@exec $(PY) -m byodpp --app . serve --port $(PORT)

keycloak: environment ## start a Keycloak for trying out (KEYCLOAK_PORT=…; needs Java 17 and Maven)
	@exec $(PY) -m scripts.keycloak --port $(KEYCLOAK_PORT)

test: development ## run all tests (PYTEST_ARGS="tests/test_query.py -x" for some)
	@$(REPEATABLE) $(LIGHT) $(PY) -m pytest -q -n auto --dist worksteal -m "not soak" --hypothesis-seed=$(SEED) $(PYTEST_ARGS)

check: development ## lint, formatting, types, links in the documentation, pinned requirements
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(PY) scripts/import_ladder.py
	@$(PY) scripts/dead_links.py
	@$(PY) scripts/committed_text.py
	@$(PY) -m scripts.make_docs --check

format: development ## put every file into its form
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

docs: development ## write the tables of docs/ that come from the code
	@$(PY) -m scripts.make_docs

bench: development competitors ## measure against the bare limit and the usual alternatives (minutes)
	@$(PY) -m bench --report bench/RESULTS.md

soak: development ## run the full counts and write the report into docs/soak.md (long)
	@$(REPEATABLE) $(LIGHT) $(PY) -m pytest -q --hypothesis-seed=$(SEED) -m soak --soak-report $(PYTEST_ARGS)

lock: ## renew requirements/*.txt from pyproject.toml (needs uv)
	@sh scripts/lock

clean: ## remove the environment and everything that was made here, demo data included
	rm -rf .venv .venv-bench .byodpp build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
