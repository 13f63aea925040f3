# `make help` lists the targets. Everything is installed into .venv, with the exact versions of constraints.txt.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
SIMULATORS := $(VENV)/.simulators

# One thread per process: tests, notebooks and evaluation workers are what runs in parallel.
export OMP_NUM_THREADS ?= 1
export MUJOCO_GL ?= egl
JOBS ?= 2

PTRLIB      := $(shell find ptrlib -name '*.py')
# The book's pages are those of its table of contents; a notebook that waits for its runs is not among them.
NOTEBOOKS   := $(wildcard $(patsubst %,book/%.ipynb,$(shell sed -nE 's/^(root:|.*- file:) *//p' book/_toc.yml)))
EXECUTED    := $(NOTEBOOKS:book/%=build/book/%)
PAGES       := $(shell find book -type f -not -path 'book/_build/*' -not -path '*/.ipynb_checkpoints/*' -not -name '*.ipynb')
PUBLISHED   := $(wildcard experiments/published/*.csv)
# What another manifest starts from comes first.
MANIFESTS   := $(sort $(wildcard experiments/*pretrain*.yaml)) $(sort $(filter-out %pretrain.yaml,$(wildcard experiments/*.yaml)))

# The figures a notebook saves are read off the notebook itself.
saved_by     = $(shell grep -oE 'save_figure.[^,]*, *\\?"[A-Za-z0-9_-]+' $(1) | sed -E 's/.*"//')
# What stored runs hold, and what was measured on the policy they start from.
RUNS        := $(wildcard experiments/runs/*/done experiments/scene_identity/*.parquet)
ATTEMPTS    := $(wildcard experiments/demonstrators/*.csv)
KITCHEN     := $(wildcard experiments/demonstrators/robocasa/*.csv experiments/sheets/* experiments/runs/robocasa*/done)
MEASURED    := $(wildcard experiments/bench/results*/* experiments/bench/*.json)
# Method pages and the published numbers compute everything on the page, the demonstrators' page reads their
# recorded attempts, RoboCasa's these and its sheet, the speed page what was measured, and the others read stored runs.
runs_of      = $(if $(filter book/method/% book/published/%,$(1)),,$(if $(filter %/demonstrators.ipynb,$(1)),$(ATTEMPTS),$(if $(filter %/robocasa.ipynb,$(1)),$(KITCHEN),$(if $(filter %/speed.ipynb,$(1)),$(MEASURED),$(RUNS) $(MANIFESTS)))))

FIGURES     := $(foreach notebook,$(NOTEBOOKS),$(patsubst %,figures/%.pdf,$(call saved_by,$(notebook))))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup test book figures notebook runs demos simulators bench bench-libero bench-robocasa lint clean list-figures

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F '\t' '{ printf "  %-15s %s\n", $$1, $$2 }'
	@echo "  figures/X.pdf   one figure: runs the notebook that draws it, if it, its runs or ptrlib changed"

setup: $(READY) ## make .venv and install everything but the simulators (does nothing when up to date)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else "ptrlib pins its packages for Python 3.11 and found %d.%d; say which to use: make PYTHON=/path/to/python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

# torch alone first: a CPU build that pip already has at hand then satisfies everything that asks for torch.
$(READY): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install -e '.[book,dev,lerobot]' -c constraints.txt
	@touch $@

simulators: $(SIMULATORS) ## add the simulator packages (LIBERO, RoboCasa) to .venv

$(SIMULATORS): requirements/simulators.txt $(READY)
	$(BIN)/python -m pip install --no-deps --require-hashes -r requirements/simulators.txt
	@$(BIN)/python -c 'import ctypes.util; missing = [name for name in ("EGL", "GL") if not ctypes.util.find_library(name)]; \
	  print("Rendering needs the system library lib" + " and lib".join(missing) + "; on Debian: apt-get install libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri") if missing else None'
	@touch $@

test: $(READY) ## run the tests (those that step LIBERO or RoboCasa need `make simulators` first)
	@rm -f build/tests-failed; mkdir -p build
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder || touch build/tests-failed
	@$(BIN)/python -c 'import importlib.util as u; [print("Left out: every test that steps the real " + name + " simulator, because its packages are not installed; make simulators adds them.") for name in ("LIBERO", "RoboCasa") if not u.find_spec(name.lower())]'
	@test ! -e build/tests-failed

book: $(READY) figures/pipeline.pdf ## run every notebook and build the book into book/_build/html
	$(MAKE) --no-print-directory -j $(JOBS) $(EXECUTED)
	$(BIN)/python -m ptrlib.report.book
	@echo "The book is at book/_build/html/index.html"

figures: $(READY) figures/pipeline.pdf ## redraw the figures whose notebook, runs or ptrlib changed
	$(MAKE) --no-print-directory -j $(JOBS) $(sort $(FIGURES))

list-figures:
	@printf '%s\n' figures/pipeline.pdf $(sort $(FIGURES))

figures/pipeline.pdf: ptrlib/report/pipeline.py | $(READY)
	$(BIN)/python -m ptrlib.report.pipeline

# One execution writes the executed copy and all of the notebook's figures.
define notebook_rule
build/book/$(1) $(patsubst %,figures/%.pdf,$(call saved_by,book/$(1))) &: book/$(1) $(PTRLIB) $(PUBLISHED) $(call runs_of,book/$(1)) | $(READY)
	$(BIN)/ptrlib notebook $(basename $(1))
endef
$(foreach notebook,$(NOTEBOOKS:book/%=%),$(eval $(call notebook_rule,$(notebook))))
build/book/index.ipynb: README.md  # whose findings it says in short

notebook: $(READY) ## run one notebook with other parameters: make notebook NB=results/corruption_robustness P="seeds=3 source=fresh"
	@test -n "$(NB)" || { echo 'Say which notebook: make notebook NB=corruption_robustness P="name=value ...". There are: $(sort $(basename $(NOTEBOOKS:book/%=%)))'; exit 2; }
	$(BIN)/ptrlib notebook $(NB) $(P)

runs: $(READY) ## train and evaluate what the manifests in experiments/ ask for and is not stored yet
	$(BIN)/ptrlib run $(MANIFESTS)

demos: $(SIMULATORS) ## record the LIBERO and RoboCasa demonstrations that the manifests ask for
	$(BIN)/ptrlib demos --suite libero_spatial --episodes 10 --seed 1 --out data/libero_pretrain
	$(BIN)/ptrlib demos --suite libero_spatial --episodes 50 --seed 0 --out data/libero
	$(BIN)/ptrlib demos --world robocasa --suite robocasa_six --episodes 40 --seed 1 --styles precise noisy recovery --out data/robocasa_pretrain
	$(BIN)/ptrlib demos --world robocasa --suite robocasa_six --episodes 20 --seed 0 --out data/robocasa
	$(BIN)/ptrlib demos --world robocasa --suite robocasa_six --episodes 50 --seed 0 --out data/robocasa_fifty
	$(BIN)/ptrlib demos --world robocasa --suite robocasa_six --episodes 30 --seed 0 --styles precise --out data/robocasa_precise
	$(BIN)/ptrlib demos --world robocasa --suite robocasa_passing --episodes 12 --seed 1 --styles precise noisy recovery --out data/robocasa_pretrain
	$(BIN)/ptrlib demos --world robocasa --suite robocasa_passing --episodes 10 --seed 0 --out data/robocasa
	$(BIN)/ptrlib demos --world robocasa --suite robocasa_passing --episodes 30 --seed 1 --styles precise --out data/robocasa_pretrain_precise
	$(BIN)/ptrlib demos --world robocasa --suite robocasa_passing --episodes 20 --seed 0 --styles precise --out data/robocasa_precise

bench: $(READY) ## what a step of PTR costs, and how fast each stage is: measures what the speed page shows
	$(BIN)/python experiments/bench/speed.py

bench-libero: $(SIMULATORS) ## episodes per minute: our evaluation against a loop over the stock environment
	$(BIN)/python experiments/bench/libero_speed.py

bench-robocasa: $(SIMULATORS) ## the same for RoboCasa's kitchen
	$(BIN)/python experiments/bench/robocasa_speed.py

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy ptrlib

clean: ## remove what was built (keeps .venv, data and stored runs)
	rm -rf build book/_build .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -type d -prune -exec rm -rf {} +
