"""The LLM's key, out of the Secret that a tuning names and from nowhere else."""

from __future__ import annotations

import base64
import binascii

from haqa_operator.api import AgentSpec
from haqa_operator.cluster.edges.api_server import SECRET, ApiServer


def agent_key(api: ApiServer, agent: AgentSpec | None, namespace: str) -> str | None:
    """None where the tuning names no Secret, or the Secret has no such key."""
    if agent is None or agent.secret_ref is None:
        return None
    secret = api.get(SECRET, agent.secret_ref.name, namespace) or {}
    encoded = (secret.get("data") or {}).get(agent.secret_ref.key)
    if not encoded:
        return None
    try:
        return base64.b64decode(encoded, validate=True).decode().strip()
    except (binascii.Error, UnicodeDecodeError):
        return None
