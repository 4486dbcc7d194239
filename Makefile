# make run       start the server on http://127.0.0.1:8700 with its log in ./data, a demo at /demo and a tour to copy (INTERLOCK_PORT=9000 make run)
# make test      run everything CI runs
# make check     run in about a minute: lint, types, the tests that start no process, and a check that each seeded bug fits the code
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
NODE_STAMP := tests/javascript/node_modules/.package-lock.json

# What every server that the tests start writes down about itself; `make traces` holds it against the model.
TRACES := $(CURDIR)/.traces

CORES := $(shell getconf _NPROCESSORS_ONLN)

# The tests wait almost half of their time: for disks, clocks and other processes.
WORKERS := $(shell echo $$(( $(CORES) * 2 )))

# Two targets at a time, each on half of the cores: what one of them does alone on one core costs the other nothing.
JOBS := $(CORES)
TWO := $(MAKE) --no-print-directory --jobs=2 --output-sync=target JOBS=$(shell echo $$(( ($(CORES) + 1) / 2 )))

# Three targets at a time: while one waits the others run, and no core idles at the end of each.
THREE := $(MAKE) --no-print-directory --jobs=3 --output-sync=target WORKERS=$(shell echo $$(( ($(CORES) * 3 + 1) / 2 ))) \
  JOBS=$(shell echo $$(( ($(CORES) + 1) / 2 )))

# These run without coverage, under which a walk takes three times as long. What is to be covered the other tests cover.
WALKS := tests/machine/test_exhaustive.py tests/machine/test_guards_matter.py
OUTSIDE := tests/scenarios tests/attacks tests/faults tests/docs tests/fuzz tests/mutants

# The tests start hundreds of processes: without its bytecode each would compile the server again, in 0.2 s.
unexport PYTHONDONTWRITEBYTECODE

