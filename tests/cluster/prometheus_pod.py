"""Prometheus as people run it: a Deployment with a service account, which finds the pods of trials by itself.

Its scrape configuration is the one of docs/prometheus.md.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.cluster.building import PROMETHEUS_IMAGE
from tests.cluster.documented import example
from tests.cluster.kubectl import Kubectl, Manifest, Refused
from tests.cluster.operator_process import claim
from tests.cluster.port_forward import PortForward
from tests.cluster.waiting import wait_until

SCRAPE_INTERVAL_S = 2
NAME = "prometheus"
_PORT = 9090
_READY_LIMIT_S = 60.0


def documented_configuration() -> Manifest:
    return example("prometheus.md", "Scraping by annotations")


@dataclass
class PrometheusPod:
    """One Prometheus in the namespace of `kubectl`; what it has scraped outlives its pod.

    Attributes:
        folder: Of its samples and logs.
        configuration: Its own; by default the documented one.
        web: Files of --web.config.file, web.yml among them: TLS and basic authentication.
        node_selector: Where it runs; on a node that is busy it needs a share of its own to scrape in time.
    """

    kubectl: Kubectl
    folder: Path
    configuration: Manifest = field(default_factory=documented_configuration)
    web: Mapping[str, str] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._forward = PortForward(self.kubectl, NAME, _PORT)

    @property
    def url(self) -> str:
        """On this machine's loopback; the same for as long as this object lives."""
        return f"{'https' if self.web else 'http'}://127.0.0.1:{self._forward.local_port}"

    @property
    def proxy_path(self) -> str:
        """On the API server, which passes requests on to its Service."""
        return f"/api/v1/namespaces/{self.kubectl.namespace}/services/{NAME}:{_PORT}/proxy"

    def start(self) -> None:
        """Returns when it answers on this machine."""
        self.kubectl.apply(*claim(NAME, self.kubectl.namespace, self.folder), *self._manifests())
        self._come_up()

    def stop(self) -> None:
        """No pod is left; its Service, which nobody answers for, and its samples are."""
        self._forward.close()
        self.kubectl.run("scale", "deployment", NAME, "--replicas=0")
        wait_until(lambda: not self.kubectl.list("pods", f"app={NAME}"), 60, "Prometheus' pod is gone")

    def again(self) -> None:
        self.kubectl.run("scale", "deployment", NAME, "--replicas=1")
        self._come_up()

    def remove(self) -> None:
        self._forward.close()
        self.kubectl.run("delete", "clusterrolebinding,clusterrole", self._cluster_name, "--ignore-not-found")

    def ask(self, promql: str) -> list[dict[str, Any]]:
        """The result of an instant query, by way of the API server; of a Prometheus without `web` only."""
        answer = json.loads(self.kubectl.run("get", "--raw", f"{self.proxy_path}/api/v1/query?query={quote(promql)}"))
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    @property
    def _cluster_name(self) -> str:
        return f"{self.kubectl.namespace}-{NAME}"

    def _come_up(self) -> None:
        def available(found: Manifest) -> bool:
            return bool(found.get("status", {}).get("availableReplicas"))

        wait_until(
            lambda: available(self.kubectl.get("deployment", NAME)), _READY_LIMIT_S, "Prometheus", self._what_it_says
        )
        self._forward.open()

    def _what_it_says(self) -> str:
        selector = f"--selector=app={NAME}"
        described = self.kubectl.run("describe", "pods", selector)
        try:
            return described + self.kubectl.run("logs", selector, "--tail=20")
        except Refused as error:
            return f"{described}\n{error}"

    def _manifests(self) -> list[Manifest]:
        return [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME}},
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": {"name": self._cluster_name},
                "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}],
            },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": self._cluster_name},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": self._cluster_name,
                },
                "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": self.kubectl.namespace}],
            },
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": NAME},
                "data": {"prometheus.yml": json.dumps(self.configuration)},
            },
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": f"{NAME}-web"},
                "data": {name: base64.b64encode(text.encode()).decode() for name, text in self.web.items()},
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": NAME},
                "spec": {"selector": {"app": NAME}, "ports": [{"port": _PORT}]},
            },
            self._deployment(),
        ]

    def _deployment(self) -> Manifest:
        web = ["--web.config.file=/etc/web/web.yml"] if self.web else []
        container = {
            "name": NAME,
            "image": PROMETHEUS_IMAGE,
            "args": ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/samples", *web],
            "ports": [{"containerPort": _PORT}],
            # Of its port and not of /-/ready, which asks for a password where one is set.
            "readinessProbe": {"tcpSocket": {"port": _PORT}, "periodSeconds": 1},
            "volumeMounts": [
                {"name": "samples", "mountPath": "/samples"},
                {"name": "configuration", "mountPath": "/etc/prometheus"},
                {"name": "web", "mountPath": "/etc/web"},
            ],
            "resources": {"requests": {"cpu": "50m"}},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        volumes = [
            {"name": "samples", "persistentVolumeClaim": {"claimName": NAME}},
            {"name": "configuration", "configMap": {"name": NAME}},
            {"name": "web", "secret": {"secretName": f"{NAME}-web"}},
        ]
        pod = {
            "serviceAccountName": NAME,
            "nodeSelector": dict(self.node_selector),
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65534, "fsGroup": 65534},
            "terminationGracePeriodSeconds": 5,
            "containers": [container],
            "volumes": volumes,
        }
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": NAME},
            "spec": {
                "replicas": 1,
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": {"app": NAME}},
                "template": {"metadata": {"labels": {"app": NAME}}, "spec": pod},
            },
        }
