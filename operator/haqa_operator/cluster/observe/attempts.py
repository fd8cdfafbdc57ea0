"""The state of a trial, from its Job and its pods: still running and where, or over and with which report.

Pure: what the API server says goes in, an observation comes out, so that it does not matter how often, how late or by
which operator process a trial is observed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from haqa_contract import EngineReport, Failure, Phase, TrialReport, TrialRequest
from haqa_contract.termination import ReportInLog, decode_termination, report_from_log
from haqa_operator.api.trial import TrialPhase
from haqa_operator.cluster.names import MEASURE, QUANTIZE, REFERENCE
from haqa_operator.cluster.observe.failures import (
    AttemptEvidence,
    Limits,
    deadline_failure,
    deleted,
    engine_death,
    engine_may_be_dead,
    failure_of,
    gone,
)
from haqa_operator.cluster.observe.pods import Job, Pod
from haqa_operator.serving.pod import ENGINE_CONTAINER

_TAG = re.compile(r":v?(?P<version>[\w.+-]+)(?:@sha256:\w+)?$")


@dataclass(frozen=True)
class LogWanted:
    """A log to read, and then to observe again with it.

    Attributes:
        previous: Of the container's run before this one.
        line: Part of it, if it is known; without it the log is of another run, since the container was restarted.
    """

    pod: str
    container: str
    previous: bool = False
    line: str = ""


@dataclass(frozen=True)
class TrialObservation:
    """A trial as it is observed.

    Attributes:
        message: For a person: what it is doing, or why it ended.
        report: Everything that was found out, its failure included; None while the trial is running.
        started, finished: Of the Job, in Unix seconds; `finished` when the pod ended and not when somebody noticed.
        scheduled: Since when the pod has held its node.
        disruptions: Pods of this Job that the cluster ended and the Job replaced.
        logs_wanted: Without a report: it is in there. With one: a log may explain the failure better.
    """

    phase: TrialPhase
    message: str
    report: TrialReport | None = None
    started: float | None = None
    finished: float | None = None
    scheduled: float | None = None
    pod: str | None = None
    node: str | None = None
    disruptions: int = 0
    logs_wanted: tuple[LogWanted, ...] = ()

    @property
    def held_s(self) -> float:
        """How long its pod has held a node; 0 where that is not known yet."""
        return max(0.0, self.finished - self.scheduled) if self.finished and self.scheduled else 0.0

    @property
    def failure(self) -> Failure | None:
        return self.report.failure if self.report else None


def observe_attempt(
    job: Mapping[str, Any],
    pods: Sequence[Mapping[str, Any]],
    now: float,
    *,
    logs: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> TrialObservation:
    """The state of one attempt at a trial, or of a model's fetch, as the API server shows it.

    Args:
        job: The Job, as JSON.
        pods: All pods of the Job, in any order; none once somebody has removed them.
        now: Unix seconds.
        logs: Those of an earlier observation's `logs_wanted`, by container; an empty text for one that is gone.
    """
    view = Job.read(job)
    seen = sorted((Pod.read(pod) for pod in pods), key=lambda pod: (pod.created, pod.disruption is None, pod.name))
    if not seen:
        return _without_pods(view, now)
    pod = seen[-1]
    reports, in_log = _reports(pod, logs or {})
    evidence = AttemptEvidence(
        job=view,
        pod=pod,
        now=now,
        reports=reports,
        disrupted=sum(one.disruption is not None for one in seen),
        logs=logs or {},
        limits=limits or Limits(),
    )
    return _observation(evidence, in_log)


def _observation(evidence: AttemptEvidence, in_log: tuple[LogWanted, ...]) -> TrialObservation:
    job, pod = evidence.job, evidence.pod
    final = pod.ended(MEASURE if MEASURE in pod.containers else QUANTIZE)
    common: dict[str, Any] = {
        "started": job.began,
        "scheduled": pod.scheduled,
        "pod": pod.name,
        "node": pod.node,
        "disruptions": evidence.disrupted,
    }
    if _succeeded(evidence):
        finished = final.finished if final else evidence.now
        done = _merged(evidence)
        missing = tuple(log for log in in_log if log.container == QUANTIZE)
        return TrialObservation(TrialPhase.SUCCEEDED, "done", done, finished=finished, logs_wanted=missing, **common)
    if in_log and final is not None and any(log.container != ENGINE_CONTAINER for log in in_log):
        return TrialObservation(
            _phase(pod), "its report is in its log", finished=final.finished, logs_wanted=in_log, **common
        )
    failure = failure_of(evidence)
    if failure is None and job.deleted:
        failure = deleted(job)
    if failure is None:
        return TrialObservation(*_running(evidence), **common)
    report = _merged(evidence).model_copy(update={"failure": failure})
    return TrialObservation(
        TrialPhase.FAILED,
        f"{failure.reason}: {failure.message}",
        report,
        finished=_finished(evidence),
        logs_wanted=(*_engine_log(evidence), *_silent_log(evidence)),
        **common,
    )


def _without_pods(job: Job, now: float) -> TrialObservation:
    failure: Failure | None = None
    if job.deleted:
        failure = deleted(job)
    elif job.failed is not None and job.failed.reason == "DeadlineExceeded":
        failure = deadline_failure(job, "its pod was stopped")
    elif job.failed is not None or job.complete:
        failure = gone(job)
    if failure is None:
        waiting = "suspended: waits to be admitted" if job.suspended else "waiting for its pod"
        return TrialObservation(TrialPhase.PENDING, waiting, started=job.began)
    finished = job.failed.since if job.failed and job.failed.since else now
    message = f"{failure.reason}: {failure.message}"
    report = TrialReport(trial=job.trial, failure=failure)
    return TrialObservation(TrialPhase.FAILED, message, report, started=job.began, finished=finished)


def _reports(pod: Pod, logs: Mapping[str, str]) -> tuple[dict[str, TrialReport], tuple[LogWanted, ...]]:
    """The steps' reports, and the logs in which those are that did not fit."""
    reports: dict[str, TrialReport] = {}
    wanted: list[LogWanted] = []
    for step in (QUANTIZE, MEASURE):
        ended = pod.ended(step)
        found = decode_termination(ended.message) if ended else None
        if isinstance(found, ReportInLog) and step not in logs:
            wanted.append(LogWanted(pod.name, step))
        report = report_from_log(logs.get(step, "")) if isinstance(found, ReportInLog) else found
        if report is not None:
            reports[step] = report
    return reports, tuple(wanted)


