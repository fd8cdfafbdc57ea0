"""Tunings that ask for more or less, and policies: one table for the operator's check and the API server's rules."""

from __future__ import annotations

import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from haqa_operator.cluster.policy import Policy

VALID: dict[str, Any] = {
    "apiVersion": "haqa.dev/v1alpha1",
    "kind": "QuantizationTuning",
    "metadata": {"name": "demo"},
    "spec": {
        "model": {"uri": "hf://org/model"},
        "nodePools": [{"name": "a"}, {"name": "b"}],
        "artifacts": {"pvc": "artifacts"},
    },
}
DIGEST = "sha256:" + "0" * 64

Edit = tuple[str, Any]
"""Path below `spec`, entries of lists by number, and what is put there."""

REFUSED: dict[str, tuple[Edit, ...]] = {
    "spec.nodePools[a].image: evil/vllm-openai:v1 is not allowed; allowed: vllm/vllm-openai, vllm/vllm-openai-*, "
    "docker.io/vllm/vllm-openai, docker.io/vllm/vllm-openai-*; policy.images of the chart opens more": (
        ("nodePools.0.image", "evil/vllm-openai:v1"),
    ),
    "spec.nodePools[b].image: docker.io.evil.example/vllm/vllm-openai:v1 is": (
        ("nodePools.1.image", "docker.io.evil.example/vllm/vllm-openai:v1"),
    ),
    "spec.nodePools[a].image: vllm/vllm-openai/other is": (("nodePools.0.image", "vllm/vllm-openai/other"),),
    "spec.nodePools[a].image: vllm/vllm-openaiish is": (("nodePools.0.image", "vllm/vllm-openaiish"),),
    "spec.nodePools[a].image: VLLM/vllm-openai is": (("nodePools.0.image", "VLLM/vllm-openai"),),
    "spec.nodePools[b].env: LD_PRELOAD is": (("nodePools.1.env", {"LD_PRELOAD": "x", "VLLM_CPU_KVCACHE_SPACE": "1"}),),
    "spec.search.fixedEngine: OMP_TOOL_LIBRARIES is": (
        ("search", {"fixedEngine": {"OMP_TOOL_LIBRARIES": "x", "max-num-seqs": 4}}),
    ),
    "spec.search.engine: TRITON_CACHE_DIR is": (("search", {"engine": {"TRITON_CACHE_DIR": ["x"]}}),),
    "spec.nodePools[b].env.VLLM_CPU_OMP_THREADS_BIND: /etc/passwd is": (
        ("nodePools.1.env", {"VLLM_CPU_OMP_THREADS_BIND": "/etc/passwd", "VLLM_CPU_KVCACHE_SPACE": "1"}),
    ),
    'spec.search.fixedEngine.compilation-config: {"backend": "evil.backend"} is not allowed; allowed beside words and '
    "numbers: none; policy.engineTexts of the chart opens more": (
        ("search", {"fixedEngine": {"compilation-config": '{"backend": "evil.backend"}', "max-num-seqs": 4}}),
    ),
    'spec.search.fixedEngine.compilation-config: {"debug_dump_path": "\\u002fmodels"} is': (
        ("search", {"fixedEngine": {"compilation-config": '{"debug_dump_path": "\\u002fmodels"}'}}),
    ),
    'spec.search.engine.speculative-config: {"model": "org/draft", "num_speculative_tokens": 3} is': (
        (
            "search",
            {
                "engine": {
                    "max-num-seqs": [4, 8],
                    "speculative-config": [
                        '{"method": "ngram", "num_speculative_tokens": 3}',
                        '{"model": "org/draft", "num_speculative_tokens": 3}',
                    ],
                }
            },
        ),
    ),
    "spec.search.engine.spec-model: ../draft is": (("search", {"engine": {"spec-model": ["none", "../draft"]}}),),
    "spec.search.fixedEngine.chat-template: ~root is": (("search", {"fixedEngine": {"chat-template": "~root"}}),),
    "spec.model.uri: s3://bucket/model is": (("model.uri", "s3://bucket/model"),),
    "spec.model.uri: pvc://others/model is": (("model.uri", "pvc://others/model"),),
    "spec.model.uri: pvc://models/../others is": (("model.uri", "pvc://models/../others"),),
    "spec.model.uri: pvc://models/.. is": (("model.uri", "pvc://models/.."),),
    "spec.model.uri: pvc://models/%2e%2E/others is": (("model.uri", "pvc://models/%2e%2E/others"),),
    "spec.model.uri: pvc://models/a%2F.%2e%2fothers is": (("model.uri", "pvc://models/a%2F.%2e%2fothers"),),
    "spec.calibration.dataset: hf://datasets/%2e%2e/tmp is": (
        ("calibration", {"dataset": "hf://datasets/%2e%2e/tmp"}),
    ),
    "spec.model.variants[theirs].uri: s3://bucket/x is": (
        ("model.variants", [{"label": "ours", "uri": "hf://a/b"}, {"label": "theirs", "uri": "s3://bucket/x"}]),
    ),
    "spec.model.adapters[sql].uri: s3://bucket/sql is": (
        ("model.adapters", [{"name": "sql", "uri": "s3://bucket/sql"}]),
    ),
    "spec.model.uri: hf://org/model is not allowed; allowed: none; policy.remoteCode of the chart opens more": (
        ("model.trustRemoteCode", True),
    ),
    "spec.calibration.dataset: file:///proc/self/environ is": (
        ("calibration", {"dataset": "file:///proc/self/environ"}),
    ),
    "spec.evaluation.dataset: s3://bucket/text.jsonl is": (("evaluation", {"dataset": "s3://bucket/text.jsonl"}),),
    "spec.workload.dataset: file:///store/x.jsonl is": (("workload", {"dataset": "file:///store/x.jsonl"}),),
    "spec.evaluation.taskPath: /models/tasks is": (("evaluation", {"taskPath": "/models/tasks"}),),
    "spec.artifacts.pvc: pvc://others is": (("artifacts", {"pvc": "others"}),),
    "spec.artifacts.s3: s3://bucket/x is": (("artifacts", {"s3": "s3://bucket/x"}),),
    "spec.search.agent.apiBase: http://internal/v1 is not allowed; allowed: none; policy.agentEndpoints of the chart "
    "opens more": (("search", {"agent": {"model": "openai/x", "apiBase": "http://internal/v1"}}),),
    "spec.model.tokenSecretRef.name: hub is": (("model.tokenSecretRef", {"name": "hub"}),),
    "spec.search.agent.secretRef.name: llm is": (
        ("search", {"agent": {"model": "openai/x", "secretRef": {"name": "llm"}}}),
    ),
    "spec.nodePools[a].podTemplate.imagePullSecrets[].name: registry is": (
        ("nodePools.0.podTemplate", {"imagePullSecrets": [{"name": "registry"}]}),
    ),
    "spec.nodePools[a].tolerations[].key: every taint is": (
        ("nodePools.0.tolerations", [{"key": "nvidia.com/gpu", "operator": "Exists"}, {"operator": "Exists"}]),
    ),
    "spec.nodePools[b].tolerations[].key: node-role.kubernetes.io/control-plane is": (
        ("nodePools.1.tolerations", [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]),
    ),
    "spec.nodePools[a].deviceResource: devices.kubevirt.io/kvm is": (
        ("nodePools.0.deviceResource", "devices.kubevirt.io/kvm"),
    ),
    "spec.nodePools[a].resourceClaimTemplate: gpus is": (("nodePools.0.resourceClaimTemplate", "gpus"),),
    "spec.nodePools[a].podTemplate.runtimeClassName: nvidia is": (
        ("nodePools.0.podTemplate", {"runtimeClassName": "nvidia"}),
    ),
    "spec.nodePools[b].podTemplate.supplementalGroups: 993 is": (
        ("nodePools.1.podTemplate", {"supplementalGroups": [993]}),
    ),
    "spec.nodePools[a].podTemplate.priorityClassName: system-cluster-critical is": (
        ("nodePools.0.podTemplate", {"priorityClassName": "system-cluster-critical"}),
    ),
    "spec.nodePools[a].podTemplate.serviceAccountName: admin is": (
        ("nodePools.0.podTemplate", {"serviceAccountName": "admin"}),
    ),
    "spec.nodePools[a].podTemplate.schedulerName: own is": (("nodePools.0.podTemplate", {"schedulerName": "own"}),),
    "spec.nodePools[a].podTemplate.labels: app is": (("nodePools.0.podTemplate", {"labels": {"app": "postgres"}}),),
    "spec.nodePools[a].podTemplate.annotations: k8s.v1.cni.cncf.io/networks is": (
        ("nodePools.0.podTemplate", {"annotations": {"k8s.v1.cni.cncf.io/networks": "host"}}),
    ),
    "spec.output.deployment.adopt: true is not allowed; policy.adopt of the chart opens it": (
        ("output", {"deployment": {"adopt": True}}),
    ),
    "spec.budget.maxTrials: 1001 is not allowed; at most 1000; policy.maxTrials of the chart raises it": (
        ("budget", {"maxTrials": 1001}),
    ),
}
"""What the default policy says, or how that begins."""

