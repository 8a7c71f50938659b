# make        what there is to do
# make test   everything is checked, from a fresh clone too: .venv is made on the way

PYTHON ?= python3
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
COMPARE50 := autograder/similar/requirements.txt
LIBRARY := vaelib vae_exercises recipes tests/vaelib tests/vae_exercises tests/recipes

SHELL := bash
.NOTPARALLEL: # each step's output stays together, and pytest has the last word

.PHONY: help
help: ## show this list
	@echo "Usage: make TARGET"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' Makefile

.PHONY: course
course: sandbox book release sample ## make the course: the book, the exercises, a graded sample class
	@echo "==> The course is there"
	@echo "  to read:   _build/html/index.html        (make serve)"
	@echo "  to do:     build/vae-exercises.zip, for students; to try it here: make lab"
	@echo "  to grade:  build/sample-class/.autograder/3-kl.html, the report on the sample class"

.PHONY: book
book: $(INSTALLED) ## execute the chapters and build the book: _build/html/index.html
	@echo "==> The book"
	$(BIN)/python -m book

.PHONY: pdf
pdf: browser book ## print the whole book as one PDF, next to its pages
	@echo "==> The book on paper"
	$(BIN)/python -m book.paper

.PHONY: epub
epub: browser book ## pack the whole book as one EPUB, next to its pages
	@echo "==> The book for e-readers"
	$(BIN)/python -m book.epub

.PHONY: release
release: $(INSTALLED) ## release the exercises, and pack the students' folder
	@echo "==> The exercises"
	$(BIN)/python -m scripts.release

.PHONY: sample
sample: sandbox $(INSTALLED) ## grade a sample class of synthetic students
	@echo "==> A sample class"
	$(BIN)/python -m scripts.sample_class

.PHONY: test
test: system lint ## check everything: lint, format, types, all tests, doctests
	@echo "==> Tests of the library and of the exercises' checks, on all processors"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal $(LIBRARY)
	@echo "==> All other tests, which start processes of their own: two files at a time"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(addprefix --ignore=,$(LIBRARY))

.PHONY: coverage
coverage: $(INSTALLED) ## show which lines of the library and of the exercises no test runs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal --cov $(LIBRARY)

.PHONY: check
check: lint ## check what can be checked in under three minutes
	@echo "==> Fast tests"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "not slow and not browser"

.PHONY: lint
lint: $(INSTALLED)
	@echo "==> Lint, format, types"
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy

.PHONY: lab
lab: ALLOW_ROOT = $(if $(filter 0,$(shell id -u)),--allow-root) # most containers know only root
lab: $(INSTALLED) ## open JupyterLab on the exercises: exercises/, yours, never overwritten
	@$(BIN)/python -m scripts.exercises
	$(BIN)/python -m jupyterlab --LabApp.default_url=/lab/tree/exercises $(ALLOW_ROOT)

.PHONY: serve
serve: ## show the built book at http://localhost:8000; another port: PORT=8001
	@test -f _build/html/index.html || { echo "There is no book in _build/html yet: make book"; exit 1; }
	@$(PYTHON) -c 'import socket; socket.create_server(("127.0.0.1", $(PORT))).close()' 2>/dev/null || { \
	  echo "Port $(PORT) is not free. One that is: make serve PORT=0"; exit 1; }
	$(PYTHON) -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

# What a target needs of the system is looked for before its long steps.
.PHONY: sandbox
sandbox:
	@PYTHON="$(PYTHON)" scripts/system-packages bubblewrap

.PHONY: browser
browser:
	@PYTHON="$(PYTHON)" scripts/system-packages chromium

.PHONY: system
system: ## find or install what pip cannot: bubblewrap, Chromium, epubcheck, OpenSSL
	@PYTHON="$(PYTHON)" scripts/system-packages bubblewrap chromium epubcheck openssl

# From 4.25 on, jsonschema parses a grammar when it is imported: 1.4 s in every process that reads
# notebooks. From 3.0 on, soupsieve refuses Python 3.11.2, that of Debian 12.
HELD_BACK := 'jsonschema<4.25' 'soupsieve<3'

.PHONY: lock
lock: ## write constraints.txt anew (by the oldest Python: make lock PYTHON=python3.11)
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/python -m pip install -q -r requirements.txt $(HELD_BACK)
	@{ echo "# Locks what requirements.txt brings with it; made by: make lock"; \
	  build/lock/bin/python -m pip freeze --all --exclude pip -r requirements.txt \
	  | sed -E -e '1,/added by pip freeze/d' -e '/^(cuda|nvidia|triton)/d'; \
	} > build/constraints.txt
	mv build/constraints.txt constraints.txt

.PHONY: clean
clean: ## remove the book, build/ and caches; marks, release/, exercises/ and .venv stay
	rm -rf _build build chapters/exercises dist *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# The stamp is written last: an install that was stopped starts again.
$(INSTALLED): requirements.txt constraints.txt pyproject.toml autograder/pyproject.toml $(COMPARE50)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || { \
	  echo "The course needs Python 3.11 to 3.14, and $(PYTHON) is not one of them."; \
	  echo "Where another one is installed: make PYTHON=python3.12 …"; exit 1; }
	@PYTHON="$(PYTHON)" scripts/system-packages venv
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  echo "==> Making $(VENV)"; $(PYTHON) -m venv --clear $(VENV); }
	@echo "==> Installing; the first time takes a few minutes"
	@set -o pipefail; \
	$(BIN)/python -m pip install --disable-pip-version-check \
	  -r requirements.txt -c constraints.txt -e . -e ./autograder 2>&1 </dev/null | tee $(VENV)/install.log \
	  | grep --line-buffered -oE '(Downloading|Using cached) .*[MG]B\)|^Installing collected packages' \
	  || { tail -n 30 $(VENV)/install.log; exit 1; }
	@$(BIN)/python -m pip check
	@$(BIN)/python -m pip install -q --disable-pip-version-check --upgrade --no-deps \
	  --target $(VENV)/compare50 -r $(COMPARE50) # beside what pip checks: its bounds do not fit
	@touch $@
