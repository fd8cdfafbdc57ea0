"""A request to a Service from a pod of its own, as an application in the cluster makes it."""

from __future__ import annotations

import json
import secrets
from typing import Any

from tests.cluster.building import PYTHON_IMAGE
from tests.cluster.kubectl import Kubectl, Manifest

_ANSWER_LIMIT_S = 120.0
_PROGRAM = """\
import sys, urllib.request
url, body = sys.argv[1:]
request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=90).read().decode())
"""


def complete(api: Kubectl, service: Manifest, **request: Any) -> Any:
    """The answer of the Service's /v1/completions. By its address: the test cluster has no DNS."""
    spec, name = service["spec"], f"client-{secrets.token_hex(4)}"
    url = f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}/v1/completions"
    container = {
        "name": "main",
        "image": PYTHON_IMAGE,
        "command": ["python3", "-c", _PROGRAM, url, json.dumps(request)],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}}
    api.apply({**pod, "spec": {"restartPolicy": "Never", "containers": [container]}})
    over = ("Succeeded", "Failed")
    done = api.wait_for("pod", name, lambda found: found["status"].get("phase") in over, "over", _ANSWER_LIMIT_S)
    text = api.run("logs", name)
    assert done["status"]["phase"] == "Succeeded", text
    return json.loads(text)