ALLOWED: tuple[tuple[Edit, ...], ...] = (
    (),
    (("nodePools.0.image", "vllm/vllm-openai"),),
    (("nodePools.0.image", "vllm/vllm-openai:v0.33.0"), ("nodePools.1.image", f"vllm/vllm-openai@{DIGEST}")),
    (("nodePools.0.image", f"docker.io/vllm/vllm-openai-cpu:v0.33.0@{DIGEST}"),),
    (("nodePools.0.env", {"ONEDNN_MAX_CPU_ISA": "AVX2", "VLLM_CPU_KVCACHE_SPACE": "4"}),),
    (("search", {"engine": {"max-num-seqs": [4, 8]}, "fixedEngine": {"VLLM_USE_V1": True, "seed": 3}}),),
    (
        (
            "search",
            {
                "engine": {
                    "max-model-len": ["25.6k", "auto", 8192],
                    "gpu-memory-utilization": [0.9, "0.95"],
                    "enforce-eager": [True, False],
                },
                "fixedEngine": {
                    "compilation-config": '{"mode": 3, "custom_ops": ["+rms_norm", "none"], "splitting_ops": []}',
                    "hf-overrides": '{"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}',
                    "numa-bind-cpus": "0-3,4-7",
                },
            },
        ),
        ("nodePools.0.env", {"HSA_OVERRIDE_GFX_VERSION": "11.0.0", "OMP_NUM_THREADS": "8"}),
    ),
    (("model.uri", "pvc://models/llama"),),
    (("model.uri", "hf://org/name@main"), ("model.variants", [{"label": "fp8", "uri": "hf://org/name-fp8"}])),
    (("model.trustRemoteCode", False),),
    (("calibration", {"dataset": "hf://datasets/org/name?split=train&field=text"}),),
    (("nodePools.0.tolerations", [{"key": "nvidia.com/gpu", "operator": "Exists"}]),),
    (("nodePools.0.deviceResource", "nvidia.com/mig-3g.40gb"),),
    (("search", {"agent": {"model": "openai/x"}}),),
    (("budget", {"maxTrials": 1000, "maxGpuHours": 2.5}), ("parallelTrials", 4)),
    (("output", {"deployment": {"adopt": False, "replicas": 3}}),),
    (("nodePools.0.podTemplate", {"resources": {"requests": {"cpu": 8}}}),),
    (("suspend", True),),
)

