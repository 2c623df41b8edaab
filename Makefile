# Needs make, Python 3.11+ with pip and venv; everything else goes into .venv and build/.
PYTHON ?= python3
DATABASES ?=
# Many tests wait for processes and servers: more of them than cores.
JOBS ?= 4
ARGS ?=

BIN := .venv/bin
SITE := build/site-venv
SBOM := build/sbom-venv
STAMP := .venv/.installed

# Where it is set, each of the thousand processes of the tests would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo dashboard superset superset-lock dbt-lock pictures test test-quick databases \
	clients-lock fuzz-lock site site-lock sbom sbom-lock build-lock readability check db-check docs lock \
	wheel bench bench-quick prove prove-quick clean
# The work is in the recipes; what they do is said by their own echo.
.SILENT:
# Half a file would count as made the next time.
.DELETE_ON_ERROR:

help: ## show this list
	awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile
	echo
	echo '  Variables: PYTHON=python3.12 (setup), DATABASES=sqlite,postgresql,mariadb and more, and'
	echo "  JOBS=4 and ARGS='-k name' (test); make test as root installs missing servers by apt."

setup: $(STAMP) ## install everything for work on the project into .venv (about 30 s, once)

$(STAMP): requirements-dev.lock pyproject.toml scripts/setup
	PYTHON='$(PYTHON)' sh scripts/setup
	touch $@

# In an environment of its own, build/demo: to look takes no developer tools.
demo: ## see it work: a fake Datadog, four runs, a SQLite file; needs no setup (about 10 s)
	sh scripts/demo-environment '$(PYTHON)'
	echo '==> demo'
	build/demo/bin/heatmap-etl demo
	echo 'Or a year of it, in a browser: make dashboard'

dashboard: setup build/heatmap-demo.db ## show the dashboard in a browser, with a year of demo data
	echo '==> dashboard (Datasette)'
	$(BIN)/heatmap-etl dashboard --database build/heatmap-demo.db $(ARGS)

build/heatmap-demo.db: | setup
	echo '==> demo --large (about half a minute, once)'
	$(BIN)/heatmap-etl demo --large build

superset: setup build/heatmap-demo.db ## import the Superset bundle into a real Superset, and compare (minutes)
	sh scripts/install-for-tests $(BIN)/python postgresql
	sh scripts/install-dashboards $(BIN)/python
	$(BIN)/python dashboards/try_dashboards.py superset build/heatmap-demo.db

pictures: setup build/heatmap-demo.db ## take the pictures of both dashboards in docs/ again (minutes)
	sh scripts/install-for-tests $(BIN)/python postgresql
	sh scripts/install-dashboards $(BIN)/python
	$(BIN)/python dashboards/try_dashboards.py datasette build/heatmap-demo.db docs
	$(BIN)/python dashboards/try_dashboards.py superset build/heatmap-demo.db docs

test: setup databases ## run all tests, on SQLite, PostgreSQL, MariaDB and more servers
	echo '==> pytest (a few minutes; servers start when first needed)'
	DATABASES='$(DATABASES)' $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# What is started as a whole (acceptance), a server's dialect and what is marked slow is left out.
test-quick: setup ## run the tests of all rooms on SQLite, without slow ones (about a minute)
	echo '==> pytest, quick'
	DATABASES=sqlite $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'not slow' \
		tests/unit tests/integration $(ARGS)

databases: setup
	DATABASES='$(DATABASES)' sh scripts/install-for-tests $(BIN)/python

check: setup ## check style, types, imports and prose: ruff, mypy, lint-imports, proselint (about 15 s)
	# All of them run, also after one that fails: a developer wants the whole list.
	status=0; \
	echo '==> ruff check'; $(BIN)/ruff check || status=1; \
	echo '==> ruff format --check'; $(BIN)/ruff format --check || status=1; \
	echo '==> mypy (about 10 s the first time)'; $(BIN)/python -m mypy || status=1; \
	echo '==> lint-imports'; $(BIN)/lint-imports --no-cache || status=1; \
	echo '==> prose (about 3 s)'; $(BIN)/python -m scripts.prose || status=1; \
	exit $$status

db-check: setup ## check that migrations and schema agree (alembic check on a fresh SQLite file)
	# In its own folder: the configuration of the developer must not be used here.
	echo '==> alembic upgrade head, alembic check (about 3 s)'
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && cd "$$folder" && \
	export HEATMAP_ETL_DATABASE_URL="sqlite:///$$folder/check.db" && \
	alembic() { '$(CURDIR)/$(BIN)/python' -m alembic -c '$(CURDIR)/alembic.ini' "$$@"; } && \
	alembic upgrade head && alembic check

docs: setup ## write the generated pages, dbt sources and Grafana's dashboards again
	echo "==> data dictionary, settings, questions, dbt sources, Grafana's dashboards (about 2 s)"
	mkdir -p docs dashboards/dbt
	$(BIN)/python -m scripts.dbt_sources > dashboards/dbt/sources.yml
	$(BIN)/python -m scripts.data_dictionary > docs/data-dictionary.md
	$(BIN)/python -m scripts.data_dictionary docs/configuration.md
	$(BIN)/python -m scripts.questions docs/queries.md
	PYTHONPATH=. $(BIN)/python dashboards/superset/datasets.py
	PYTHONPATH=. $(BIN)/python dashboards/grafana/generate.py

