# Needs make, Python 3.11+ with pip and venv; everything else goes into .venv.
PYTHON ?= python3
DATABASES ?=
# Many tests wait for processes and servers: more of them than cores.
JOBS ?= 4
ARGS ?=

BIN := .venv/bin
STAMP := .venv/.installed

# Where it is set, each of the thousand processes of the tests would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo dashboard superset superset-lock dbt-lock pictures test test-quick databases \
	clients-lock check db-check docs lock wheel bench bench-quick clean
# The work is in the recipes; what they do is said by their own echo.
.SILENT:
# Half a file would count as made the next time.
.DELETE_ON_ERROR:

help: ## this list
	awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile
	echo
	echo '  Variables: PYTHON=python3.12 (setup), DATABASES=sqlite,postgresql,mariadb and more, and'
	echo "  JOBS=4 and ARGS='-k name' (test); make test as root installs missing servers by apt."

setup: $(STAMP) ## .venv with everything that work on the project needs (about 30 s, once)

$(STAMP): requirements-dev.lock pyproject.toml scripts/setup
	PYTHON='$(PYTHON)' sh scripts/setup
	touch $@

demo: setup ## the whole way against a fake Datadog, into a SQLite file
	echo '==> demo'
	$(BIN)/heatmap-etl demo
	echo 'Or a year of it, in a browser: make dashboard'

dashboard: setup build/heatmap-demo.db ## the dashboard in a browser, filled with a year of demo data
	echo '==> dashboard (Datasette)'
	$(BIN)/heatmap-etl dashboard --database build/heatmap-demo.db $(ARGS)

build/heatmap-demo.db: | setup
	echo '==> demo --large (about half a minute, once)'
	$(BIN)/heatmap-etl demo --large build

superset: setup build/heatmap-demo.db ## imports the Superset bundle into a real Superset, compares and looks (minutes)
	sh scripts/install-for-tests $(BIN)/python postgresql
	sh scripts/install-dashboards $(BIN)/python
	$(BIN)/python dashboards/try_dashboards.py superset build/heatmap-demo.db

pictures: setup build/heatmap-demo.db ## the pictures of both dashboards in docs/ anew (minutes)
	sh scripts/install-for-tests $(BIN)/python postgresql
	sh scripts/install-dashboards $(BIN)/python
	$(BIN)/python dashboards/try_dashboards.py datasette build/heatmap-demo.db docs
	$(BIN)/python dashboards/try_dashboards.py superset build/heatmap-demo.db docs

test: setup databases ## all tests, on SQLite, PostgreSQL and MariaDB; the loading on more servers
	echo '==> pytest (a few minutes; servers start when first needed)'
	DATABASES='$(DATABASES)' $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# What is started as a whole (acceptance), a server's dialect and what is marked slow is left out.
test-quick: setup ## the tests of all rooms on SQLite, without slow ones (about a minute)
	echo '==> pytest, quick'
	DATABASES=sqlite $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'not slow' \
		tests/unit tests/integration $(ARGS)

databases: setup
	DATABASES='$(DATABASES)' sh scripts/install-for-tests $(BIN)/python

check: setup ## ruff, its formatter, mypy and the walls between the rooms (about 10 s)
	# One that fails keeps the others from nothing: a developer wants the whole list.
	status=0; \
	echo '==> ruff check'; $(BIN)/ruff check || status=1; \
	echo '==> ruff format --check'; $(BIN)/ruff format --check || status=1; \
	echo '==> mypy (about 10 s the first time)'; $(BIN)/python -m mypy || status=1; \
	echo '==> lint-imports'; $(BIN)/lint-imports --no-cache || status=1; \
	exit $$status

db-check: setup ## migrations and schema agree (alembic check on a fresh SQLite file)
	# In a folder of its own: the developer's configuration has no say here.
	echo '==> alembic upgrade head, alembic check (about 3 s)'
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && cd "$$folder" && \
	export HEATMAP_ETL_DATABASE_URL="sqlite:///$$folder/check.db" && \
	alembic() { '$(CURDIR)/$(BIN)/python' -m alembic -c '$(CURDIR)/alembic.ini' "$$@"; } && \
	alembic upgrade head && alembic check

docs: setup ## data dictionary, questions, dbt sources and README's table of settings anew
	echo '==> data dictionary, questions, dbt sources, table of settings (about 1 s)'
	mkdir -p docs dashboards/dbt
	$(BIN)/python -m scripts.dbt_sources > dashboards/dbt/sources.yml
	$(BIN)/python -m scripts.data_dictionary > docs/data-dictionary.md
	$(BIN)/python -m scripts.questions > docs/queries.md
	$(BIN)/python -m scripts.data_dictionary README.md
	PYTHONPATH=. $(BIN)/python dashboards/superset/datasets.py

# No header, no annotations, no addresses: the file says what, the installer knows where from.
define compile
	echo '==> uv pip compile (a few seconds; uv itself is installed first)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq --disable-pip-version-check uv
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate $(ARGS)
endef

lock: ## both lock files anew from pyproject.toml; ARGS=--upgrade for newer versions
	$(compile) --extra dev pyproject.toml -o requirements-dev.lock
	# What an installation needs, in the versions that were tested.
	$(compile) --extra postgres --extra mysql --extra metrics --constraint requirements-dev.lock \
		pyproject.toml -o requirements.lock

superset-lock: ## dashboards/superset/requirements.lock anew from its requirements.in; ARGS=--upgrade
	$(compile) dashboards/superset/requirements.in -o dashboards/superset/requirements.lock

dbt-lock: ## dashboards/dbt/requirements.lock anew from its requirements.in; ARGS=--upgrade
	$(compile) dashboards/dbt/requirements.in -o dashboards/dbt/requirements.lock

clients-lock: ## tests/support/clients/requirements.lock anew from its requirements.in; ARGS=--upgrade
	$(compile) tests/support/clients/requirements.in -o tests/support/clients/requirements.lock

wheel: setup ## sdist and wheel into dist/, without the network (about 2 s)
	echo '==> hatchling build (about 2 s)'
	$(BIN)/python -m hatchling build -d dist -t sdist -t wheel

bench: setup databases ## speed and memory against others, as ratios; ARGS='--only W1,W2'
	echo '==> benchmarks (an hour and a half); benchmarks/README.md says more'
	$(BIN)/python -m benchmarks $(ARGS)

bench-quick: setup databases ## the same in a good minute, only to see where it goes
	echo '==> benchmarks, quick'
	$(BIN)/python -m benchmarks --quick $(ARGS)

clean: ## remove the environments, .bench, dist and the caches
	rm -rf .venv dashboards/.venv .bench dist build htmlcov .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find etl migrations benchmarks dashboards tests scripts -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