_GIT = {"url": "https://git.example/o/r.git", "path": ".", "secretRef": {"name": "llm"}}
_PULL_REQUEST = {"provider": "Gitea", "apiBase": "https://internal.example/api"}

OTHERS: tuple[tuple[Edit, ...], ...] = (
    (("output", {"mode": "Git", "git": _GIT}),),
    (("output", {"mode": "Git", "git": {**_GIT, "url": "git@git.example:o/r.git"}}),),
    (("output", {"mode": "Git", "git": {**_GIT, "pullRequest": _PULL_REQUEST}}),),
    (("search", {"fixedEngine": {"speculative-config": '{"method": "eagle3", "model": "org/a.b", "x": 3}'}}),),
    (("search", {"fixedEngine": {"speculative-config": '{"model": "org/x", "quantization": "a/b"}'}}),),
    (("search", {"fixedEngine": {"speculative-config": '{"model": "org/x\\", \\"y\\": \\"a"}'}}),),
    (("search", {"fixedEngine": {"speculative-config": '{"model": "org/x/y"}'}}),),
    (("search", {"fixedEngine": {"speculative-config": '{"model": "org/.."}'}}),),
    (("search", {"fixedEngine": {"speculative-config": '"org/x" and "more'}}),),
    (("search", {"fixedEngine": {"additional-config": "org/x"}}),),
    (("nodePools.0.env", {"LD_PRELOAD": "/usr/lib/x86_64-linux-gnu/libtcmalloc.so.4"}),),
    (("nodePools.0.env", {"LD_PRELOAD": "/usr/lib/../../models/x.so"}),),
    (("model.uri", "hf://trusted/name"), ("model.trustRemoteCode", True)),
    (("model.uri", "hf://trusted/a.b/c"), ("model.trustRemoteCode", True)),
    (("model.uri", "s3://bucket/team/model"), ("artifacts", {"s3": "s3://bucket/team"})),
    (("artifacts", {"s3": "s3://bucket/team/x/y"}),),
    (("artifacts", {"s3": "s3://bucket/teamwork"}),),
    (("artifacts", {"s3": "s3://bucket/team/../others"}),),
    (("nodePools.0.image", "registry.example:5000/team/vllm:1.0"),),
    (("nodePools.0.image", "registry.example:5000/team/deep/vllm"),),
    (("nodePools.0.image", "registryXexample:5000/team/vllm"),),
    (("nodePools.0.image", "vllm/vllm-openai:v1\nsecond line"),),
    (("nodePools.0.tolerations", [{"key": "", "operator": "Exists"}]),),
    (("nodePools.0.tolerations", [{"operator": "Exists"}]), ("nodePools.1.tolerations", [{"key": "other"}])),
    (("nodePools.0.podTemplate", {"supplementalGroups": [44, 109, 1_000_000]}),),
    (("nodePools.0.podTemplate", {"labels": {"team": "a", "team-b": "b"}}),),
    (("evaluation", {"taskPath": "/models/tasks\nand more"}),),
    (("search", {"agent": {"model": "openai/x", "apiBase": "https://llm.example/v1"}}),),
    (("search", {"agent": {"model": "openai/x", "apiBase": "https://llm.example/v1/../admin"}}),),
    (("search", {"agent": {"model": "anthropic/y", "secretRef": {"name": "llm"}}}),),
    (("model.tokenSecretRef", {"name": "hub", "env": "X"}),),
    (("budget", {"maxGpuHours": 20}), ("parallelTrials", 3)),
    (("budget", {"maxGpuHours": 20.5}),),
    (("budget", {"maxTrials": 6}), ("output", {"deployment": {"replicas": 5}})),
    (("budget", {"maxAgentTokens": 100}), ("search", {"agent": {"model": "openai/x"}})),
    (("budget", {"maxTrials": 5, "maxGpuHours": 20}),),
    (("budget", {"maxTrials": 5, "maxGpuHours": 2.5}), ("parallelTrials", 2)),
    (("budget", {"maxTrials": 5, "maxGpuHours": 1, "maxAgentTokens": 9}), ("search", {"agent": {"model": "openai/x"}})),
    (("budget", {"maxTrials": 5, "maxGpuHours": 1}), ("search", {"agent": {"model": "openai/x"}})),
)
"""For policies other than the default."""

