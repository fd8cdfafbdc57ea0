"""The operator as its users install it: its own image, the chart, and no rights but the chart's.

The operator's namespace enforces the `restricted` pod security standard. The tunings' namespace cannot, as the stub
runner and engine come into its pods by hostPath: without that folder its pods are shown to the API server once more.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.cluster.building import PYTHON_IMAGE
from tests.cluster.helm import CHART, Helm, Values
from tests.cluster.image_building import OPERATOR_IMAGE
from tests.cluster.kubectl import Kubectl, Manifest, Refused
from tests.cluster.operator_process import STUB
from tests.cluster.tunings import tuning
from tests.cluster.waiting import wait_until
from tests.cluster.workplace import emptied, supplied

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]

TUNING_LIMIT_S = 240.0
RELEASE = "haqa"
KEPT = "quantizationtunings,quantizationtrials,deployments,services"


def values(**more: object) -> Values:
    repository, _, tag = OPERATOR_IMAGE.rpartition(":")
    runner, _, runner_tag = PYTHON_IMAGE.rpartition(":")
    return {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
        "runner": {
            "image": {"repository": runner, "tag": runner_tag},
            "images": {"amd": PYTHON_IMAGE, "cpu": PYTHON_IMAGE},
            "command": ["python3", "/stub/runner.py"],
        },
        "engine": {"image": PYTHON_IMAGE, "command": ["python3", "/stub/engine.py"]},
        "extraVolumes": [{"name": "stub", "mountPath": "/stub", "source": {"hostPath": {"path": str(STUB)}}}],
        "policy": {"secrets": ["llm"], "agentEndpoints": ["http://127.0.0.1:9/v1"]},
        **more,
    }


@dataclass
class Installed:
    """A release in a namespace of its own.

    Attributes:
        logs: Of the operators that there were.
    """

    helm: Helm
    kubectl: Kubectl
    logs: list[str] = field(default_factory=list)

    def install(self, given: Values) -> None:
        self._run("install", given)

    def upgrade(self, given: Values) -> None:
        """As docs/installing.md says."""
        self.keep_log()
        self._run("upgrade", given)

    def test(self) -> str:
        return self.helm.run("test", RELEASE, "--namespace", self.kubectl.namespace, "--logs")

    def uninstall(self) -> None:
        self.keep_log()
        self.helm.run("uninstall", RELEASE, "--namespace", self.kubectl.namespace, "--wait")
        wait_until(lambda: not self.kubectl.list("pod"), 60, "the operator is gone")

    def keep_log(self) -> None:
        self.logs.append(self.log())

    def log(self) -> str:
        return self.kubectl.run("logs", f"deployment/{RELEASE}", "--all-containers", "--tail=-1")

    def may(self, verb: str, resource: str, namespace: str) -> bool:
        account = f"system:serviceaccount:{self.kubectl.namespace}:{RELEASE}"
        try:
            self.kubectl.within(namespace).run("auth", "can-i", verb, resource, "--as", account, "--quiet")
        except Refused:
            return False
        return True

    def _run(self, action: str, given: Values) -> None:
        try:
            where = ("--namespace", self.kubectl.namespace)
            # The definitions are there already, from elsewhere, as in a cluster with a chart that had them in crds/.
            how = ("--take-ownership", "--wait", "--timeout", "150s")
            self.helm.run(action, RELEASE, str(CHART), *where, *how, values=given)
        except Exception as error:
            error.add_note(self.kubectl.run("describe", "pods") + self.kubectl.run("get", "events"))
            raise


@pytest.fixture
def installed(helm: Helm, cluster: Kubectl, definitions: None, operator_image: None) -> Iterator[Installed]:
    name = f"haqa-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    release = Installed(replace(helm, kubeconfig=cluster.kubeconfig), cluster.within(name))
    yield release
    # Roles of the whole cluster go with the release, and not with the namespace.
    release.helm.run("uninstall", RELEASE, "--namespace", name, "--ignore-not-found")
    cluster.run("delete", "namespace", name, "--wait=false")


@pytest.fixture
def models(kubectl: Kubectl, python_image: None, tmp_path: Path) -> Iterator[Kubectl]:
    """The namespace of the tunings, with a model and a store."""
    supplied(kubectl, tmp_path)
    yield kubectl
    emptied(kubectl)


AGENT = {
    "strategy": "agent",
    "schemes": ["BF16", "W8A8-INT8", "W4A16"],
    "algorithms": ["rtn"],
    "engineDefaults": False,
    # Nobody listens there: the fallback chooses. What counts is that the key is read.
    "agent": {
        "model": "openai/none",
        "apiBase": "http://127.0.0.1:9/v1",
        "secretRef": {"name": "llm", "key": "key"},
    },
}


def key() -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "llm"},
        "stringData": {"key": "sk-not-to-be-seen"},
    }


def succeeded(models: Kubectl, name: str, installed: Installed) -> Manifest:
    def probe() -> Manifest | None:
        found = models.get("quantizationtuning", name)
        return found if found.get("status", {}).get("phase") == "Succeeded" else None

    def why_not() -> str:
        return models.run("describe", "quantizationtuning", name) + installed.log()[-6000:]

    return wait_until(probe, TUNING_LIMIT_S, f"{name} has succeeded", why_not)


def served(models: Kubectl, *deployments: str) -> bool:
    found = [models.get("deployment", name)["status"] for name in deployments]
    return all(status.get("availableReplicas") == 1 for status in found)


def kept(models: Kubectl) -> set[tuple[str, str]]:
    """What has to outlive the operator, by name and uid."""
    return {(one["metadata"]["name"], one["metadata"]["uid"]) for one in models.list(KEPT)}


def assert_restricted(restricted: Kubectl, spec: Manifest) -> None:
    """The API server takes the pod where the `restricted` standard is enforced, but for the stubs' folder."""
    spec = {**spec, "volumes": [volume for volume in spec["volumes"] if "hostPath" not in volume]}
    names = {volume["name"] for volume in spec["volumes"]}
    for kind in ("initContainers", "containers"):
        spec[kind] = [
            {**container, "volumeMounts": [mount for mount in container["volumeMounts"] if mount["name"] in names]}
            for container in spec.get(kind, ())
        ]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": spec}
    restricted.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))


