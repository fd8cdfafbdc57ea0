"""Whether the Secrets of a tuning carry the label by which their owners give them to tunings.

The API server's rules see names alone, so where the policy goes by a label this is the only check.
"""

from __future__ import annotations

from haqa_operator.api.tuning import QuantizationTuning
from haqa_operator.cluster.edges.api_server import SECRET, ApiRefused, ApiServer
from haqa_operator.cluster.policy import Policy
from haqa_operator.cluster.policy.secrets import secrets_of


def secret_problems(api: ApiServer, tuning: QuantizationTuning, policy: Policy, namespace: str) -> list[str]:
    """A sentence for each Secret that the policy neither names nor finds the label on; a missing one has none.

    Raises:
        ApiUnavailable
    """
    if not policy.secret_label:
        return []
    wanted = {name: field for field, name in secrets_of(tuning) if name not in policy.secrets}
    return [
        f"{field}: Secret {name} {why}; label it {policy.secret_label}, or name it in policy.secrets of the chart"
        for name, field in wanted.items()
        if (why := _not_given(api, name, policy.secret_label, namespace)) is not None
    ]


def _not_given(api: ApiServer, name: str, label: str, namespace: str) -> str | None:
    try:
        secret = api.get(SECRET, name, namespace)
    except ApiRefused as error:
        return f"cannot be looked at ({error})"
    if secret is None:
        return "is not there"
    key, _, value = label.partition("=")
    return None if (secret["metadata"].get("labels") or {}).get(key) == value else "does not carry the label"