# An environment of its own: work on the program needs nothing of it.
$(SITE)/installed.lock: docs/requirements.lock
	sh scripts/make-environment $(PYTHON) $(SITE) $< 'what builds the site (30 packages, about 15 s)'
	touch $@

site: $(SITE)/installed.lock ## the documentation as a site: build/site/index.html (about 10 s)
	echo '==> sphinx-build: build/site/index.html (about 10 s)'
	rm -rf build/site
	$(SITE)/bin/python -m sphinx -W --keep-going -n -q -d build/site-doctrees docs build/site

readability: setup $(SITE)/installed.lock ## how readable each page and the help texts are, as a table
	echo '==> readability (about 5 s)'
	$(BIN)/python -m scripts.help_texts > build/help.md
	$(SITE)/bin/python -m scripts.readability $(sort $(wildcard *.md docs/*.md)) build/help.md

$(SBOM)/installed.lock: scripts/sbom/requirements.lock
	sh scripts/make-environment $(PYTHON) $(SBOM) $< 'what writes the list of packages (a few seconds)'
	touch $@

sbom: setup $(SBOM)/installed.lock ## list what an installation holds: build/sbom.cdx.json (CycloneDX)
	echo '==> sbom: build/sbom.cdx.json (about 2 s)'
	packages=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
	$(SBOM)/bin/python scripts/sbom requirements.lock "$$packages" > build/sbom.cdx.json.part
	mv build/sbom.cdx.json.part build/sbom.cdx.json

# No header, no annotations, no addresses: the file says what, the installer knows from where.
define compile
	echo '==> uv pip compile (a few seconds; uv itself is installed first)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq --disable-pip-version-check uv
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate $(ARGS)
endef

lock: ## write both lock files again from pyproject.toml; ARGS=--upgrade for newer versions
	$(compile) --extra dev pyproject.toml -o requirements-dev.lock
	# What an installation needs, in the versions that were tested.
	$(compile) --extra postgres --extra mysql --extra metrics --constraint requirements-dev.lock \
		pyproject.toml -o requirements.lock

build-lock: ## write requirements-build.lock again, in the versions of requirements-dev.lock
	$(BIN)/python -c 'import tomllib; \
		print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		> build/build.in
	$(compile) --constraint requirements-dev.lock build/build.in -o requirements-build.lock

sbom-lock: ## write scripts/sbom/requirements.lock again from its requirements.in
	$(compile) scripts/sbom/requirements.in -o scripts/sbom/requirements.lock

superset-lock: ## write dashboards/superset/requirements.lock again from its requirements.in
	$(compile) dashboards/superset/requirements.in -o dashboards/superset/requirements.lock

dbt-lock: ## write dashboards/dbt/requirements.lock again from its requirements.in
	$(compile) dashboards/dbt/requirements.in -o dashboards/dbt/requirements.lock

clients-lock: ## write tests/support/clients/requirements.lock again from its requirements.in
	$(compile) tests/support/clients/requirements.in -o tests/support/clients/requirements.lock

site-lock: ## write docs/requirements.lock again from its requirements.in
	$(compile) docs/requirements.in -o docs/requirements.lock

fuzz-lock: ## write benchmarks/prove/fuzz.lock again from its fuzz.in
	$(compile) benchmarks/prove/fuzz.in -o benchmarks/prove/fuzz.lock

wheel: setup ## build sdist and wheel in dist/, without the network (about 2 s)
	echo '==> hatchling build (about 2 s)'
	$(BIN)/python -m hatchling build -d dist -t sdist -t wheel

bench: setup databases ## measure speed and memory against others, as ratios; ARGS='--only W1,W2'
	echo '==> benchmarks (an hour and a half); benchmarks/README.md says more'
	$(BIN)/python -m benchmarks $(ARGS)

bench-quick: setup databases ## measure the same in about a minute, less exactly
	echo '==> benchmarks, quick'
	$(BIN)/python -m benchmarks --quick $(ARGS)

# Unpacked, not installed: it needs nothing, and nothing but the part `fuzz` needs it. Without it that
# part tries the kept inputs only, and says so.
build/fuzz/installed.lock: benchmarks/prove/fuzz.lock | setup
	echo '==> Atheris into build/fuzz for the proof (35 MB, a few seconds)'
	rm -rf build/fuzz
	if $(BIN)/python -m pip --disable-pip-version-check --no-input install -qq --no-deps \
		--no-compile --only-binary :all: --require-hashes -r $< --target build/fuzz; then cp $< $@; \
	else echo '!!! pip could not install Atheris: nothing new will be fuzzed' >&2; fi

prove: setup databases build/fuzz/installed.lock ## try every promise thousands of times (about an hour); writes benchmarks/PROOF.md
	echo '==> prove (about an hour)'
	$(BIN)/python -m benchmarks.prove $(ARGS)

prove-quick: setup databases build/fuzz/installed.lock ## try the same less often (a few minutes); ARGS='--part kills --seed 7'
	echo '==> prove, quick (a few minutes)'
	$(BIN)/python -m benchmarks.prove --quick $(ARGS)

clean: ## remove the environments, .bench, dist and the caches
	rm -rf .venv dashboards/.venv .bench dist build htmlcov .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find etl migrations benchmarks dashboards tests scripts -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
