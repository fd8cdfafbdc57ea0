"""Specs that have to be refused, and what the API server says: one table for the models and for the CEL rules.

The unit tests give it to the models, the cluster's tests to a real API server.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

VALID: dict[str, Any] = {
    "apiVersion": "haqa.dev/v1alpha1",
    "kind": "QuantizationTuning",
    "metadata": {"name": "demo"},
    "spec": {"model": {"uri": "hf://org/model"}, "nodePools": [{"name": "a"}]},
}

POD_TEMPLATE: dict[str, Any] = {
    "labels": {"team": "search", "app.kubernetes.io/part-of": "chat", "sidecar.istio.io/inject": "false"},
    "annotations": {"k8s.v1.cni.cncf.io/networks": '[{"name": "rdma"}]', "karpenter.sh/do-not-disrupt": "true"},
    "runtimeClassName": "nvidia",
    "supplementalGroups": [44, 993],
    "priorityClassName": "serving",
    "serviceAccountName": "models",
    "imagePullSecrets": [{"name": "registry"}],
    "schedulerName": "kai-scheduler",
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {
                        "matchExpressions": [
                            {
                                "key": "nvidia.com/gpu.product",
                                "operator": "In",
                                "values": ["NVIDIA-L40S", "NVIDIA-L40"],
                            },
                            {"key": "nvidia.com/gpu.memory", "operator": "Gt", "values": ["40000"]},
                        ]
                    },
                    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gpu-7"]}]},
                ]
            },
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 10, "preference": {"matchExpressions": [{"key": "spot", "operator": "DoesNotExist"}]}}
            ],
        },
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 100,
                    "podAffinityTerm": {
                        "topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {
                            "matchLabels": {"app.kubernetes.io/component": "inference"},
                            "matchExpressions": [{"key": "team", "operator": "In", "values": ["search"]}],
                        },
                        "namespaceSelector": {},
                        "mismatchLabelKeys": ["pod-template-hash"],
                    },
                }
            ]
        },
    },
    "resources": {
        "requests": {"cpu": 8, "memory": "64Gi", "ephemeral-storage": "20Gi"},
        "limits": {"memory": "96Gi", "ephemeral-storage": "50Gi"},
    },
}
"""Every field that pods may be given."""

GIT: dict[str, Any] = {
    "url": "https://git.example.com/team/clusters.git",
    "path": "apps/chat",
    "secretRef": {"name": "git"},
}
"""An `output.git` without what is optional."""


def to_git(**changes: Any) -> dict[str, Any]:
    return {"output": {"mode": "Git", "git": GIT | changes}}


def to_chart(*, path: str = "values.yaml", **values: str) -> dict[str, Any]:
    return to_git(format="HelmValues", path=path, values=values)


def by_pull_request(**changes: Any) -> dict[str, Any]:
    return to_git(pullRequest={"provider": "GitLab"} | changes)


_VALUES = ("image", "imageRepository", "imageTag", "command", "args", "env", "resources", "nodeSelector", "tolerations")

REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"nodePools": [{"name": "a"}, {"name": "a"}]}, "two node pools have the same name"),
    ({"objective": {"metric": "throughputPerCost"}}, "objective throughputPerCost needs costPerHour"),
    ({"paretoObjectives": [{"metric": "throughputPerCost"}]}, "objective throughputPerCost needs costPerHour"),
    ({"objective": {"concurrency": 3}}, "the objective names a concurrency that is not measured"),
    ({"paretoObjectives": [{"concurrency": 3}]}, "an objective names a concurrency that is not measured"),
    (
        {"workload": {"concurrency": [1]}, "constraints": [{"metric": "ttft", "concurrency": 8, "max": 9}]},
        "a constraint names a concurrency that is not measured",
    ),
    ({"serving": {"maxModelLen": 383}}, "less than one request of the workload"),
    (
        {"serving": {"maxModelLen": 4096}, "workload": {"inputTokens": 4000}},
        "less than one request of the workload",
    ),
    (
        {"serving": {"maxModelLen": 1024}, "evaluation": {"sequenceLength": 1024}},
        "no room for evaluation.sequenceLength",
    ),
    *(
        ({"search": {"agent": {"model": "openai/x", "apiBase": address}}}, "apiBase is not an endpoint")
        for address in (
            "http://internal/admin/delete?x=",
            "http://internal/admin#",
            "http://user:password@internal/v1",
            "http://internal@elsewhere/v1",
            "http://internal\\@elsewhere/v1",
            "ftp://internal/v1",
            "file:///etc/passwd",
            "internal:8000/v1",
            "http:///v1",
            "http://internal/v 1",
            "http://internal/v1\n",
            "",
        )
    ),
    ({"constraints": [{"metric": "accuracy.arc", "min": 0.5}]}, "add the task to evaluation.tasks"),
    ({"objective": {"metric": "ttft", "percentile": 42}}, "percentile is one of 50, 90, 95 and 99"),
    ({"objective": {"percentile": 95}}, "only the latencies ttft, itl, tpot and e2e have a percentile"),
    ({"constraints": [{"metric": "perplexity", "percentile": 95, "max": 3}]}, "only the latencies ttft"),
    ({"constraints": [{"metric": "perplexity"}]}, "the constraint has no limit"),
    (
        {"constraints": [{"metric": "perplexity", "maxDegradationPercent": 5, "max": 9}]},
        "maxDegradationPercent excludes min and max",
    ),
    ({"constraints": [{"metric": "ttft", "min": 5, "max": 3}]}, "min is above max"),
    ({"artifacts": {}}, "give exactly one of pvc, s3 and path"),
    ({"artifacts": {"pvc": "x", "s3": "s3://b/x"}}, "give exactly one of pvc, s3 and path"),
    ({"workload": {"requestsPerLevel": 8, "durationSeconds": 3}}, "give one of them"),
    ({"workload": {"concurrency": [4, 4]}}, "concurrency lists a level twice"),
    (
        {"nodePools": [{"name": "a", "deviceResource": "nvidia.com/gpu", "resourceClaimTemplate": "gpu"}]},
        "devices come by deviceResource or by resourceClaimTemplate",
    ),
    *(
        (
            {"nodePools": [{"name": "a", "podTemplate": {"labels": {label: "x"}}}]},
            "a label is HAQA's or Kubernetes' own",
        )
        for label in ("haqa.dev/pool", "app.kubernetes.io/name", "batch.kubernetes.io/job-name", "pod-template-hash")
    ),
    *(
        ({"nodePools": [{"name": "a", "podTemplate": {"annotations": {name: "x"}}}]}, "an annotation is HAQA's own")
        for name in (
            "haqa.dev/request",
            "prometheus.io/port",
            "container.apparmor.security.beta.kubernetes.io/vllm",
            "seccomp.security.alpha.kubernetes.io/pod",
        )
    ),
    ({"output": {"mode": "Git"}}, "git is missing"),
    ({"output": {"git": GIT}}, "git is for mode Git"),
    ({"output": {"mode": "Manifest", "git": GIT}}, "git is for mode Git"),
    *(
        (to_git(url=url), "url is not the address of a repository")
        for url in (
            "https://user:password@git.example.com/team/clusters",
            "https://token@git.example.com/team/clusters",
            "ssh://git:password@git.example.com/team/clusters",
            "file:///etc",
            "/srv/clusters.git",
            "../clusters.git",
            "ftp://git.example.com/team/clusters",
            "git://git.example.com/team/clusters",
            "ext::sh -c id",
            "--upload-pack=id",
            "ssh://-oProxyCommand=id/clusters",
            "git@-oProxyCommand=id:clusters",
            "ssh://-oProxyCommand=id@host/clusters",
            "https://git.example.com",
            "https://git.example.com/team/../clusters",
            "https://git.example.com/team/%2e%2e/clusters",
            "https://git.example.com/team/clusters?ref=x",
            "https://git.example.com/team/clusters#x",
            "https://git.example.com/team/clus ters",
            "https://git.example.com/team/clusters\n",
            "",
        )
    ),
    *(
        (to_git(branch=branch), "branch is not the name of a branch")
        for branch in (
            "--upload-pack=id",
            "-x",
            "/main",
            "main/",
            "a//b",
            "a..b",
            "a/.b",
            "main.lock",
            "main.lock/x",
            "main.",
            "ma in",
            "ma~in",
            "ma^in",
            "ma:in",
            "@{u}",
            "main\n",
            "",
        )
    ),
    *(
        (to_git(path=path), "path is not a path inside the repository")
        for path in (
            "/etc",
            "..",
            "../x",
            "a/../b",
            "a/./b",
            "./a",
            "a//b",
            "a/",
            ".git",
            ".git/hooks",
            "a/.GIT/hooks",
            "-a",
            "a b",
            "{tuning}",
            "a\n",
            "",
        )
    ),
    (to_git(format="HelmValues", path="values.yaml"), "values is missing"),
    (to_git(values={"args": "a"}), "values is for format HelmValues"),
    (to_chart(path="charts/chat", args="a"), "path is not a values file"),
    (to_chart(), "values names no value"),
    *((to_chart(**{field: "a..b"}), "a value is not a path into a values file") for field in _VALUES),
    *(
        (to_chart(args=value), "a value is not a path into a values file")
        for value in ("", ".", "a.", "[0]", "a[x]", "a[-1]", "a b", "a\n")
    ),
    (
        to_chart(args="a") | {"nodePools": [{"name": "a"}, {"name": "b"}]},
        "one values file for several node pools",
    ),
    *(
        (by_pull_request(apiBase=base), "apiBase is not an endpoint of a forge")
        for base in ("https://token@git.example.com", "git.example.com", "https://git.example.com/?x=", "")
    ),
    *(
        (by_pull_request(branchPrefix=prefix), "branchPrefix begins no name of a branch")
        for prefix in ("-x/", "/", "a//", "a../", ".", "a b/", "x.lock/")
    ),
    ({"budget": {"trialTimeout": "0s"}}, "trialTimeout leaves no time for a trial"),
    ({"budget": {"maxDuration": "0h0m"}}, "maxDuration leaves no time for a trial"),
)

ACCEPTED: tuple[dict[str, Any], ...] = (
    {},
    {"objective": {"metric": "throughputPerCost"}, "nodePools": [{"name": "a", "costPerHour": 2.5}]},
    {"objective": {"metric": "ttft", "percentile": 95, "concurrency": 8}},
    {"constraints": [{"metric": "accuracy.arc", "min": 0.5}], "evaluation": {"tasks": ["arc"]}},
    {"constraints": [{"metric": "ttft", "min": 3, "max": 3}], "artifacts": {"pvc": "models"}},
    {"serving": {}},
    {"serving": {"maxModelLen": 384}},
    {"serving": {"maxModelLen": 129}, "workload": {"inputTokens": 1}, "evaluation": {"sequenceLength": 128}},
    {"search": {"engine": {"block-size": [16, 32], "kv-cache-dtype": ["auto", "fp8"]}, "fixedEngine": {"x": True}}},
    *(
        {"search": {"agent": {"model": "openai/x", "apiBase": address}}}
        for address in ("http://llm:8000/v1", "https://llm.example.com", "http://[::1]:8000/v1/", "http://llm/a@b/v1")
    ),
    {"output": {"mode": "Git", "git": GIT}},
    *(
        to_git(url=url)
        for url in (
            "http://gitea-http.gitea:3000/team/clusters",
            "https://gitlab.example.com/group/sub.group/clusters.git",
            "https://git.example.com/git/team/clusters/",
            "https://dev.example.com/org/My%20Project/_git/clusters",
            "https://[2001:db8::1]:8443/team/clusters.git",
            "ssh://git@git.example.com:2222/team/clusters.git",
            "ssh://git.example.com/~team/clusters",
            "git@github.com:team/clusters.git",
        )
    ),
    *(to_git(branch=branch) for branch in ("main", "env/production", "release-1.2", "team/a_b@c", "fix#3")),
    *(
        to_git(path=path)
        for path in (".", "apps", ".deploy/apps", "a.b/c-d_e", "clusters/{pool}/apps", "{pool}", ".github")
    ),
    to_git(format="Kustomize", author={"name": "Bot of Team X", "email": "bot@example.com"}),
    to_chart(args="args"),
    to_chart(path="a/values.yml", image="image", args="models[0].args", env="a.b-c.d_e", nodeSelector="x[0][1].y"),
    to_chart(path="values-{pool}.yaml", args="a") | {"nodePools": [{"name": "a"}, {"name": "b"}]},
    by_pull_request(
        apiBase="https://git.example.com/api/v3", branchPrefix="bots/haqa-", labels=["a b", "x"], draft=True
    ),
    *(by_pull_request(provider=provider) for provider in ("GitHub", "GitLab", "Gitea", "Forgejo")),
    {"budget": {"trialTimeout": "1h30m", "maxDuration": "0.5h"}},
    {"nodePools": [{"name": "a", "deviceResource": "nvidia.com/mig-3g.40gb.shared"}]},
    {"nodePools": [{"name": "a", "resourceClaimTemplate": "two-gpus"}]},
    {
        "nodePools": [
            {
                "name": "a",
                "hardware": {
                    "vendor": "amd",
                    "product": "MI999",
                    "architecture": "gfx950",
                    "bandwidthGbS": 8000,
                    "peakTflops": {"bf16": 2300, "fp8": 4600},
                },
                "podTemplate": POD_TEMPLATE,
            }
        ]
    },
)


def tuning(change: dict[str, Any]) -> dict[str, Any]:
    document = deepcopy(VALID)
    document["spec"].update(change)
    return document
