"""What a person changes: annotations and fields of a tuning, approvals, records that go."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from haqa_operator.api.labels import MANAGED_BY, POOL_LABEL, RETUNE_ANNOTATION, ROLLBACK_ANNOTATION, TUNING_LABEL
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import AnswerPhase, PoolPhase
from haqa_operator.cli.cluster.connection import MANAGER, CommandError, Connection
from haqa_operator.cli.cluster.found import FoundTuning, find_trial
from haqa_operator.cli.cluster.rolling_back import Rollback, roll_back, written
from haqa_operator.cluster.edges.api_server import (
    APPROVAL,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    INFERENCE_SERVICE,
    TRIAL,
    Kind,
    UnknownKind,
)
from haqa_operator.cluster.names import label
from haqa_operator.cluster.observe.revisions import History, stamp
from haqa_operator.cluster.observe.snapshot import label_selector
from haqa_operator.serving.names import dns_label

_BESIDE = (Kind("policy/v1", "PodDisruptionBudget"), Kind("v1", "Service"))
"""What a winner has under its Deployment's name; removed before it, so that what is interrupted is still listed."""


def approve(at: Connection, found: FoundTuning, trial: str | None, expires: timedelta | None, now: float) -> Manifest:
    """Lets a winner be deployed; the approval as it was made.

    Args:
        trial: None: of the one pool that waits.
        now: Unix seconds.
    """
    name = _waiting(found) if trial is None else _own_trial(at, found, trial)
    until = {"expires": stamp(now + expires.total_seconds())} if expires else {}
    made = at.api.create(
        {
            "apiVersion": APPROVAL.api_version,
            "kind": APPROVAL.kind,
            "metadata": {
                "name": dns_label(name, datetime.fromtimestamp(now, UTC).strftime("%Y%m%d%H%M%S")),
                "namespace": found.namespace,
            },
            "spec": {"tuning": found.name, "trial": name, "approvedBy": at.api.user(), **until},
        }
    )
    if made is None:
        raise CommandError(f"{name} was approved a moment ago")
    return made


def reject(at: Connection, found: FoundTuning, pool: str, number: int | None) -> Rollback:
    """Has an earlier answer of a pool served."""
    history = found.histories.get(pool, History())
    rollback = roll_back(history, pool, number)
    _annotate(at, found, {ROLLBACK_ANNOTATION: written(found.rejected, history, rollback.rejected) or None}, exact=True)
    return rollback


def retry(at: Connection, found: FoundTuning, pool: str, trial: str | None) -> str:
    """Has an answer that was taken back, or a trial that failed, tried again; what is done, in a sentence."""
    if trial is not None:
        return _retry_trial(at, found, pool, trial)
    history = found.histories.get(pool, History())
    latest = history.latest
    if latest is None or (latest.phase is not AnswerPhase.ROLLED_BACK and not history.is_rejected(latest)):
        raise CommandError(
            f"nothing of pool {pool} was rolled back; a trial that failed is tried again with --trial, and "
            f"`haqa retune {found.name}` has everything measured anew"
        )
    if history.is_rejected(latest):
        twins = {one.name for one in history.revisions if one.name == latest.name or one.has_pods_of(latest)}
        kept = {one.name for one in history.revisions if one.name in history.rejected} - twins
        _annotate(at, found, {ROLLBACK_ANNOTATION: written(found.rejected, history, kept) or None}, exact=True)
    if latest.phase is not AnswerPhase.ROLLED_BACK:
        return f"answer {latest.number} of pool {pool} ({latest.answer.configuration}) is wanted again"
    # Another with the same pods would have it taken back at once.
    for one in history.revisions:
        if one.name == latest.name or (one.has_pods_of(latest) and one.phase is AnswerPhase.ROLLED_BACK):
            at.api.delete(CONTROLLER_REVISION, one.name, found.namespace)
    return f"answer {latest.number} of pool {pool} ({latest.answer.configuration}) is worked out and tried again"


def retune(at: Connection, found: FoundTuning, now: float) -> None:
    """Has everything measured anew; what serves goes on."""
    _annotate(at, found, {RETUNE_ANNOTATION: stamp(now)})


def suspend(at: Connection, found: FoundTuning, wanted: bool) -> bool:
    """Whether that changes anything."""
    if bool(found.manifest["spec"].get("suspend", False)) is wanted:
        return False
    _patch(at, found, spec={"suspend": wanted})
    return True