# Whoever starts another process names one of these.
PROCESSES := ServerProcess|RealmServer|IntentContract|running_server|running_provider|subprocess|interlock\(|_all\(

.PHONY: run test check quick packages drift lint types unit coverage scenarios traces spec spec-deep walk model mutants long measures fuzz image docs generate npm bench screenshots lock clean help

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

run: $(STAMP)
	@$(BIN)/interlock serve --demo

test: packages $(STAMP) $(NODE_STAMP)
	@$(MAKE) --no-print-directory lint
	@rm -rf $(TRACES) && mkdir $(TRACES)
	@TEST_TRACES=$(TRACES) $(THREE) coverage scenarios types $(SPEC)
	@$(MAKE) --no-print-directory traces
	@echo "all of it passed"

check: $(STAMP)
	@$(TWO) lint types quick

quick: $(STAMP)
	$(BIN)/python -m tests.mutants --check
	$(BIN)/python -m pytest --quiet --no-header --numprocesses $(WORKERS) --dist worksteal -m 'not slow' \
	  $$(grep -rLE '$(PROCESSES)' --include='test_*.py' $(addprefix tests/,machine realms server spec transport mutants) | grep -vF $(addprefix -e ,$(WALKS)))

# What the tests use besides Python: curl for the tour in the README, Spin and a C compiler for the model, proxies and a browser for
# what stands in front, systemd-analyze for its unit, promtool (of prometheus) for metrics and alerts, a JDK for its HTTP client, Node for the libraries that check
# tokens there and for a generated client. The tests start what they need; no
# service has to run. Each is a command, and the package that has it after a colon if that is called otherwise.
PACKAGES := curl spin gcc nginx caddy haproxy systemd-analyze:systemd chromium prometheus javac:default-jdk-headless node:nodejs npm
packages:
	@PATH=$$PATH:/usr/sbin; for tool in $(PACKAGES); do command -v $${tool%:*} >/dev/null || missing="$$missing $${tool#*:}"; done; \
	test -z "$$missing" && exit; \
	echo "installing$$missing" >&2; \
	sudo=; test "$$(id -u)" = 0 || sudo=sudo; \
	command -v apt-get >/dev/null && { $$sudo apt-get install --yes --quiet $$missing libc6-dev >/dev/null \
	  || { $$sudo apt-get update --quiet >/dev/null && $$sudo apt-get install --yes --quiet $$missing libc6-dev >/dev/null; }; } \
	  || { echo "the tests need$$missing; install them and run this again" >&2; exit 1; }

# The committed files are what the declarations generate.
drift: $(STAMP) $(NODE_STAMP)
	$(BIN)/python -m interlock.spec.export --check
	$(BIN)/python -m interlock.server.experience.client.declared --check
	node tests/javascript/bundle.mjs --check

# make generate  write what is made from declarations: spec/generated/, and the browser client
generate: $(STAMP) $(NODE_STAMP)
	$(BIN)/python -m interlock.spec.export
	$(BIN)/python -m interlock.server.experience.client.declared
	node tests/javascript/bundle.mjs

# make lint      run ruff and the import rules
lint: $(STAMP)
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/lint-imports --no-logo

# make types     run mypy
types: $(STAMP)
	$(BIN)/mypy --no-error-summary

# make unit      run all tests, without lint, types, the model and coverage
unit: $(STAMP) $(NODE_STAMP)
	$(BIN)/python -m pytest

coverage: $(STAMP) $(NODE_STAMP)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses $(WORKERS) --dist worksteal $(addprefix --ignore=,$(OUTSIDE) $(WALKS))
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='spec/*,machine/*' --fail-under=100
	$(BIN)/coverage report --include='interlock/*,server/*' --fail-under=95

# make spec      check the declarations: their generated files are current, the model holds, each seeded bug is caught
# The longest first, so that both halves end together.
SPEC := mutants model walk drift
spec: $(STAMP)
	@$(TWO) --keep-going $(SPEC)

# Everything reachable in a small world, and every command put to each: the real decide and evolve. And without each guard.
walk: $(STAMP)
	$(BIN)/python -m pytest --quiet --no-header --tb=short $(WALKS) tests/machine/test_every_lifecycle.py

model: $(STAMP)
	$(BIN)/interlock check --mutants --jobs $(JOBS)

# The same model with deeper bounds: about ten minutes, and several GiB.
spec-deep: $(STAMP)
	$(BIN)/interlock check --deep --jobs 1

# Is what the tests' servers did an execution of the model? And did they do something with both?
traces: $(STAMP)
	$(BIN)/interlock check-trace --expect session --expect execution $(TRACES)

# Load, races, crashes, attacks and what the docs show, without the weight of coverage on the server.
scenarios: $(STAMP)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal $(OUTSIDE)

# Bugs seeded into the real code: each must be caught by the test of the property that it breaks. Their tests wait half of the time.
MUTANTS_AT_ONCE = $(shell echo $$(( $(JOBS) * 2 )))
mutants: $(STAMP)
	$(BIN)/python -m tests.mutants --jobs $(MUTANTS_AT_ONCE)
	$(BIN)/python -m tests.mutants --jobs $(MUTANTS_AT_ONCE) --connection

# What depends on chance, and more of it than fits into the time of `make test`.
# make long      repeat races, kills and random inputs several times as often, in about an hour
long: $(STAMP)
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal \
	  $$(grep -rlE 'often\(|from hypothesis' --include='test_*.py' tests)

# make measures  remove each measure that the page on OWASP ASVS relies on, one at a time: each time a test must fail
measures: $(STAMP)
	$(BIN)/python -m tests.mutants --measures

# make fuzz      fuzz every parser of untrusted input, for five minutes
fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz --seconds 300

# make image     build the container's image from an empty Debian by buildah, and run it read-only and as process 1; needs root
image:
	@sh tests/image.sh

# make docs      build the documentation into docs/_build/html
docs: $(STAMP)
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html docs docs/_build/html

# make npm       pack the browser client and the kit for Node as packages for npm, into dist/
DESTINATION := dist
npm:
	@mkdir -p $(DESTINATION)
	@npm pack --silent --pack-destination $(DESTINATION) ./server/experience/client ./interlock/node

# make screenshots  take pictures of console and demo into docs/_static/screens, in Chromium, in about a minute
screenshots: $(STAMP)
	$(BIN)/python -m tests.support.screenshots

# make bench     measure the figures of the performance page, in about twenty minutes
bench: $(STAMP)
	$(BIN)/python -m tests.bench

# The lock file is hashed and holds no registry address.
lock:
	$(PYTHON) -m pip install --quiet uv
	$(PYTHON) -m uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --quiet --output-file requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Interlock needs Python 3.11 or newer; set PYTHON=/path/to/it" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv \
	  || { echo "could not make .venv; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing into .venv: once, about a minute" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $(STAMP)

# The lock file is hashed, too, and no package runs anything when it is installed.
$(NODE_STAMP): tests/javascript/package-lock.json
	@npm ci --prefix tests/javascript --ignore-scripts --no-audit --no-fund --silent
	@touch $@

# make clean     remove the environment, caches and built pages; ./data stays
clean:
	rm -rf .venv tests/javascript/node_modules docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis .traces .import_linter_cache
