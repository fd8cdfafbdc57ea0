# What a checkout needs, from a bare machine with Python 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3
UV_VERSION := 0.13.9
UV := .venv/bin/uv
VENV := .venv/bin
export UV_PYTHON_DOWNLOADS := never
export LITELLM_LOCAL_MODEL_COST_MAP := True
# Images of containers like to set it. Without bytecode every engine compiles what it imports: 36 s instead of 14.
unexport PYTHONDONTWRITEBYTECODE

# Which torch quantizes: cuda, rocm or cpu (locks/torch-*.txt). PyTorch publishes the other two on an index of its own.
TORCH ?= cuda
TORCH_BACKEND_cpu := cpu
TORCH_BACKEND_rocm := rocm7.2

.PHONY: help envs demo demo-pools sweep test test-all unit integration engines engines-more upstream fuzz soak timed generate docs lint format lock lock-pypi lock-torch clean \
	images cluster cluster-load cluster-down cluster-tests cluster-fast cluster-more cluster-faults cluster-argocd cluster-real cluster-demo cluster-scale rehearsal gpu-check

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16

envs: .venv/.ready .venvs/runner/.ready-$(TORCH) .venvs/serving/.ready  ## the three Python environments; TORCH=rocm or cpu: what quantizes

.venv/.uv:
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet uv==$(UV_VERSION)
	@touch $@

.venv/.ready: .venv/.uv locks/operator.txt pyproject.toml
	@echo "installing the control plane's environment" >&2
	$(UV) pip install --quiet --python .venv/bin/python --no-deps --require-hashes -r locks/operator.txt
	$(UV) pip install --quiet --python .venv/bin/python --no-deps --editable .
	@touch $@

.venvs/%/.ready: locks/%.txt pyproject.toml | .venv/.uv
	@echo "installing the $* environment (several GB, about half a minute)" >&2
	test -x .venvs/$*/bin/python || $(UV) venv --quiet --python .venv/bin/python .venvs/$*
	$(UV) pip install --quiet --python .venvs/$*/bin/python --no-deps --require-hashes -r locks/$*.txt
	$(UV) pip install --quiet --python .venvs/$*/bin/python --no-deps --editable .
	@touch $@

.venvs/runner/.ready-$(TORCH): locks/runner.txt locks/torch-$(TORCH).txt pyproject.toml | .venv/.uv
	@echo "installing the runner environment (torch for $(TORCH): several GB, about half a minute)" >&2
	test -z "$(wildcard .venvs/runner/.ready-*)" -o -e $@ || rm -rf .venvs/runner
	test -x .venvs/runner/bin/python || $(UV) venv --quiet --python .venv/bin/python .venvs/runner
	$(UV) pip install --quiet --python .venvs/runner/bin/python --no-deps --require-hashes -r locks/runner.txt
	$(UV) pip install --quiet --python .venvs/runner/bin/python --no-deps $(addprefix --torch-backend ,$(TORCH_BACKEND_$(TORCH))) -r locks/torch-$(TORCH).txt
	$(UV) pip install --quiet --python .venvs/runner/bin/python --no-deps --editable .
	@rm -f .venvs/runner/.ready-* && touch $@

.venvs/docs/.ready: locks/docs.txt | .venv/.uv
	test -x .venvs/docs/bin/python || $(UV) venv --quiet --python .venv/bin/python .venvs/docs
	$(UV) pip install --quiet --python .venvs/docs/bin/python --no-deps --require-hashes -r locks/docs.txt
	@touch $@

# HAQA_TEST_ISA=avx2 (avx512, avx512_vnni, avx512_bf16, avx512_fp16): as on a CPU with nothing wider (docs/development.md).
AS_CPU := $(if $(HAQA_TEST_ISA),$(VENV)/python -m tests.older_cpu.run $(HAQA_TEST_ISA))

demo: envs  ## make the demo model and tune it on this machine
	$(AS_CPU) $(VENV)/haqa model demo
	$(AS_CPU) $(VENV)/haqa tune examples/demo.yaml

demo-pools: envs  ## the same model on two node types: this machine, and its instruction set capped
	$(AS_CPU) $(VENV)/haqa model demo
	$(AS_CPU) $(VENV)/haqa tune examples/demo-two-pools.yaml

sweep: envs  ## every combination of benchmarks/sweep/cpu.yaml: 75 minutes on a quiet machine with AVX512; with SWEEP="--concurrency 4 --output-tokens 16 --samples 8" 102 with AVX2 alone
	$(AS_CPU) $(VENV)/haqa model demo
	$(AS_CPU) $(VENV)/python -m benchmarks.sweep $(SWEEP)

unit: .venv/.ready  ## fast tests, no engine
	$(VENV)/python -m pytest -n 2 tests/unit

INTEGRATION := tests/integration/test_settings_of_installed_vllm.py tests/integration/test_selection_of_installed_vllm.py \
	tests/integration/test_report_in_chromium.py \
	tests/integration/test_prometheus.py tests/integration/test_alerts.py

