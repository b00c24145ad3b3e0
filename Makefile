# What a newcomer runs: "make demo" and "make test". Both make everything they need first, and are quick the second time.

PYTHON := .venv/bin/python
READY := .venv/.ready

.PHONY: help demo test check unit bench clean
help:
	@echo "make demo     play a first session with wherry (root)"
	@echo "make test     run all checks and tests (root; without it, those that need no containers)"
	@echo "make check    linters, types, and the floors of the packages"
	@echo "make unit     the tests that need neither root nor containers"
	@echo "make bench    measure wherry beside Docker and Podman, where they are installed (root)"
	@echo "make clean    remove everything that these made"

$(READY): pyproject.toml scripts/environment.sh
	@scripts/environment.sh

demo: $(READY)
	@scripts/demo.sh

test: check
	@scripts/fixtures.sh
	$(PYTHON) -m pytest $(PYTEST_ARGUMENTS)

check: $(READY)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports --no-cache

unit: $(READY)
	$(PYTHON) -m pytest tests/unit $(PYTEST_ARGUMENTS)

bench: $(READY)
	@scripts/fixtures.sh
	$(PYTHON) -m bench $(BENCH_ARGUMENTS)

clean:
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
