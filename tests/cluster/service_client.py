"""A request to a Service from a pod of its own, as an application in the cluster makes it."""

from __future__ import annotations

import json
from typing import Any

from tests.cluster.building import PYTHON_IMAGE
from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.one_pod import output_of

_ANSWER_LIMIT_S = 120.0
_PROGRAM = """\
import sys, urllib.request
url, body = sys.argv[1:]
request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=90).read().decode())
"""


def complete(api: Kubectl, service: Manifest, **request: Any) -> Any:
    """The answer of the Service's /v1/completions. By its address: the test cluster has no DNS."""
    spec = service["spec"]
    url = f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}/v1/completions"
    container = {
        "name": "main",
        "image": PYTHON_IMAGE,
        "command": ["python3", "-c", _PROGRAM, url, json.dumps(request)],
    }
    return json.loads(output_of(api, {"containers": [container]}, _ANSWER_LIMIT_S))
