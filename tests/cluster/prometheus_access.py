"""Certificates, passwords and tokens with which a Prometheus of the tests is guarded."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml
from tests.cluster.kubectl import Kubectl

USER, PASSWORD = "haqa", "påssword"
_PASSWORD_HASH = "$2b$04$jSG7ixQkNVDhSzO0fvHS4.D9Cnd2aRMFwoeBSvGN5gx8v11CrunE."
"""bcrypt, as Prometheus' web configuration wants it."""


@dataclass(frozen=True)
class Certificate:
    """Of 127.0.0.1, signed by itself, so its own authority."""

    path: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> Certificate:
        made = cls(folder / "tls.crt", folder / "tls.key")
        kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        name = ["-subj", "/CN=prometheus", "-addext", "subjectAltName=IP:127.0.0.1"]
        files = ["-keyout", str(made.key), "-out", str(made.path)]
        subprocess.run(["openssl", "req", *kind, *name, *files], check=True, capture_output=True, timeout=30)
        return made


def web_files(certificate: Certificate) -> dict[str, str]:
    """What Prometheus' --web.config.file needs: TLS, and `USER` with `PASSWORD`."""
    configuration = {
        "tls_server_config": {"cert_file": "tls.crt", "key_file": "tls.key"},
        "basic_auth_users": {USER: _PASSWORD_HASH},
    }
    return {
        "web.yml": json.dumps(configuration),
        "tls.crt": certificate.path.read_text(),
        "tls.key": certificate.key.read_text(),
    }


@dataclass(frozen=True)
class ApiServer:
    """As a client reaches it that has a token and no kubeconfig."""

    server: str
    authority: Path
    token: str


def api_server(kubectl: Kubectl, folder: Path) -> ApiServer:
    """With the token of a new service account that may query the namespace's Services, and nothing else."""
    rule = {"apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get"]}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    subject = {"kind": "ServiceAccount", "name": "reader", "namespace": kubectl.namespace}
    common = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "reader"}}
    kubectl.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader"}},
        {"kind": "Role", "rules": [rule], **common},
        {"kind": "RoleBinding", "roleRef": role, "subjects": [subject], **common},
    )
    found = yaml.safe_load(kubectl.run("config", "view", "--raw", "--minify", "--flatten"))["clusters"][0]["cluster"]
    authority = folder / "api-server.crt"
    authority.write_bytes(base64.b64decode(found["certificate-authority-data"]))
    return ApiServer(found["server"], authority, kubectl.run("create", "token", "reader").strip())
