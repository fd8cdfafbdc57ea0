"""A pod that runs one program to its end."""

from __future__ import annotations

import secrets

from tests.cluster.kubectl import Kubectl, Manifest

_OVER = ("Succeeded", "Failed")


def output_of(api: Kubectl, spec: Manifest, limit_s: float) -> str:
    """What the pod's only container wrote; an AssertionError with it where the program failed."""
    name = f"once-{secrets.token_hex(4)}"
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}}
    api.apply({**pod, "spec": {"restartPolicy": "Never", **spec}})
    done = api.wait_for("pod", name, lambda found: found["status"].get("phase") in _OVER, "over", limit_s)
    text = api.run("logs", name)
    assert done["status"]["phase"] == "Succeeded", text
    api.run("delete", "pod", name)
    return text
