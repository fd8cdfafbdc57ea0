"""The operator's own identity: the service account and the rights that the chart gives it, and not the test's."""

from __future__ import annotations

from pathlib import Path

import yaml
from tests.cluster.helm import Helm
from tests.cluster.kubectl import Kubectl
from tests.policies import OPEN

_RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


def operator_kubeconfig(kubectl: Kubectl, helm: Helm, folder: Path) -> Path:
    """A kubeconfig of the operator of a release that watches the test's namespace alone."""
    values = {"watchNamespaces": [kubectl.namespace], "policy": {"secrets": list(OPEN.secrets)}}
    release = helm.rendered({**values, "rbac": {"userRoles": False}}, namespace=kubectl.namespace)
    rights = [manifest for manifest in release if manifest["kind"] in _RIGHTS]
    for manifest in rights:
        if manifest["kind"].startswith("ClusterRole"):
            # Tests that run at once, or one that was cut off, have releases of their own.
            manifest["metadata"]["name"] += f"-{kubectl.namespace}"
            if "roleRef" in manifest:
                manifest["roleRef"]["name"] += f"-{kubectl.namespace}"
    kubectl.apply(*rights)
    (account,) = (manifest["metadata"]["name"] for manifest in rights if manifest["kind"] == "ServiceAccount")
    token = kubectl.run("create", "token", account, "--duration", "2h").strip()
    config = yaml.safe_load(kubectl.run("config", "view", "--raw", "--minify", "--output", "yaml"))
    config["users"][0]["user"] = {"token": token}
    file = folder / "operator.kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file