POLICIES: dict[str, Policy] = {
    "default": Policy(),
    "closed": Policy(
        images=(),
        env=(),
        models=(),
        datasets=(),
        artifacts=(),
        agent_models=(),
        tolerations=(),
        device_resources=(),
    ),
    "limited": Policy(
        max_trials=5,
        max_gpu_hours=20,
        max_agent_tokens=100,
        max_parallel_trials=2,
        max_replicas=4,
    ),
    "opened": Policy(
        images=("registry.example:5000/team/*", "vllm/vllm-openai"),
        env=("**",),
        engine_texts=("org/*", "/usr/lib/**"),
        models=("hf://**", "s3://bucket/team/**"),
        remote_code=("hf://trusted/*",),
        datasets=("**",),
        task_paths=("/models/**",),
        artifacts=("pvc://artifacts", "s3://bucket/team", "s3://bucket/team/**"),
        agent_models=("openai/*",),
        agent_endpoints=("https://llm.example/**",),
        git_servers=("https://git.example/o/*",),
        secrets=("llm", "a.b"),
        tolerations=("*",),
        runtime_classes=("nvidia",),
        supplemental_groups=(44, 993, 1_000_000),
        service_accounts=("*",),
        pod_labels=("team", "app"),
        adopt=True,
        max_trials=0,
        max_replicas=4,
    ),
    "labelled": Policy(secret_label="haqa.dev/use-by=tunings"),
}


def tuning(*edits: Edit) -> dict[str, Any]:
    """A valid tuning with these changes."""
    document = deepcopy(VALID)
    for path, value in edits:
        *above, last = path.split(".")
        place: Any = document["spec"]
        for name in above:
            place = place[int(name)] if name.isdigit() else place[name]
        place[last] = deepcopy(value)
    return document


def single() -> list[dict[str, Any]]:
    """Each case of the tables alone."""
    return [tuning(*edits) for edits in (*REFUSED.values(), *ALLOWED, *OTHERS)]


def mixed(number: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Several cases in one tuning, by chance but always the same; where they touch the same field the last counts."""
    chance = random.Random(seed)
    cases = [*REFUSED.values(), *ALLOWED, *OTHERS]
    for _ in range(number):
        chosen = chance.sample(cases, chance.randint(2, 5))
        edits = {path: value for case in chosen for path, value in case}
        if "nodePools.0.deviceResource" in edits:  # devices come in one way
            edits.pop("nodePools.0.resourceClaimTemplate", None)
        yield tuning(*sorted(edits.items()))
