# What a newcomer runs: "make demo" and "make test". Both make everything they need first, and are quick the second time.

PYTHON := .venv/bin/python
READY := .venv/.ready

.PHONY: help demo root test check unit bench soak walls test-guest bytecode fixtures clean
help:
	@echo "make demo     play a first session with wherry"
	@echo "make test     run all checks and tests (root; without it, those that need no containers)"
	@echo "make check    linters, types, and the floors of the packages"
	@echo "make unit     the tests that need neither root nor containers"
	@echo "make bench    measure wherry beside Docker and Podman, where they are installed (root)"
	@echo "make soak     twenty clients, while all that an engine consists of is killed: MINUTES=8 (root)"
	@echo "make walls    take each wall out in turn, and see which tests notice: scripts/clean_room.sh debian-12 walls (root)"
	@echo "make test-guest   the tests of containers in a virtual machine with systemd, cgroup v2, Debian's kernel (root, hours)"
	@echo "make clean    remove everything that these made"

$(READY): pyproject.toml scripts/environment.sh
	@scripts/environment.sh

# The CLI's time to start is from bytecode; with PYTHONDONTWRITEBYTECODE nothing else writes it after a change
bytecode: $(READY)
	@$(PYTHON) -m compileall -q src

fixtures: bytecode
	@scripts/fixtures.sh

demo: BEGUN := $(shell date +%s%3N)
demo: bytecode
	@BEGUN=$(BEGUN) scripts/demo.sh

root:
	@[ "$$(id -u)" = 0 ] || { echo "this needs root: run it with sudo" >&2; exit 1; }

test: check fixtures
	$(PYTHON) -m pytest $(PYTEST_ARGUMENTS)

check: $(READY)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy -p wherry -p bench -p tests.support
	.venv/bin/lint-imports --no-cache
	$(PYTHON) scripts/import_circles.py

unit: $(READY)
	$(PYTHON) -m pytest tests/unit $(PYTEST_ARGUMENTS)

bench: fixtures
	$(PYTHON) -m bench $(BENCH_ARGUMENTS)

soak: root fixtures
	$(PYTHON) -m tests.soak $(MINUTES) $(SOAK_ARGUMENTS)

# Attacks succeed where a wall is missing, and leave files in the root folder: for a clean room
walls: root fixtures
	$(PYTHON) scripts/walls.py $(WALLS_ARGUMENTS)

# GUEST_ARGUMENTS="debian-12 tests/integration/test_cgroups.py"
test-guest: root
	scripts/guest_tests.sh $(or $(GUEST_ARGUMENTS),debian-13)

clean:
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
