"""The parts of a Job's and a pod's status that say how a trial goes, as types. Reading only; nothing is concluded.

Whatever a status leaves out, since somebody has not written it yet, is None or empty here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from haqa_contract import TrialRequest
from haqa_operator.api.labels import REQUEST_ANNOTATION

_OUT_OF_MEMORY = "OOMKilled"
_DISRUPTIONS = frozenset({"Evicted", "NodeLost", "NodeShutdown", "Shutdown", "Terminated", "Preempting"})
"""`status.reason` of a pod that its node ended; all but the oldest kubelets add a DisruptionTarget condition."""


@dataclass(frozen=True)
class Ended:
    """One run of a container that is over. Times are Unix seconds."""

    exit_code: int
    reason: str
    message: str
    started: float | None
    finished: float | None

    @property
    def out_of_memory(self) -> bool:
        return self.reason == _OUT_OF_MEMORY

    @property
    def last_line(self) -> str:
        """Of the message, which is a report or the end of the log."""
        return next((line for line in reversed(self.message.splitlines()) if line.strip()), "")


@dataclass(frozen=True)
class Container:
    """A container of the pod and, where it runs or waits, since when and for what.

    Attributes:
        waiting: Reason of the waiting state, empty otherwise.
        ended: The present state, if it is an end.
        last: The run before this one, if it was restarted.
        memory_limit: As in the pod's spec.
        startup_limit_s: What the startup probe allows.
        args: As in the pod's spec.
    """

    name: str
    image: str
    waiting: str = ""
    waiting_message: str = ""
    running_since: float | None = None
    ended: Ended | None = None
    last: Ended | None = None
    restarts: int = 0
    memory_limit: str | None = None
    startup_limit_s: float | None = None
    args: tuple[str, ...] = ()

    @property
    def began(self) -> float | None:
        """When its present or final run began."""
        return self.ended.started if self.ended else self.running_since


@dataclass(frozen=True)
class Condition:
    """One entry of `status.conditions`."""

    status: bool
    reason: str
    message: str
    since: float | None


@dataclass(frozen=True)
class Pod:
    """A trial's pod.

    Attributes:
        gone_by: When it was to be gone, if it has been deleted; it may still be there when its node is not.
    """

    name: str
    node: str | None
    phase: str
    reason: str
    message: str
    created: float
    gone_by: float | None
    conditions: dict[str, Condition]
    containers: dict[str, Container]

    @classmethod
    def read(cls, pod: Mapping[str, Any]) -> Pod:
        metadata, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
        states = {
            entry["name"]: entry
            for entry in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
        }
        declared = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
        return cls(
            name=metadata["name"],
            node=spec.get("nodeName"),
            phase=status.get("phase", "Pending"),
            reason=status.get("reason") or "",
            message=status.get("message") or "",
            created=unix(metadata.get("creationTimestamp")) or 0.0,
            gone_by=unix(metadata.get("deletionTimestamp")),
            conditions=_conditions(status),
            containers={entry["name"]: _container(entry, states.get(entry["name"], {})) for entry in declared},
        )

    @property
    def disruption(self) -> str | None:
        """Why the cluster ended it, if the cluster did: drained, preempted, evicted, its node shut down."""
        condition = self.conditions.get("DisruptionTarget")
        if condition is not None and condition.status:
            return f"{condition.reason}: {condition.message}" if condition.message else condition.reason
        if self.phase == "Failed" and self.reason in _DISRUPTIONS:
            return f"{self.reason}: {self.message}" if self.message else self.reason
        return None

    @property
    def over(self) -> bool:
        return self.phase in ("Succeeded", "Failed")

    @property
    def scheduled(self) -> float | None:
        """Since when it has a node."""
        condition = self.conditions.get("PodScheduled")
        return condition.since if condition is not None and condition.status else None

    @property
    def unnoticed(self) -> bool:
        """Whether no scheduler has said anything of it, neither that it has a node nor why not."""
        return self.phase == "Pending" and self.node is None and "PodScheduled" not in self.conditions

    @property
    def without_node(self) -> str | None:
        """Why it has no node yet, once the scheduler has said so."""
        condition = self.conditions.get("PodScheduled")
        if condition is None or condition.status:
            return None
        return f"{condition.reason}: {condition.message}"

    def ended(self, container: str) -> Ended | None:
        found = self.containers.get(container)
        return found.ended if found else None


@dataclass(frozen=True)
class Job:
    """A trial's Job.

    Attributes:
        started: When it was first let run; a suspended Job has not started.
        failed: Its Failed (or, a moment earlier, FailureTarget) condition, once it is true.
        deadline_s: activeDeadlineSeconds.
        request: What its pod was asked, None if the annotation is gone.
    """

    name: str
    trial: str
    suspended: bool
    created: float
    started: float | None
    deleted: bool
    complete: bool
    failed: Condition | None
    deadline_s: float | None
    request: TrialRequest | None

    @classmethod
    def read(cls, job: Mapping[str, Any]) -> Job:
        metadata, spec, status = job["metadata"], job.get("spec", {}), job.get("status", {})
        conditions = {name: condition for name, condition in _conditions(status).items() if condition.status}
        request = _request(spec.get("template", {}).get("metadata", {}).get("annotations") or {})
        return cls(
            name=metadata["name"],
            trial=request.trial if request else metadata["name"],
            suspended=bool(spec.get("suspend")),
            created=unix(metadata.get("creationTimestamp")) or 0.0,
            started=unix(status.get("startTime")),
            deleted=metadata.get("deletionTimestamp") is not None,
            complete="Complete" in conditions,
            failed=conditions.get("Failed") or conditions.get("FailureTarget"),
            deadline_s=spec.get("activeDeadlineSeconds"),
            request=request,
        )

    @property
    def began(self) -> float:
        return self.started or self.created

    def past_deadline(self, now: float) -> bool:
        """Whether the Job's controller ends it, or is about to: it deletes the pods before it says so."""
        if self.failed is not None:
            return self.failed.reason == "DeadlineExceeded"
        return self.deadline_s is not None and self.started is not None and now >= self.started + self.deadline_s