integration: envs .cache/chromium.ready .cache/prometheus.ready  ## the installed vLLM, a real browser, a real Prometheus
	$(AS_CPU) $(VENV)/python -m pytest $(INTEGRATION)

upstream: envs  ## VLLM=0.33.0 (default: the newest known): HAQA's tables against a GPU wheel, unpacked; 3 minutes on 2 cores
	VLLM=$(VLLM) $(VENV)/python -m pytest tests/upstream

.venv/.fuzz: .venv/.ready locks/fuzz.txt
	$(UV) pip install --quiet --python .venv/bin/python --no-deps --require-hashes -r locks/fuzz.txt
	@touch $@

fuzz: .venv/.fuzz  ## SECONDS=60 TARGETS="agent-reply table": whatever reads input from outside, given what nobody would write
	$(VENV)/python -m tests.fuzz --seconds $(or $(SECONDS),60) $(TARGETS)

soak: .venv/.ready  ## HOURS=6: so many hours of tunings that come, end and go, in minutes; fails where memory grows
	$(VENV)/python -m tests.soak --hours $(or $(HOURS),6)

# They judge timings, so a busy machine fails them: on a quiet one, by hand.
TIMED := tests/integration/test_measure_vllm.py tests/integration/test_measure_guidellm.py

ENGINES := $(filter-out $(INTEGRATION) $(TIMED),$(wildcard tests/integration/test_*.py))

engines: envs  ## against real llm-compressor and real vLLM engines: about 8 minutes on 2 cores
	$(AS_CPU) $(VENV)/python -m pytest -m "not nightly and not real" $(ENGINES)

engines-more: envs  ## tunings with real engines: killed at every stage, with checkpoints and adapters; all families: about 15 minutes
	$(AS_CPU) $(VENV)/python -m pytest -m nightly $(ENGINES)

timed: envs  ## the measuring of real engines, on a quiet machine
	$(AS_CPU) $(VENV)/python -m pytest $(TIMED)

cluster: .venv/.ready  ## a real Kubernetes on this machine, without Docker; needs root and Go
	@$(VENV)/python -m tests.cluster.local_cluster start

cluster-load: .venv/.ready  ## IMAGES="a.tar python prometheus s3 operator": images for the nodes of `make cluster`
	@$(VENV)/python -m tests.cluster.local_cluster load $(IMAGES)

images: .venv/.ready  ## IMAGES="operator runner" (default: operator): built with podman into .cache/images/
	@$(VENV)/python -m tests.cluster.image_building $(or $(IMAGES),operator)

cluster-down: .venv/.ready  ## stop it
	@$(VENV)/python -m tests.cluster.local_cluster stop

CLUSTER_FAULTS := $(addprefix tests/cluster/test_,agent_faults.py bad_line.py crashes.py disruptions.py faults.py \
	prometheus_in_cluster.py stuck.py)
REHEARSAL := tests/cluster/test_rehearsal.py
ARGOCD := tests/cluster/test_argocd.py
CLUSTER := $(filter-out $(CLUSTER_FAULTS) $(REHEARSAL) $(ARGOCD),$(wildcard tests/cluster/test_*.py))
CLUSTER_BUILD = $(VENV)/python -m tests.cluster.local_cluster $(if $(HAQA_TEST_KUBECONFIG),tools,build)

# On a cluster of their own, or the one of HAQA_TEST_KUBECONFIG.
cluster-fast: .venv/.ready  ## the cluster, the definitions, the chart, and the operator with stub engines and the chart's rights
	@$(CLUSTER_BUILD)
	$(VENV)/python -m pytest -m "not nightly and not real" $(CLUSTER)

cluster-more: .venv/.ready  ## failing trials in real pods, what becomes of answers, a bucket, the operator installed by Helm
	@$(CLUSTER_BUILD) all
	$(VENV)/python -m pytest -m nightly $(CLUSTER)

cluster-faults: .venv/.ready  ## crashes, lost nodes, outages, a real Prometheus
	@$(CLUSTER_BUILD) all
	$(VENV)/python -m pytest $(CLUSTER_FAULTS)

cluster-argocd: .venv/.ready  ## tunings in Git with a real Argo CD (built the first time, 5 minutes)
	@$(CLUSTER_BUILD)
	$(VENV)/python -m pytest $(ARGOCD)

cluster-tests: cluster-fast cluster-more cluster-faults  ## all three

cluster-scale: .venv/.ready  ## SCALE="--nodes 500 --waiting 1000 --running 50": what the operator costs then, and how soon it acts; 20 minutes
	$(VENV)/python -m tests.cluster.scale.measure $(SCALE)

rehearsal: .venv/.ready  ## a model of 70 billion parameters tuned on L40S, H100 and MI300X that are played; prints what won, and why
	@$(VENV)/python -m tests.cluster.local_cluster build
	$(VENV)/python -m pytest -s $(REHEARSAL)

