"""`helm test`: whether the operator behind a Service is ready: `python -m haqa_operator.handlers.check SERVICE`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Final

import httpx

_LIMIT_S: Final = 10.0
_TOLD: Final = "haqa_queue_depth"


def address_of(service: str, env: Mapping[str, str]) -> str:
    """By the variables that a pod has of the Services of its namespace; by name where there are none."""
    prefix = service.upper().replace("-", "_")
    host, port = env.get(f"{prefix}_SERVICE_HOST", service), env.get(f"{prefix}_SERVICE_PORT", "8080")
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def problems(address: str, client: httpx.Client) -> list[str]:
    """What is wrong, as sentences."""
    try:
        ready = client.get(f"{address}/readyz")
        metrics = client.get(f"{address}/metrics")
    except httpx.HTTPError as error:
        return [f"{address} does not answer: {type(error).__name__}: {error}"]
    found = [] if ready.status_code == 200 else [line for line in ready.text.splitlines() if line] or [str(ready)]
    if metrics.status_code != 200 or _TOLD not in metrics.text:
        found.append(f"{address}/metrics has no {_TOLD}; is that the operator's Service?")
    return found


def main(arguments: list[str]) -> int:
    address = address_of(arguments[0], os.environ)
    with httpx.Client(timeout=_LIMIT_S, trust_env=False) as client:
        found = problems(address, client)
    for problem in found:
        sys.stdout.write(f"{problem}\n")
    if not found:
        sys.stdout.write(f"the operator at {address} is ready\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
