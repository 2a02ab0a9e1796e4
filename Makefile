# make demo    photo -> restored photo -> two proven mobile artifacts -> build/demo/report.html
# make test    formatter, linter, type checker, tests: what CI runs
# make clean   remove what these made

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: demo test clean
unexport PYTHONPATH PYTHONHOME

VENV := .venv
BIN := $(VENV)/bin
AFTERLENS := $(BIN)/afterlens
STAMP := $(VENV)/.installed
DEMO := build/demo

# Any interpreter that is a 3.11; override with `make PYTHON=/path/to/python3.11 ...`.
PYTHON ?= $(shell for p in python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo $$p && break; done)

# From here on nothing needs the network, and this says so to the libraries that might try.
OFFLINE := HF_HUB_OFFLINE=1
# Two test processes side by side: one thread each keeps them off each other's cores.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 \
	TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1

# The converter asks for opencv-python, which needs a desktop's libGL. The headless build of the same version has the
# same files without that, so it goes on top.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 is needed and was not found (python3.11, python3, python);" \
		"install it or give its path: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --force-reinstall \
		opencv-python-headless==$$(sed -n 's/^opencv-python==//p' constraints.txt)
	touch $@

KINDS := reflection shadow stain occlusion

demo: $(STAMP)
	@echo "The parts of build/demo are made one after the other; each shows its progress."
	$(OFFLINE) $(AFTERLENS) restore reflection tests/degraded -o $(DEMO)/restored
	$(OFFLINE) $(AFTERLENS) convert reflection -o $(DEMO)/bundle
	$(OFFLINE) $(AFTERLENS) verify $(DEMO)/bundle
	$(OFFLINE) $(AFTERLENS) bench $(DEMO)/bundle -o $(DEMO)/bench.json
	$(OFFLINE) $(AFTERLENS) report $(DEMO)/bundle --bench $(DEMO)/bench.json -o $(DEMO)/report.html \
		$(foreach kind,$(KINDS),--photo tests/degraded/$(kind).jpg=$(DEMO)/restored/$(kind).png)
	@echo "Open $(DEMO)/report.html"

test: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(OFFLINE) $(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist loadfile

clean:
	rm -rf $(VENV) build
