"""Policies of an installation, for tests that are about something else."""

from __future__ import annotations

from haqa_operator.cluster.policy import Policy

_ANY = ("**",)

OPEN = Policy(
    images=_ANY,
    env=_ANY,
    engine_texts=_ANY,
    models=_ANY,
    remote_code=_ANY,
    datasets=_ANY,
    task_paths=_ANY,
    artifacts=_ANY,
    agent_endpoints=_ANY,
    git_servers=_ANY,
    secrets=("llm", "hub", "no-such-secret", "bucket", "git"),
    tolerations=_ANY,
    device_resources=_ANY,
    resource_claim_templates=_ANY,
    runtime_classes=_ANY,
    priority_classes=_ANY,
    service_accounts=_ANY,
    schedulers=_ANY,
    pod_labels=_ANY,
    pod_annotations=_ANY,
    adopt=True,
    max_trials=0,
)
"""Nothing is refused but Secrets of other names and groups of the nodes."""