def assert_nothing_was_refused(logs: list[str]) -> None:
    for log in logs:
        assert log, "an operator that says nothing was not looked at"
        refused = [line for line in log.splitlines() if "orbidden" in line or "permission" in line.lower()]
        assert refused == []
        assert "sk-not-to-be-seen" not in log


def test_a_release_for_all_namespaces_tunes_and_leaves_everything_behind(installed: Installed, models: Kubectl) -> None:
    models.apply(key())
    installed.install(values())
    assert "is ready" in installed.test()
    models.apply(tuning(search=AGENT))
    found = succeeded(models, "demo", installed)
    assert found["status"]["poolsDone"] == "2/2"
    assert served(models, "demo-full", "demo-avx2")

    for pod in models.list("pod"):
        assert_restricted(installed.kubectl, pod["spec"])

    # The agent's container was asked, and knows nothing of the cluster.
    proposed = [one for one in models.list("quantizationtrials") if one["spec"]["proposer"] == "bayesian"]
    assert proposed
    assert all("does not answer" not in str(one["spec"].get("note")) for one in proposed)
    assert all("127.0.0.1:9" in str(one["spec"].get("note")) for one in proposed), proposed
    look = "import os; print(os.path.exists('/var/run/secrets'), sorted(n for n in os.environ if 'HAQA' in n))"
    seen = installed.kubectl.run("exec", f"deployment/{RELEASE}", "--container=agent", "--", "python", "-c", look)
    assert seen.split() == ["False", "[]"]

    before = kept(models)
    installed.upgrade(values(podAnnotations={"changed": "yes"}))
    assert kept(models) == before

    installed.uninstall()
    definitions = models.list("customresourcedefinitions")
    assert len([one for one in definitions if one["spec"]["group"] == "haqa.dev"]) == 3, "crds.keep"
    assert kept(models) == before
    assert served(models, "demo-full", "demo-avx2")
    assert_nothing_was_refused(installed.logs)

    models.run("delete", "quantizationtuning", "demo", "--wait=true", limit_s=20)
    wait_until(lambda: not models.list("quantizationtrials,jobs"), 60, "trials and Jobs are gone")
    assert served(models, "demo-full", "demo-avx2")


def test_a_release_for_one_namespace_needs_no_rights_elsewhere(installed: Installed, models: Kubectl) -> None:
    models.apply(key())
    installed.install(values(watchNamespaces=[models.namespace]))
    models.apply(tuning(pools=("full",), search=AGENT))
    succeeded(models, "demo", installed)
    assert served(models, "demo-full")

    assert installed.may("get", "secrets/llm", models.namespace)
    assert installed.may("create", "jobs", models.namespace)
    assert not installed.may("get", "secrets/other", models.namespace)
    assert not installed.may("list", "secrets", models.namespace)
    assert not installed.may("patch", "quantizationtunings", models.namespace)
    for resource in ("secrets/llm", "jobs", "quantizationtunings"):
        assert not installed.may("get", resource, "default")
    installed.keep_log()
    assert_nothing_was_refused(installed.logs)
