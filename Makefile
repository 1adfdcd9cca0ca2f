# Every target works on a machine that has only Python 3.11, make and git: the virtual environment is made when
# it is missing, and made again when pyproject.toml or constraints.txt changed.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
# Two processes more than there are processors, because some tests wait.
JOBS    = $(shell $(BIN)/python -c "import os; print(min(8, (os.cpu_count() or 1) + 2))")

.PHONY: help setup demo test tests fast soak lint format docs benchmark clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "==> Setting up $(VENV) (about 2 minutes and 7 GB the first time)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip uv
	@# uv takes a quarter of pip's time, but doesn't read pip's settings, for example of another package index.
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]' \
		|| $(BIN)/python -m pip install --progress-bar on --no-compile -c constraints.txt -e '.[dev]'
	@# Neither compiles 22,000 modules now. Those left out here are compiled when they are first imported.
	@$(BIN)/python -m compileall -qq -j 0 -x '/(tests?|testing|databricks|debugpy|mypy|pip|ray)/' $(VENV)/lib >/dev/null || true
	@touch $@

setup: $(VENV)/.installed  ## make the virtual environment

demo: setup  ## run the main job on the bundled or downloaded pictures
	$(BIN)/python -m nst.train style=starry_night optimizer=lbfgs
	@echo "==> To run the commands yourself: source $(BIN)/activate"

lint: setup  ## check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: setup  ## everything a change must pass
	@# Both at once: many tests wait for other processes, and the types take a minute.
	@$(MAKE) --no-print-directory -j 2 lint tests

tests: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

fast: setup  ## the tests that answer in a minute
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) -m "fast and not soak"

soak: setup  ## the tests that take hours: every way to stop a run, 20,000 evaluations, 200 runs, 1,000 configurations
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m soak

format: setup  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup  ## build the documentation, build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

benchmark: setup  ## time ours against a bare loop and the baseline's recipe, slim against VGG-19, and a sweep's next run
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.encoders
	$(BIN)/python -m benchmarks.next_run
	$(BIN)/python -m benchmarks.against_baseline evaluation --sizes 256 --pairs 5 --again

clean:  ## remove the virtual environment and the caches
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
