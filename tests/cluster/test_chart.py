"""The chart gives the operator the settings that its values say and the rights that it needs, and nothing else."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.helm import CHART, Helm, HelmRefused, Values
from tests.cluster.kubectl import Kubectl, Manifest, Refused

from haqa_operator.cluster.installation import DEFAULT_RUNNER_IMAGE, Installation
from haqa_operator.cluster.observe.failures import Limits
from haqa_operator.hardware.accelerators import Vendor
from haqa_operator.metrics.prometheus_http import Connection
from haqa_operator.metrics.prometheus_series import Labels
from haqa_operator.serving.startup import StartupLimit
from haqa_operator.serving.volumes import ExtraVolume, SecretVariable

DOCUMENT = Path(__file__).parents[2] / "docs" / "installing.md"

EVERYTHING: Values = {
    "image": {"repository": "registry.example/haqa-operator", "tag": "sha256:" + "0" * 64, "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "watchNamespace": "models",
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
    },
    "log": {"format": "text", "level": "DEBUG"},
    "agent": {"secretNames": ["llm"]},
    "metrics": {"service": {"enabled": True}},
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"}],
    "extraLabels": {"team": "serving"},
    "podLabels": {"zone": "a"},
    "podAnnotations": {"note": "b"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "control", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "system-cluster-critical",
}
TOKEN: Values = {"prometheus": {"url": "http://prometheus:9090", "bearerToken": {"existingSecret": "t", "key": "k"}}}
SERVICE_ACCOUNT: Values = {"prometheus": {"url": "https://thanos:9091", "serviceAccountToken": True}}
CASES = {"defaults": {}, "everything": EVERYTHING, "token": TOKEN, "service account": SERVICE_ACCOUNT}

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


def container_of(manifests: list[Manifest]) -> Manifest:
    containers: list[Manifest] = pod_of(manifests)["spec"]["containers"]
    (container,) = containers
    return container


def environment_of(manifests: list[Manifest]) -> dict[str, str]:
    """The operator's variables; one that comes from a Secret is "SECRET/KEY" here."""

    def value(entry: Manifest) -> str:
        if "value" in entry:
            return str(entry["value"])
        reference = entry["valueFrom"]["secretKeyRef"]
        return f"{reference['name']}/{reference['key']}"

    return {entry["name"]: value(entry) for entry in container_of(manifests)["env"]}


def rules_of(manifests: list[Manifest]) -> list[tuple[str, Manifest]]:
    """Each rule with the kind of the role that it is in."""
    roles = of_kind(manifests, "Role") + of_kind(manifests, "ClusterRole")
    return [(role["kind"], rule) for role in roles for rule in role["rules"]]


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
    assert Installation.from_environment(environment) == Installation(runner_images=runners)


def test_the_runner_of_a_digest_is_the_same_for_all_hardware_unless_it_is_named(helm: Helm) -> None:
    digest = "sha256:" + "1" * 64
    runner = {"image": {"repository": "registry.example/runner", "tag": digest}, "images": {"cpu": "small:1"}}
    installed = Installation.from_environment(environment_of(helm.rendered({"runner": runner})))
    assert installed.runner_images == {Vendor.AMD: f"registry.example/runner@{digest}", Vendor.CPU: "small:1"}


def test_every_value_reaches_the_operator(helm: Helm) -> None:
    assert Installation.from_environment(environment_of(helm.rendered(EVERYTHING))) == Installation(
        namespace="models",
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
    assert written == {"get"}


def test_rights_are_those_that_the_document_says(helm: Helm) -> None:
    found = {
        (group or "core", resource, ", ".join(rule["verbs"]))
        for values in (EVERYTHING, {})
        for _, rule in rules_of(helm.rendered(values))
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \| ([a-z, ]+) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(found)


def test_for_one_namespace_all_but_reading_is_there_alone(helm: Helm) -> None:
    manifests = helm.rendered({"watchNamespace": "models"})
    (role,), (binding,) = of_kind(manifests, "Role"), of_kind(manifests, "RoleBinding")
    assert role["metadata"]["namespace"] == binding["metadata"]["namespace"] == "models"
    elsewhere = [rule for kind, rule in rules_of(manifests) if kind == "ClusterRole"]
    assert {verb for rule in elsewhere for verb in rule["verbs"]} == {"get", "list", "watch"}
    readable = {resource for rule in elsewhere for resource in rule["resources"]}
    assert readable == {"nodes", "customresourcedefinitions", "namespaces"}


def test_secrets_can_be_limited_by_name(helm: Helm) -> None:
    (rule,) = [rule for _, rule in rules_of(helm.rendered(EVERYTHING)) if "secrets" in rule["resources"]]
    assert rule["resourceNames"] == ["llm"]


@every_case
def test_bindings_name_the_service_account_and_a_role_of_the_chart(helm: Helm, values: Values) -> None:
    manifests = helm.rendered(values)
    (account,) = of_kind(manifests, "ServiceAccount")
    roles = {(role["kind"], role["metadata"]["name"]) for role in manifests if role["kind"].endswith("Role")}
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
        ({"watchNamespaces": "models"}, "watchNamespaces"),
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


@every_case
def test_the_api_server_takes_all_of_it(helm: Helm, restricted: Kubectl, values: Values) -> None:
    # The namespace of `watchNamespace` has to be there.
    values = {**values, "watchNamespace": restricted.namespace} if "watchNamespace" in values else values
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
