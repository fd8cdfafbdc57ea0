"""Keys and tokens, out of the Secret that a tuning names and from nowhere else."""

from __future__ import annotations

import base64
import binascii

from haqa_operator.api import AgentSpec
from haqa_operator.cluster.edges.api_server import SECRET, ApiServer


def agent_key(api: ApiServer, agent: AgentSpec | None, namespace: str) -> str | None:
    """The LLM's; None where the tuning names no Secret, or the Secret has no such key."""
    if agent is None or agent.secret_ref is None:
        return None
    key = secret_values(api, agent.secret_ref.name, namespace).get(agent.secret_ref.key)
    return key.strip() if key is not None else None


def secret_values(api: ApiServer, name: str, namespace: str) -> dict[str, str]:
    """What a Secret holds, but for what is no text; nothing where there is none."""
    secret = api.get(SECRET, name, namespace) or {}
    decoded = ((key, _decoded(encoded)) for key, encoded in (secret.get("data") or {}).items())
    return {key: text for key, text in decoded if text}


def _decoded(encoded: str) -> str | None:
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
