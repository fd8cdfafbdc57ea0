"""An S3 server in the cluster: checks signatures, writes conditionally, forgets everything when its pod ends."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

import boto3
from tests.cluster.building import S3_IMAGE
from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.port_forward import PortForward
from tests.cluster.waiting import wait_until

NAME = "s3"
REGION = "us-east-1"
_PORT = 7070
_READY_LIMIT_S = 60.0


@dataclass
class S3Pod:
    """One server in the namespace of `kubectl`, with one user."""

    kubectl: Kubectl
    access_key: str = field(default_factory=lambda: f"haqa-{secrets.token_hex(8)}")
    secret_key: str = field(default_factory=lambda: secrets.token_hex(20))

    def __post_init__(self) -> None:
        self._forward = PortForward(self.kubectl, NAME, _PORT)

    def start(self) -> None:
        """Returns when it answers on this machine."""
        self.kubectl.apply(*self._manifests())
        self.kubectl.wait_for(
            "deployment", NAME, lambda found: bool(found["status"].get("availableReplicas")), "up", _READY_LIMIT_S
        )
        self._forward.open()

    def stop(self) -> None:
        self._forward.close()
        self.kubectl.run("delete", "deployment", NAME, "--ignore-not-found")
        wait_until(lambda: not self.kubectl.list("pods", f"app={NAME}"), 60, "the S3 server's pod is gone")

    @property
    def url(self) -> str:
        """As pods reach it. By its address: the test cluster has no DNS."""
        return f"http://{self.kubectl.get('service', NAME)['spec']['clusterIP']}:{_PORT}"

    def client(self) -> Any:
        """boto3's, on this machine."""
        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self._forward.local_port}",
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )

    def _manifests(self) -> list[Manifest]:
        return [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": NAME},
                "stringData": {"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key},
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": NAME},
                "spec": {"selector": {"app": NAME}, "ports": [{"port": _PORT}]},
            },
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": NAME},
                "spec": {
                    "selector": {"matchLabels": {"app": NAME}},
                    "template": {"metadata": {"labels": {"app": NAME}}, "spec": _pod()},
                },
            },
        ]


def _pod() -> Manifest:
    container = {
        "name": NAME,
        "image": S3_IMAGE,
        "args": [f"--port=:{_PORT}", "--health=/health", "posix", "--sidecar=/data/attributes", "/data/buckets"],
        "envFrom": [{"secretRef": {"name": NAME}}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": _PORT}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "buckets", "mountPath": "/data/buckets"},
            {"name": "attributes", "mountPath": "/data/attributes"},
        ],
        "resources": {"requests": {"cpu": "50m"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65534, "fsGroup": 65534},
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": "buckets", "emptyDir": {}}, {"name": "attributes", "emptyDir": {}}],
    }