cluster-demo: envs  ## a cluster, the operator from its image, a tuning of the demo model with real engines; needs root and Go
	$(VENV)/haqa model demo
	$(VENV)/python -m tests.cluster.real.demo

cluster-real: envs  ## one tuning of two node types with real engines in pods, on a cluster of its own
	test -n "$(HAQA_DEMO_MODEL)" || $(VENV)/haqa model demo
	@$(CLUSTER_BUILD) all
	HAQA_CLUSTER_NODES=tests/cluster/real/nodes.yaml $(VENV)/python -m pytest -m real -s tests/cluster

test: lint unit cluster-fast integration engines  ## what every change has to pass

test-all: test engines-more cluster-more cluster-faults cluster-argocd rehearsal timed cluster-real  ## that and the rest, every night: about two hours on a quiet machine

# The report is opened in a real browser.
.cache/chromium.ready:
	command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; }
	@mkdir -p .cache && touch $@

# Windows are read from a real Prometheus; the tests start it themselves.
.cache/prometheus.ready:
	command -v prometheus >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus >/dev/null; }
	@mkdir -p .cache && touch $@

generate: .venv/.ready  ## crds/, the chart's copy, rules, values and schema, Argo CD's settings, docs/reference.md and the tables of docs/, from the code
	$(VENV)/python -m haqa_operator.api.crd
	$(VENV)/python -m haqa_operator.api.argocd
	$(VENV)/python -m haqa_operator.cluster.policy.chart
	$(VENV)/python -m charts.values
	$(VENV)/python -m haqa_operator.search.engine_defaults.document docs/searching.md

docs: .venvs/docs/.ready  ## the documentation as a site in site/, its links and anchors checked
	NO_MKDOCS_2_WARNING=1 .venvs/docs/bin/mkdocs build

# The device decides which torch quantizes and which vLLM serves; AMD's vLLM comes as an image only, so name its Python in
# HAQA_SERVING_PYTHON there. HARDWARE: as nodePools[].hardware, in JSON.
DEVICE := $(if $(wildcard /dev/nvidia[0-9]* /dev/dxg),cuda,$(if $(wildcard /dev/kfd),rocm,cpu))
SERVING_cuda := .venvs/serving-cuda
SERVING_cpu := .venvs/serving

CHECKED_TORCH := $(if $(filter rocm,$(DEVICE)),rocm,cuda)
CHECKED := $(if $(HAQA_SERVING_PYTHON),,$(SERVING_$(DEVICE)))

gpu-check:  ## what works on this machine's accelerator, as a table to paste into an issue: under 10 minutes
	$(if $(HAQA_SERVING_PYTHON)$(CHECKED),,$(error HAQA_SERVING_PYTHON is empty: name the Python that has vLLM for ROCm))
	@$(MAKE) TORCH=$(CHECKED_TORCH) .venv/.ready .venvs/runner/.ready-$(CHECKED_TORCH) $(addsuffix /.ready,$(CHECKED))
	$(if $(CHECKED),HAQA_SERVING_PYTHON=$(CHECKED)/bin/python) $(AS_CPU) $(VENV)/python -m benchmarks.gpu_check \
		$(if $(HARDWARE),--hardware '$(HARDWARE)')

lint: .venv/.ready  ## style, types and layers
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy operator runner tests benchmarks charts
	$(VENV)/lint-imports

format: .venv/.ready  ## apply the style
	$(VENV)/ruff check --fix .
	$(VENV)/ruff format .

LOCK := $(UV) pip compile -q --no-header --no-emit-index-url --generate-hashes

lock: lock-pypi lock-torch  ## resolve the lock files again

lock-pypi: .venv/.uv  ## those for which PyPI is enough
	$(LOCK) pyproject.toml --extra operator --group dev -o locks/operator.txt
	$(LOCK) pyproject.toml --extra operator -c locks/operator.txt -o locks/operator-image.txt
	$(LOCK) --group build -o locks/build.txt
	$(LOCK) --group docs -o locks/docs.txt
	$(LOCK) --group fuzz -o locks/fuzz.txt
	$(LOCK) pyproject.toml --extra runner --override locks/runner.override.txt -o locks/runner.txt
	$(LOCK) --group torch -c locks/runner.txt -o locks/torch-cuda.txt
	$(LOCK) pyproject.toml --extra serving-cpu --override locks/serving.override.txt -o locks/serving.txt
	$(LOCK) pyproject.toml --extra serving-cuda -o locks/serving-cuda.txt

lock-torch: .venv/.uv  ## those of torch for AMD and for CPUs, from PyTorch's own index (uv knows it)
	$(LOCK) --group torch -c locks/runner.txt --torch-backend $(TORCH_BACKEND_rocm) -o locks/torch-rocm.txt
	$(LOCK) --group torch -c locks/runner.txt --torch-backend $(TORCH_BACKEND_cpu) -o locks/torch-cpu.txt

clean:  ## forget results and the demo model; environments stay
	rm -rf results demo .cache
