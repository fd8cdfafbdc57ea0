"""The chart gives the operator the settings that its values say and the rights that it needs, and nothing else."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.helm import CHART, Helm, HelmRefused, Values
from tests.cluster.kubectl import Kubectl, Manifest, Refused

from haqa_operator.cluster.installation import DEFAULT_RUNNER_IMAGE, Installation
from haqa_operator.cluster.names import VERIFY
from haqa_operator.cluster.observe.failures import Limits
from haqa_operator.cluster.policy import Policy
from haqa_operator.hardware.accelerators import Vendor
from haqa_operator.metrics.prometheus_http import Connection
from haqa_operator.metrics.prometheus_series import Labels
from haqa_operator.serving.startup import StartupLimit
from haqa_operator.serving.volumes import ExtraVolume, SecretVariable

DOCUMENT = Path(__file__).parents[2] / "docs" / "installing.md"

EVERYTHING: Values = {
    "image": {"repository": "registry.example/haqa-operator", "tag": "sha256:" + "0" * 64, "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "watchNamespaces": ["models"],
    "policy": {"secrets": ["llm"], "models": ["s3://models/**"], "supplementalGroups": [993], "maxGpuHours": 100},
    "userId": 20002,
    "runner": {
        "image": {"repository": "registry.example/haqa-runner", "tag": "1.2"},
        "images": {"cpu": "registry.example/haqa-small:1.2"},
        "command": ["python3", "-m", "other runner"],
        "env": {"AWS_ENDPOINT_URL": 'https://minio.example/"quoted"'},
        "secrets": [{"name": "AWS_SECRET_ACCESS_KEY", "secret": "bucket", "key": "secretKey"}],
    },
    "engine": {"image": "registry.example/vllm:1", "command": ["python3", "-m", "engine"]},
    "extraVolumes": [{"name": "env", "mountPath": "/opt/env", "source": {"hostPath": {"path": "/opt/env"}}}],
    "prometheus": {
        "url": "https://prometheus.example/path",
        "scrapeIntervalSeconds": 7.5,
        "timeoutSeconds": 3,
        "labels": {"namespace": "kubernetes_namespace", "pod": "kubernetes_pod_name"},
        "basicAuth": {"existingSecret": "login", "usernameKey": "user", "passwordKey": "word"},
        "ca": {"existingSecret": "authority", "key": "root.pem"},
    },
    "limits": {
        "startupSeconds": 1800,
        "loadMegabytesPerSecond": 150,
        "unschedulableSeconds": 3600,
        "imagePullSeconds": 61,
        "notStartingSeconds": 62,
        "nodeLostSeconds": 63,
        "modelCheckHours": 6,
    },
    "log": {"format": "text", "level": "DEBUG"},
    "metrics": {"service": {"enabled": True}},
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"}],
    "agent": {"resources": {"limits": {"memory": "1Gi"}}},
    "extraLabels": {"team": "serving"},
    "podLabels": {"zone": "a"},
    "podAnnotations": {"note": "b"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "control", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "system-cluster-critical",
    "networkPolicies": {
        "enabled": True,
        "apiServer": {"cidrs": ["10.96.0.1/32"]},
        "public": {"cidrs": ["0.0.0.0/0", "::/0"], "except": ["10.0.0.0/8", "fc00::/7"], "ports": [443, 8443]},
        "operatorEgress": [{"to": [{"podSelector": {}}]}],
        "tuningsEgress": [{"to": [{"namespaceSelector": {}}], "ports": [{"port": 9000}]}],
        "scrapedFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        "servedTo": [{"podSelector": {}}],
    },
}
LEASE = "haqa-system/haqa"
SOCKET = Path("/run/haqa/agent.sock")
TOKEN: Values = {"prometheus": {"url": "http://prometheus:9090", "bearerToken": {"existingSecret": "t", "key": "k"}}}
SERVICE_ACCOUNT: Values = {"prometheus": {"url": "https://thanos:9091", "serviceAccountToken": True}}
TWO_NAMESPACES: Values = {"watchNamespaces": ["models", "others"], "policy": {"secretLabel": "haqa.dev/use-by=tunings"}}
CASES = {
    "defaults": {},
    "everything": EVERYTHING,
    "token": TOKEN,
    "service account": SERVICE_ACCOUNT,
    "two namespaces": TWO_NAMESPACES,
}

every_case = pytest.mark.parametrize("values", CASES.values(), ids=CASES.keys())


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def pod_of(manifests: list[Manifest]) -> Manifest:
    (deployment,) = of_kind(manifests, "Deployment")
    template: Manifest = deployment["spec"]["template"]
    return template


def lone_pod(manifests: list[Manifest]) -> Manifest:
    """The operator's pod as somebody would create it by hand: the API server looks at pods alone."""
    spec = {name: value for name, value in pod_of(manifests)["spec"].items() if name != "serviceAccountName"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator"}, "spec": spec}


def container_of(manifests: list[Manifest], name: str = "operator") -> Manifest:
    containers: list[Manifest] = pod_of(manifests)["spec"]["containers"]
    return next(container for container in containers if container["name"] == name)


def environment_of(manifests: list[Manifest]) -> dict[str, str]:
    """The operator's variables; one that comes from a Secret is "SECRET/KEY" here."""

    def value(entry: Manifest) -> str:
        if "value" in entry:
            return str(entry["value"])
        reference = entry["valueFrom"]["secretKeyRef"]
        return f"{reference['name']}/{reference['key']}"

    return {entry["name"]: value(entry) for entry in container_of(manifests)["env"]}


def rules_of(manifests: list[Manifest]) -> list[tuple[str, Manifest]]:
    """Each rule of the operator's with the kind of the role that it is in."""
    roles = of_kind(manifests, "Role") + of_kind(manifests, "ClusterRole")
    return [(role["kind"], rule) for role in roles if not is_for_people(role) for rule in role["rules"]]


def is_for_people(role: Manifest) -> bool:
    return any(label.startswith("rbac.authorization.k8s.io/aggregate-to-") for label in role["metadata"]["labels"])


class Recording(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__(HAQA_PROMETHEUS_URL="http://prometheus:9090")
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def test_lint_has_nothing_to_say(helm: Helm) -> None:
    assert "0 chart(s) failed" in helm.run("lint", "--strict", str(CHART))


def test_defaults_are_the_operators_own(helm: Helm) -> None:
    environment = environment_of(helm.rendered())
    runners = {Vendor.AMD: f"{DEFAULT_RUNNER_IMAGE}-rocm", Vendor.CPU: f"{DEFAULT_RUNNER_IMAGE}-cpu"}
    expected = Installation(runner_images=runners, agent_socket=SOCKET, lease=LEASE)
    assert Installation.from_environment(environment) == expected


def test_the_runner_of_a_digest_is_the_same_for_all_hardware_unless_it_is_named(helm: Helm) -> None:
    digest = "sha256:" + "1" * 64
    runner = {"image": {"repository": "registry.example/runner", "tag": digest}, "images": {"cpu": "small:1"}}
    installed = Installation.from_environment(environment_of(helm.rendered({"runner": runner})))
    assert installed.runner_images == {Vendor.AMD: f"registry.example/runner@{digest}", Vendor.CPU: "small:1"}


def test_every_value_reaches_the_operator(helm: Helm) -> None:
    assert Installation.from_environment(environment_of(helm.rendered(EVERYTHING))) == Installation(
        namespaces=("models",),
        policy=Policy(secrets=("llm",), models=("s3://models/**",), supplemental_groups=(993,), max_gpu_hours=100),
        runner_image="registry.example/haqa-runner:1.2",
        runner_images={
            Vendor.AMD: "registry.example/haqa-runner:1.2-rocm",
            Vendor.CPU: "registry.example/haqa-small:1.2",
        },
        runner_command=("python3", "-m", "other runner"),
        runner_env={"AWS_ENDPOINT_URL": 'https://minio.example/"quoted"'},
        runner_secrets=(SecretVariable("AWS_SECRET_ACCESS_KEY", "bucket", "secretKey"),),
        engine_image="registry.example/vllm:1",
        engine_command=("python3", "-m", "engine"),
        extra=(ExtraVolume("env", "/opt/env", {"hostPath": {"path": "/opt/env"}}),),
        prometheus=Connection(
            url="https://prometheus.example/path",
            username="login/user",
            password="login/word",
            ca_file="/etc/haqa/prometheus-ca/ca.crt",
            timeout_s=3,
        ),
        prometheus_labels=Labels(namespace="kubernetes_namespace", pod="kubernetes_pod_name"),
        scrape_interval_s=7.5,
        startup=StartupLimit(base_s=1800, megabytes_per_s=150),
        limits=Limits(
            unschedulable_s=3600, image_pull_s=61, not_starting_s=62, node_lost_s=63, disruptions=Limits().disruptions
        ),
        model_check_s=6 * 3600,
        agent_socket=SOCKET,
        lease=LEASE,
        user_id=20002,
    )


def test_the_cluster_may_choose_the_user(helm: Helm) -> None:
    manifests = helm.rendered({"userId": None})
    assert Installation.from_environment(environment_of(manifests)).user_id is None
    assert pod_of(manifests)["spec"]["securityContext"].keys() == {"runAsNonRoot", "seccompProfile"}


def test_the_chart_sets_all_that_is_read_and_nothing_else(helm: Helm) -> None:
    recording = Recording()
    Installation.from_environment(recording)
    set_somewhere = {name for values in CASES.values() for name in environment_of(helm.rendered(values))}
    of_the_process = {"HTTPS_PROXY", "HAQA_LOG_FORMAT", "HAQA_LOG_LEVEL"}
    assert set_somewhere - of_the_process == recording.asked


@every_case
def test_rights_are_by_name_and_verb(helm: Helm, values: Values) -> None:
    rules = [rule for _, rule in rules_of(helm.rendered(values))]
    assert rules
    for rule in rules:
        assert "nonResourceURLs" not in rule
        for part in ("apiGroups", "resources", "verbs"):
            assert rule[part]
            assert not [word for word in rule[part] if "*" in word]
    written = {verb for rule in rules if "secrets" in rule["resources"] for verb in rule["verbs"]}
    assert written <= {"get"}


def test_rights_are_those_that_the_document_says(helm: Helm) -> None:
    found = {
        (group or "core", resource, ", ".join(rule["verbs"]))
        for values in (EVERYTHING, TWO_NAMESPACES)
        for _, rule in rules_of(helm.rendered(values))
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \| ([a-z, ]+) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(found)


def test_for_some_namespaces_all_but_reading_is_there_alone(helm: Helm) -> None:
    manifests = helm.rendered({"watchNamespaces": ["models", "others"]})
    roles, bindings = of_kind(manifests, "Role"), of_kind(manifests, "RoleBinding")
    for namespaced in (roles, bindings):
        assert [one["metadata"]["namespace"] for one in namespaced] == ["haqa-system", "models", "others"]
    assert roles[1]["rules"] == roles[2]["rules"]
    assert {resource for rule in roles[0]["rules"] for resource in rule["resources"]} == {"leases"}
    elsewhere = [rule for kind, rule in rules_of(manifests) if kind == "ClusterRole"]
    assert {verb for rule in elsewhere for verb in rule["verbs"]} == {"list", "watch"}
    readable = {resource for rule in elsewhere for resource in rule["resources"]}
    assert readable == {"nodes", "customresourcedefinitions", "namespaces"}


@pytest.mark.parametrize(
    ("policy", "rule"),
    [
        ({}, None),
        ({"secrets": ["llm"]}, {"resourceNames": ["llm"]}),
        ({"secrets": ["llm"], "secretLabel": "haqa.dev/use-by=tunings"}, {}),
    ],
    ids=["none", "named", "labelled"],
)
def test_secrets_are_read_by_name_unless_a_label_decides(helm: Helm, policy: Values, rule: Values | None) -> None:
    rules = [found for _, found in rules_of(helm.rendered({"policy": policy})) if "secrets" in found["resources"]]
    expected = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    assert rules == ([] if rule is None else [expected | rule])


def test_people_get_their_rights_with_the_clusters_own_roles(helm: Helm) -> None:
    roles = [role for role in of_kind(helm.rendered(), "ClusterRole") if is_for_people(role)]
    may = {role["metadata"]["name"].rpartition(":")[2]: role["rules"] for role in roles}
    assert may.keys() == {"viewer", "editor", "approver"}

    def verbs(who: str, resource: str) -> set[str]:
        return {verb for rule in may[who] if resource in rule["resources"] for verb in rule["verbs"]}

    reading = {"get", "list", "watch"}
    assert verbs("viewer", "quantizationtunings") == verbs("viewer", "quantizationtrials") == reading
    assert verbs("editor", "quantizationtunings") == {"create", "update", "patch", "delete", "deletecollection"}
    assert not verbs("editor", "quantizationapprovals"), "who asks does not approve"
    assert not verbs("approver", "quantizationtunings") - reading
    assert "create" in verbs("approver", "quantizationapprovals")
    assert not {"create", "update", "patch"} & (
        verbs("editor", "quantizationtrials") | verbs("approver", "quantizationtrials")
    )
    assert [
        role for role in of_kind(helm.rendered({"rbac": {"userRoles": False}}), "ClusterRole") if is_for_people(role)
    ] == []


def test_network_policies_are_there_by_choice_for_the_operator_and_each_namespace(helm: Helm) -> None:
    assert of_kind(helm.rendered(), "NetworkPolicy") == []
    policies = of_kind(helm.rendered(EVERYTHING), "NetworkPolicy")
    assert [one["metadata"]["namespace"] for one in policies] == ["haqa-system", "models", "models"]
    operator, trials, winners = (one["spec"] for one in policies)
    labels = pod_of(helm.rendered(EVERYTHING))["metadata"]["labels"]
    assert operator["podSelector"]["matchLabels"].items() <= labels.items()
    (expression,) = trials["podSelector"]["matchExpressions"]
    assert {"trial", "artifact", "model", VERIFY} == set(expression["values"])
    assert winners["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "inference"
    for spec in (operator, trials, winners):
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        blocks = [peer["ipBlock"] for rule in spec["egress"] for peer in rule["to"] if "ipBlock" in peer]
        assert {"cidr": "::/0", "except": ["fc00::/7"]} in blocks
    reached = [port["port"] for rule in trials["egress"] for port in rule["ports"]]
    assert 9000 in reached
    assert 6443 not in reached, "pods of tunings have nothing to say to the API server"


def test_the_operator_reaches_the_prometheus_that_it_is_told_of(helm: Helm) -> None:
    values = {"networkPolicies": {"enabled": True, "namespaces": ["models"]}, **TOKEN}
    operator, *tunings = of_kind(helm.rendered(values), "NetworkPolicy")
    assert {"protocol": "TCP", "port": 9090} in [port for rule in operator["spec"]["egress"] for port in rule["ports"]]
    assert [one["metadata"]["namespace"] for one in tunings] == ["models", "models"]


@every_case
def test_bindings_name_the_service_account_and_a_role_of_the_chart(helm: Helm, values: Values) -> None:
    manifests = helm.rendered(values)
    (account,) = of_kind(manifests, "ServiceAccount")
    all_roles = (manifest for manifest in manifests if manifest["kind"].endswith("Role"))
    roles = {(role["kind"], role["metadata"]["name"]) for role in all_roles if not is_for_people(role)}
    bindings = [manifest for manifest in manifests if manifest["kind"].endswith("RoleBinding")]
    assert {(binding["roleRef"]["kind"], binding["roleRef"]["name"]) for binding in bindings} == roles
    for binding in bindings:
        (subject,) = binding["subjects"]
        assert (subject["name"], subject["namespace"]) == (account["metadata"]["name"], "haqa-system")
    assert pod_of(manifests)["spec"]["serviceAccountName"] == account["metadata"]["name"]


@every_case
def test_secrets_are_by_reference_alone(helm: Helm, values: Values) -> None:
    manifests = helm.rendered(values)
    assert of_kind(manifests, "Secret") == []
    assert of_kind(manifests, "ConfigMap") == []
    for entry in container_of(manifests)["env"]:
        if re.search("PASSWORD|USERNAME|TOKEN|KEY", entry["name"]) and not entry["name"].endswith("_FILE"):
            assert "value" not in entry


@every_case
def test_one_operator_at_a_time(helm: Helm, values: Values) -> None:
    (deployment,) = of_kind(helm.rendered(values), "Deployment")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_an_image_is_named_by_tag_or_digest(helm: Helm) -> None:
    assert container_of(helm.rendered())["image"] == "haqa-operator:0.1.0"
    assert container_of(helm.rendered(EVERYTHING))["image"] == "registry.example/haqa-operator@sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"watchNamespace": "models"}, "watchNamespace"),
        ({"watchNamespaces": "models"}, "watchNamespaces"),
        ({"policy": {"image": []}}, "policy"),
        ({"policy": {"images": ["(any)"]}}, "policy/images"),
        ({"policy": {"secrets": ["team-*"]}}, "policy/secrets"),
        ({"prometheus": {"url": "prometheus:9090"}}, "prometheus/url"),
        ({"prometheus": {"url": "http://me:secret@prometheus:9090"}}, "prometheus/url"),
        ({"userId": 0}, "userId"),
        ({"extraVolumes": [{"name": "a", "mountPath": "/a"}]}, "source"),
        ({"prometheus": {"serviceAccountToken": True}}, "prometheus.url is empty"),
        (
            {"prometheus": {**TOKEN["prometheus"], "serviceAccountToken": True}},
            "prometheus.bearerToken.existingSecret and prometheus.serviceAccountToken are set",
        ),
    ],
)
def test_wrong_values_are_refused_by_name(helm: Helm, values: Values, said: str) -> None:
    with pytest.raises(HelmRefused) as refused:
        helm.rendered(values)
    assert said in str(refused.value)


@pytest.fixture
def restricted(cluster: Kubectl) -> Iterator[Kubectl]:
    """A namespace that takes only pods of the `restricted` standard."""
    name = f"test-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    yield cluster.within(name)
    cluster.run("delete", "namespace", name, "--wait=false")


def test_the_definitions_are_those_of_the_project_and_outlive_the_release(helm: Helm) -> None:
    files = [yaml.safe_load(file.read_text()) for file in sorted((CHART / "files" / "crds").glob("*.yaml"))]
    assert len(files) == 3
    plain = helm.definitions({"crds": {"keep": False}})
    assert sorted(plain, key=name_of) == sorted(files, key=name_of)
    for found in (kept := helm.definitions()):
        assert found["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert sorted(kept, key=name_of) == sorted(files, key=name_of)
    assert helm.definitions({"crds": {"enabled": False}}) == []


def name_of(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


MONITORED: Values = {
    "metrics": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "podMonitor": {"enabled": True},
        "rules": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": True},
    }
}


def test_what_is_for_the_prometheus_operator_is_there_by_choice(helm: Helm) -> None:
    kinds = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "ConfigMap"}
    assert not kinds & {manifest["kind"] for manifest in helm.rendered()}
    found = {manifest["kind"]: manifest for manifest in helm.rendered(MONITORED)}
    assert kinds <= found.keys()
    labels = pod_of(helm.rendered())["metadata"]["labels"]
    assert (
        found["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items()
        <= found["Service"]["metadata"]["labels"].items()
    )
    assert found["Service"]["spec"]["selector"].items() <= labels.items()
    assert found["ServiceMonitor"]["metadata"]["labels"]["release"] == "prometheus"
    assert found["PodMonitor"]["spec"]["namespaceSelector"] == {"any": True}
    rules = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    assert found["PrometheusRule"]["spec"] == rules
    assert json.loads(found["ConfigMap"]["data"]["haqa.json"])["uid"] == "haqa"
    within = {one["kind"]: one for one in helm.rendered({**MONITORED, "watchNamespaces": ["models"]})}
    assert within["PodMonitor"]["spec"]["namespaceSelector"] == {"matchNames": ["models"]}


def test_a_service_monitor_needs_the_service(helm: Helm) -> None:
    values = {"metrics": {"service": {"enabled": False}, "serviceMonitor": {"enabled": True}}}
    with pytest.raises(HelmRefused, match=r"needs metrics\.service\.enabled"):
        helm.rendered(values)


@every_case
def test_only_the_operators_container_knows_the_cluster(helm: Helm, values: Values) -> None:
    manifests = helm.rendered({**values, "agent": {"extraEnv": [{"name": "HTTPS_PROXY", "value": "http://p:1"}]}})
    spec = pod_of(manifests)["spec"]
    assert spec["automountServiceAccountToken"] is False
    operator, agent = container_of(manifests), container_of(manifests, "agent")
    secret = {volume["name"] for volume in spec["volumes"] if volume.keys() & {"secret", "projected"}}
    mounted = {one["name"]: {mount["name"] for mount in one["volumeMounts"]} for one in (operator, agent)}
    assert secret <= mounted["operator"]
    assert mounted["operator"] & mounted["agent"] == {"agent"}, "the socket, and nothing else"
    assert mounted["agent"] == {"agent", "agent-tmp"}
    assert [entry["name"] for entry in agent["env"]] == ["HTTPS_PROXY"]
    assert agent["command"][-1] == environment_of(manifests)["HAQA_AGENT_SOCKET"]
    assert agent["securityContext"] == operator["securityContext"]


@every_case
def test_the_api_server_takes_all_of_it(helm: Helm, restricted: Kubectl, values: Values) -> None:
    # Those of `watchNamespaces` have to be there.
    values = {**values, "watchNamespaces": [restricted.namespace]} if "watchNamespaces" in values else values
    manifests = helm.rendered(values, namespace=restricted.namespace)
    restricted.run("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=_list(manifests))
    restricted.run("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(lone_pod(manifests)))


def test_the_standard_is_enforced_where_it_is_tested(helm: Helm, restricted: Kubectl) -> None:
    pod = lone_pod(helm.rendered())
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(Refused, match="violates PodSecurity"):
        restricted.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))


def _list(manifests: list[Manifest]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