def _succeeded(evidence: AttemptEvidence) -> bool:
    pod = evidence.pod
    if MEASURE not in pod.containers:
        fetched = evidence.reports.get(QUANTIZE)
        return fetched is not None and fetched.failure is None and fetched.artifact is not None
    measured = evidence.reports.get(MEASURE)
    good = measured is not None and measured.failure is None and measured.load is not None
    return good and engine_death(evidence) is None


def _merged(evidence: AttemptEvidence) -> TrialReport:
    """What quantize, the engine and measure say together."""
    report = evidence.reports.get(QUANTIZE) or TrialReport(trial=evidence.job.trial)
    if (served := _served(evidence)) is not None:
        report = report.merged(served)
    if (measured := evidence.reports.get(MEASURE)) is not None:
        report = report.merged(measured)
    return report.model_copy(update={"trial": evidence.job.trial})


def _served(evidence: AttemptEvidence) -> TrialReport | None:
    """The engine's part, which in a pod nobody reports: its command as it was asked for, and how long it took."""
    engine, measure = evidence.pod.containers.get(ENGINE_CONTAINER), evidence.pod.containers.get(MEASURE)
    request = evidence.job.request
    if engine is None or measure is None or request is None or measure.began is None or engine.began is None:
        return None
    seconds = max(0.0, measure.began - engine.began)
    return TrialReport(
        trial=request.trial,
        engine=_engine_report(request, engine.image, seconds),
        phases=(Phase(name="load", started=engine.began, seconds=seconds),),
    )


def _engine_report(request: TrialRequest, image: str, seconds: float) -> EngineReport:
    tag = _TAG.search(image)
    return EngineReport(
        version=tag["version"] if tag else "unknown",
        startup_s=seconds,
        args=request.engine.args,
        env=request.engine.env,
    )


def _running(evidence: AttemptEvidence) -> tuple[TrialPhase, str]:
    pod = evidence.pod
    if evidence.replaced:
        return TrialPhase.PENDING, f"the cluster ended {pod.name} ({pod.disruption or 'deleted'}); waiting for another"
    phase = _phase(pod)
    if phase is not TrialPhase.PENDING:
        return phase, f"{phase.value.lower()} on {pod.node}"
    if pod.without_node is not None:
        return phase, pod.without_node
    if pod.unnoticed:
        return phase, "waiting for a scheduler"
    stuck = next((c for c in pod.containers.values() if c.waiting not in ("", "PodInitializing")), None)
    return phase, f"{stuck.name}: {stuck.waiting} {stuck.waiting_message}".strip() if stuck else "starting"


def _phase(pod: Pod) -> TrialPhase:
    """The last step that has begun."""
    measure, engine, quantize = (pod.containers.get(name) for name in (MEASURE, ENGINE_CONTAINER, QUANTIZE))
    if measure is not None and measure.began is not None:
        return TrialPhase.EVALUATING
    if engine is not None and (engine.began is not None or (quantize is not None and quantize.ended is not None)):
        return TrialPhase.LOADING
    if quantize is not None and quantize.began is not None:
        return TrialPhase.EVALUATING if quantize.args[:1] == (REFERENCE,) else TrialPhase.QUANTIZING
    return TrialPhase.PENDING


def _finished(evidence: AttemptEvidence) -> float:
    """When the pod came to its end; now, if it has not."""
    containers = evidence.pod.containers.values()
    ends = [run.finished for c in containers for run in (c.ended, c.last) if run is not None and run.finished]
    failed = evidence.job.failed
    if failed is not None and failed.since:
        ends.append(failed.since)
    return max(ends) if ends else evidence.now


def _engine_log(evidence: AttemptEvidence) -> tuple[LogWanted, ...]:
    """The engine's whole log, if the end of it in the status, or a client's view, is all that its failure says."""
    if ENGINE_CONTAINER in evidence.logs or ENGINE_CONTAINER not in evidence.pod.containers:
        return ()
    died = engine_death(evidence)
    if died is None:
        blamed = any(engine_may_be_dead(report.failure) for report in evidence.reports.values())
        return (LogWanted(evidence.pod.name, ENGINE_CONTAINER),) if blamed else ()
    previous = evidence.pod.containers[ENGINE_CONTAINER].ended is not died
    return (LogWanted(evidence.pod.name, ENGINE_CONTAINER, previous, died.last_line),)


def _silent_log(evidence: AttemptEvidence) -> tuple[LogWanted, ...]:
    """The log of measure, if it ended as if all was well: the kubelet then leaves its end out of the status."""
    ended = evidence.pod.ended(MEASURE)
    silent = ended is not None and ended.exit_code == 0 and not ended.message and not evidence.stopped_from_outside
    return (LogWanted(evidence.pod.name, MEASURE),) if silent and MEASURE not in evidence.logs else ()
