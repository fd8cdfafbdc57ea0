"""Events for people, as `kubectl describe` shows them, and the same sentences in the log.

An event's name follows from what it says, so that a reconciliation that is repeated after a crash repeats no event.
"""

from __future__ import annotations

import hashlib
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import OWN_TEXT, Condition, PoolPhase, PoolStatus, TuningStatus
from haqa_operator.cluster.edges.api_server import EVENT, ApiError, ApiServer

log = logging.getLogger(__name__)

_LONGEST_NOTE = 1024
INSPECTING_MODEL = "inspecting the model"
_PHASE_REASON = {
    PoolPhase.PENDING: "Waiting",
    PoolPhase.SEARCHING: "Searching",
    PoolPhase.CONFIRMING: "Confirming",
    PoolPhase.AWAITING_APPROVAL: "AwaitingApproval",
    PoolPhase.DEPLOYING: "Deploying",
    PoolPhase.VERIFYING: "Verifying",
    PoolPhase.SUSPENDED: "Suspended",
    PoolPhase.SUCCEEDED: "Completed",
    PoolPhase.FAILED: "PoolFailed",
}


@dataclass(frozen=True)
class Event:
    """One thing that has happened.

    Attributes:
        reason: In CamelCase, for programs.
        message: A sentence for people.
    """

    reason: str
    message: str
    warning: bool = False


class EventRecorder:
    """Writes events. Never an error: what cannot be written is logged, and nothing depends on it."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api
        self._instance = socket.gethostname()

    def record(self, about: Manifest, happened: Event, *, quiet: bool = False) -> None:
        """`about`: the object as the API server shows it; its description lists the event. `quiet`: no log line."""
        if not quiet:
            log.log(logging.WARNING if happened.warning else logging.INFO, "%s: %s", happened.reason, happened.message)
        try:
            self._api.create(event_manifest(about, happened, datetime.now(UTC), self._instance))
        except ApiError as error:
            log.warning("an event could not be written: %s", error)


def event_manifest(about: Manifest, happened: Event, now: datetime, instance: str) -> dict[str, Any]:
    metadata = about["metadata"]
    generation = metadata.get("generation", 1)
    said = "\0".join((metadata["uid"], str(generation), happened.reason, happened.message))
    digest = hashlib.sha256(said.encode()).hexdigest()[:16]
    when = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": f"{metadata['name']}.{digest}", "namespace": metadata["namespace"]},
        "type": "Warning" if happened.warning else "Normal",
        "reason": happened.reason,
        "message": happened.message[:_LONGEST_NOTE],
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "source": {"component": "haqa-operator", "host": instance},
        "reportingComponent": "haqa.dev/operator",
        "reportingInstance": instance,
        "firstTimestamp": when,
        "lastTimestamp": when,
        "count": 1,
    }


def events_of(before: TuningStatus, after: TuningStatus) -> Iterator[Event]:
    """Events for what has changed in a status; trials have their own."""
    old = {pool.name: pool for pool in before.pools}
    degraded, known = _degraded(after), _degraded(before)
    problem = degraded.message if degraded else ""
    failed = []
    for pool in after.pools:
        sentence = f'pool "{pool.name}": {pool.message}'
        # One event for a problem: the pool's where it has failed, else the condition's.
        if pool.phase is PoolPhase.FAILED:
            failed.append(sentence)
        elif sentence in problem:
            continue
        yield from _events_of_pool(old.get(pool.name), pool)
    if degraded and problem not in (known.message if known else "", " ".join(failed)):
        yield Event(degraded.reason, problem, warning=True)
    shown = {condition.message for condition in before.conditions if condition.type == OWN_TEXT}
    for condition in after.conditions:
        if condition.type == OWN_TEXT and condition.message not in shown:
            yield Event(condition.reason, condition.message, warning=True)


def _degraded(status: TuningStatus) -> Condition | None:
    """None where nothing needs a person."""
    return next((one for one in status.conditions if one.type == "Degraded" and one.status == "True"), None)


def _events_of_pool(old: PoolStatus | None, pool: PoolStatus) -> Iterator[Event]:
    phase, message = pool.phase, pool.message
    same_phase = old is not None and old.phase is phase
    # What is waited for may change while the phase does not: no node, no GPU, no model.
    unchanged = old is not None and _gist(old.message) == _gist(message)
    if same_phase and (unchanged or phase is not PoolPhase.PENDING):
        return
    if phase is PoolPhase.SEARCHING:
        message = f"{pool.candidates} configurations to choose from on {pool.hardware}"
    if phase is PoolPhase.DEPLOYING:
        message = f"{message} Deployment {pool.deployment} is starting"
    if message:
        yield Event(_PHASE_REASON[phase], f'pool "{pool.name}": {message}', warning=phase is PoolPhase.FAILED)


def _gist(message: str) -> str:
    """Without what changes every second: the steps of the pod that inspects the model."""
    return message.partition(": ")[0] if message.startswith(INSPECTING_MODEL) else message
