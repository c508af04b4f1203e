# Every target sets up what it needs: Python >= 3.11 and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-lowest test-newest check bench paper vela sweep results schema clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("cosma needs Python >= 3.11, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(READY)  ## compile DenseNet-121 for an 8 MiB Hexagon scratchpad, draw, verify and run the plan
	@mkdir -p out
	$(BIN)/cosma compile models/densenet121.onnx --hw hexagon_8mib --no-weights --check -o out/plan.json --plot out/map.png
	$(BIN)/cosma verify out/plan.json models/densenet121.onnx --hw hexagon_8mib

test: $(READY)  ## run the tests
	$(BIN)/pytest -n auto

test-slow: $(READY)  ## run the slow tests as well
	$(BIN)/pytest -n auto -m 'slow or not slow'

# Environments of their own for the oldest and the newest versions that pyproject.toml allows; PYTHON chooses the Python.
SUBSET := tests/frontend tests/execute/test_execute.py tests/execute/test_kernels.py tests/milp tests/schedule \
	tests/solvers/test_golden.py tests/reports/test_pages.py tests/target/test_hardware.py tests/cli/test_commands.py \
	tests/cli/test_solver_options.py

test-lowest:  ## run a subset of the tests with the lowest versions of all dependencies
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/pip install --quiet --disable-pip-version-check uv
	$(VENV)-lowest/bin/uv pip install --quiet --python $(VENV)-lowest/bin/python --resolution lowest-direct -e '.[dev]'
	$(VENV)-lowest/bin/pytest -n auto $(SUBSET)

test-newest:  ## run the same subset with the newest versions
	$(PYTHON) -m venv $(VENV)-newest
	$(VENV)-newest/bin/pip install --quiet --disable-pip-version-check --upgrade -e '.[dev]'
	$(VENV)-newest/bin/pytest -n auto $(SUBSET)

check: $(READY)  ## lint and type-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## time the phases of a compilation for every file of models/, into results/phases.csv
	$(BIN)/python -m benchmarks.measure phases

paper: $(READY)  ## run what is missing of the paper's evaluation, rewrite results/paper/ with its figures
	$(BIN)/python -m benchmarks.paper

vela: $(READY)  ## compare with Arm's Vela in an environment of its own, into results/vela.csv
	$(BIN)/python -m benchmarks.vela

NETWORKS := $(filter-out models/tiny_%,$(wildcard models/*.onnx)) $(wildcard models/small/*.onnx)

sweep: $(READY)  ## every network on every spec in all modes and the paper's, staircases in the paper's, into results/whatif/
	@mkdir -p results/whatif && rm -f results/whatif/*.csv
	$(BIN)/cosma whatif models/*.onnx --no-cache --dtype int8 --fusion pointwise --modes paper --scratchpad auto -o results/whatif/staircases.csv
	$(BIN)/cosma whatif $(NETWORKS) --no-cache --hw all --dtype int8 --dtype float16 --dtype float32 --modes all --modes paper --time-limit 20 -o results/whatif/rows.csv
	$(BIN)/cosma report results/whatif/rows.csv -o results/whatif/report.html
	$(BIN)/cosma report results/whatif/staircases.csv -o results/whatif/staircases.png

results: paper vela sweep  ## measure everything again and rewrite the README's tables and figures
	$(BIN)/python -m benchmarks.measure
	$(BIN)/python -m benchmarks.runs
	$(BIN)/python -m benchmarks.render

schema: $(READY)  ## write the JSON Schemas of plan and spec files
	for kind in plan target.spec; do $(BIN)/python -c "import json; from cosma.$$kind import json_schema; \
		print(json.dumps(json_schema(), indent=2))" > cosma/$${kind#target.}.schema.json; done

clean:  ## remove everything that the targets made
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-newest out .pytest_cache .mypy_cache .ruff_cache .hypothesis