def left_behind(at: Connection, found: FoundTuning) -> tuple[Manifest, ...]:
    """What was made for the tuning and no answer names any more: of earlier names, and of pools that are gone."""
    named = {name for pool in found.status.pools if pool.answer for name in pool.answer.left_behind}
    pools = {label(pool) for pool in found.pool_names}
    chosen = label_selector({**MANAGED_BY, TUNING_LABEL: label(found.name)})

    def left(kind: Kind, prefix: str = "") -> list[Manifest]:
        made = [one for one in _listed(at, kind, found.namespace, chosen) if _is_ours(one)]
        return [one for one in made if f"{prefix}{_name(one)}" in named or _pool(one) not in pools]

    deployments = left(DEPLOYMENT)
    names = {_name(one) for one in deployments}
    beside = (one for kind in _BESIDE for one in at.api.list(kind, found.namespace, chosen) if _name(one) in names)
    return (*beside, *deployments, *left(INFERENCE_SERVICE, f"{INFERENCE_SERVICE.kind}/"))


def _listed(at: Connection, kind: Kind, namespace: str, chosen: str) -> list[Manifest]:
    """None where the cluster does not know the kind."""
    try:
        return at.api.list(kind, namespace, chosen)
    except UnknownKind:
        return []


def _name(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def _pool(manifest: Manifest) -> str:
    return str(manifest["metadata"]["labels"][POOL_LABEL])


def remove(at: Connection, found: FoundTuning, manifest: Manifest) -> None:
    at.api.delete(Kind.of(manifest), str(manifest["metadata"]["name"]), found.namespace)


def _is_ours(deployment: Manifest) -> bool:
    """Not one that another controller has made, of an InferenceService for one."""
    metadata = deployment["metadata"]
    return POOL_LABEL in metadata["labels"] and not metadata.get("ownerReferences")


def _retry_trial(at: Connection, found: FoundTuning, pool: str, name: str) -> str:
    trial = find_trial(at, _own_trial(at, found, name))
    if trial.spec.pool != pool:
        raise CommandError(f"{name} is a trial of pool {trial.spec.pool}")
    failure = trial.status.failure if trial.status else None
    if failure is None:
        phase = trial.status.phase.value if trial.status else "Pending"
        raise CommandError(f"{name} has not failed, it is {phase}; only what has failed is tried again")
    at.api.delete(TRIAL, name, found.namespace)
    return f"{name}, which failed ({failure.reason.value}), is forgotten and may be tried again"


def _waiting(found: FoundTuning) -> str:
    """The trial whose winner waits for somebody's word."""
    waiting = {
        pool.name: pool.answer.trial
        for pool in found.status.pools
        if pool.phase is PoolPhase.AWAITING_APPROVAL and pool.answer
    }
    if not waiting:
        raise CommandError(
            f"no pool of {found.name} waits for an approval; name a trial with --trial to approve it ahead"
        )
    if len(waiting) > 1:
        of = ", ".join(f"{trial} (pool {pool})" for pool, trial in waiting.items())
        raise CommandError(f"several pools of {found.name} wait: name one with --trial: {of}")
    return next(iter(waiting.values()))


def _own_trial(at: Connection, found: FoundTuning, name: str) -> str:
    trial = find_trial(at, name)
    if trial.spec.tuning != found.name:
        raise CommandError(f"{name} is a trial of {trial.spec.tuning}, not of {found.name}")
    return name


def _annotate(
    at: Connection, found: FoundTuning, annotations: Mapping[str, str | None], *, exact: bool = False
) -> None:
    """Args:
    exact: Only if nobody has written the tuning since it was read, as what is written depends on what was there.
    """
    version = {"resourceVersion": found.manifest["metadata"]["resourceVersion"]} if exact else {}
    _patch(at, found, metadata={"annotations": dict(annotations), **version})


def _patch(at: Connection, found: FoundTuning, metadata: Mapping[str, Any] | None = None, **parts: Any) -> None:
    body = {
        "apiVersion": found.manifest["apiVersion"],
        "kind": found.manifest["kind"],
        "metadata": {"name": found.name, "namespace": found.namespace, **(metadata or {})},
        **parts,
    }
    if at.api.patch(body, MANAGER) is None:
        raise CommandError(f"{found.name} was deleted a moment ago")