def unix(time: str | datetime | None) -> float | None:
    """A time of the Kubernetes API, as JSON or as its Python client gives it, in Unix seconds."""
    if not time:
        return None
    moment = time if isinstance(time, datetime) else datetime.fromisoformat(time)
    return moment.timestamp()


def _conditions(status: Mapping[str, Any]) -> dict[str, Condition]:
    return {
        entry["type"]: Condition(
            status=entry.get("status") == "True",
            reason=entry.get("reason") or "",
            message=entry.get("message") or "",
            since=unix(entry.get("lastTransitionTime")),
        )
        for entry in status.get("conditions") or ()
    }


def _container(spec: Mapping[str, Any], status: Mapping[str, Any]) -> Container:
    state, last = status.get("state") or {}, status.get("lastState") or {}
    waiting, probe = state.get("waiting") or {}, spec.get("startupProbe")
    return Container(
        name=spec["name"],
        image=spec.get("image", ""),
        waiting=waiting.get("reason") or "",
        waiting_message=waiting.get("message") or "",
        running_since=unix((state.get("running") or {}).get("startedAt")),
        ended=_ended(state.get("terminated")),
        last=_ended(last.get("terminated")),
        restarts=int(status.get("restartCount") or 0),
        memory_limit=((spec.get("resources") or {}).get("limits") or {}).get("memory"),
        startup_limit_s=probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3) if probe else None,
        args=tuple(spec.get("args") or ()),
    )


def _ended(terminated: Mapping[str, Any] | None) -> Ended | None:
    if not terminated:
        return None
    return Ended(
        exit_code=int(terminated.get("exitCode", 0)),
        reason=terminated.get("reason") or "",
        message=terminated.get("message") or "",
        started=unix(terminated.get("startedAt")),
        finished=unix(terminated.get("finishedAt")),
    )


def _request(annotations: Mapping[str, str]) -> TrialRequest | None:
    try:
        return TrialRequest.model_validate_json(annotations.get(REQUEST_ANNOTATION, ""))
    except ValidationError:
        return None
