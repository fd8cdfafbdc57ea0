"""Why a trial's pod did not give numbers: rules tried in order, the first that applies names the reason.

A rule that needs time to be sure (a node may still come, a registry may answer again) waits out its limit first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from haqa_contract import Failure, FailureReason, TrialReport
from haqa_contract.engine_log.diagnosis import OUT_OF_MEMORY_EXITS, core_death, diagnose, did_not_start
from haqa_contract.failures import shortened
from haqa_operator.cluster.names import MEASURE, QUANTIZE
from haqa_operator.cluster.observe.pods import Container, Ended, Job, Pod
from haqa_operator.serving.pod import ENGINE_CONTAINER

_MESSAGE_LIMIT = 1500
_TAIL_LINES, _LINE_LIMIT = 10, 240
_LOST = "ContainerStatusUnknown"
"""What the API says of a container whose node cannot be asked any more."""
_WRONG_IMAGE = frozenset({"InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "SignatureValidationFailed"})
_PULLING = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"})
_NOT_STARTING = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CreatePodSandboxError"}
)
_REFUSALS = frozenset({"UnexpectedAdmissionError", "NodeAffinity", "PodFeatureGateUnsupported", "AppArmor"})
"""`status.reason` of a pod that its kubelet did not admit; beside these, those that begin with OutOf."""
_OF_THE_CLUSTER = frozenset({FailureReason.TIMEOUT, FailureReason.LOAD_ERRORS})
"""What a step reports when its pod is stopped around it: somebody else knows better why."""
_OF_A_BROKEN_ENGINE = frozenset(
    {FailureReason.ENGINE_LOAD_FAILED, FailureReason.LOAD_ERRORS, FailureReason.METRICS_MISSING}
)
"""What a step reports of an engine that has died behind its API server."""
_PROBE_SLACK_S = 10
"""The kubelet counts failed probes and not seconds: it may kill a little before the limit."""


@dataclass(frozen=True)
class Limits:
    """How long to wait before a state counts as a failure, in seconds; and how often a pod may be disrupted."""

    unschedulable_s: float = 300
    image_pull_s: float = 60
    not_starting_s: float = 60
    node_lost_s: float = 60
    disruptions: int = 3


@dataclass(frozen=True)
class AttemptEvidence:
    """All that is known of one attempt, its newest pod in the middle.

    Attributes:
        reports: What quantize and measure left, by container; those that wait in a log are not among them.
        disrupted: Pods of this Job that the cluster ended, this one included.
        logs: Logs that have been read, by container; the engine's of its last failed run.
    """

    job: Job
    pod: Pod
    now: float
    reports: Mapping[str, TrialReport] = field(default_factory=dict)
    disrupted: int = 0
    logs: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)

    @property
    def stopped_from_outside(self) -> bool:
        """Its pod is being removed: how containers end now says nothing about the configuration."""
        return self.pod.gone_by is not None or self.pod.disruption is not None or self.job.past_deadline(self.now)

    @property
    def replaced(self) -> bool:
        """The cluster ended this pod and the Job makes another one."""
        return self.pod.gone_by is not None or self.pod.disruption is not None


Rule = Callable[[AttemptEvidence], Failure | None]


def failure_of(evidence: AttemptEvidence) -> Failure | None:
    """The first rule's answer; None while there is nothing wrong, or nothing sure."""
    rules = _REPLACED if evidence.replaced and not evidence.job.past_deadline(evidence.now) else _RULES
    return next((failure for rule in rules if (failure := rule(evidence)) is not None), None)


def engine_death(evidence: AttemptEvidence) -> Ended | None:
    """The run of the engine that ended by itself, before it was ready or while it was measured; the last one.

    A sidecar that fails is started again for ever, and the same configuration fails again: the first time is enough.
    An engine that was restarted before the measurement began, unseen by the operator, has spoilt nothing.
    """
    engine, measure = evidence.pod.containers.get(ENGINE_CONTAINER), evidence.pod.containers.get(MEASURE)
    if engine is None:
        return None
    measured_from = measure.began if measure else None
    measured_until = measure.ended.finished if measure and measure.ended else None
    if engine.ended is not None and not evidence.stopped_from_outside:
        finished = engine.ended.finished
        # After the measurement the kubelet stops the sidecar, whatever its exit code then is.
        if measured_until is None or (finished is not None and finished < measured_until):
            return engine.ended
    if engine.last is None or engine.restarts == 0:
        return None
    unseen = measured_from is not None and (engine.last.finished or 0) <= measured_from
    return None if unseen else engine.last


def engine_died(evidence: AttemptEvidence) -> Failure | None:
    ended = engine_death(evidence)
    if ended is None:
        return None
    engine = evidence.pod.containers[ENGINE_CONTAINER]
    if ended.reason == _LOST:
        return _node_lost(evidence, f"the container {engine.name} is not known to it any more")
    log = evidence.logs.get(ENGINE_CONTAINER) or ended.message
    limit_s = engine.startup_limit_s
    lasted_s = (ended.finished - ended.started) if ended.finished and ended.started else 0.0
    began = evidence.pod.containers[MEASURE].began if MEASURE in evidence.pod.containers else None
    args = evidence.job.request.engine.args if evidence.job.request else ()
    if began is None and limit_s and lasted_s >= limit_s - _PROBE_SLACK_S and not ended.out_of_memory:
        # Stopped by its startup probe: what it wrote while being stopped is no cause.
        return did_not_start(log, limit_s, args)
    found = diagnose(log, None if ended.out_of_memory else ended.exit_code, args)
    if ended.out_of_memory and found.reason is not FailureReason.ENGINE_OOM:
        message = (
            f"the engine used more than the memory limit of its container{_limit(engine)} and was killed; set a "
            "smaller KV cache (VLLM_CPU_KVCACHE_SPACE, gpu-memory-utilization) or max-model-len, or give it more"
        )
        return found.model_copy(update={"reason": FailureReason.ENGINE_OOM, "message": message})
    return found


def core_died(evidence: AttemptEvidence) -> Failure | None:
    """An engine whose API server outlives it and answers every request with an error: its log says what killed it."""
    log = evidence.logs.get(ENGINE_CONTAINER)
    if not log or evidence.stopped_from_outside:
        return None
    if not any(engine_may_be_dead(report.failure) for report in evidence.reports.values()):
        return None
    return core_death(log, evidence.job.request.engine.args if evidence.job.request else ())


def reported(evidence: AttemptEvidence) -> Failure | None:
    """What a step found out itself."""
    failures = (report.failure for report in evidence.reports.values() if report.failure is not None)
    failure = next((failure for failure in failures if failure.reason not in _OF_THE_CLUSTER), None)
    log = evidence.logs.get(ENGINE_CONTAINER)
    if failure is None or failure.reason is not FailureReason.ENGINE_LOAD_FAILED or not log:
        return failure
    # A client of the engine sees that it failed; why is in the engine's own log.
    cause = diagnose(log, None, evidence.job.request.engine.args if evidence.job.request else ())
    message = shortened(f"{failure.message}; its log: {cause.message}", _MESSAGE_LIMIT)
    reason = cause.reason if cause.reason is FailureReason.ENGINE_OOM else failure.reason
    found = {
        "reason": reason,
        "message": message,
        "log_tail": cause.log_tail,
        "of_configuration": cause.of_configuration,
    }
    return failure.model_copy(update=found)


def engine_may_be_dead(failure: Failure | None) -> bool:
    """Whether what a step found is what an engine leaves that died behind its API server."""
    return failure is not None and failure.reason in _OF_A_BROKEN_ENGINE


def past_deadline(evidence: AttemptEvidence) -> Failure | None:
    job = evidence.job
    if not job.past_deadline(evidence.now):
        return None
    if job.failed is None and any(report.failure for report in evidence.reports.values()):
        return None
    return deadline_failure(job, _where(evidence.pod))


def deadline_failure(job: Job, where: str) -> Failure:
    limit = f"{job.deadline_s:g} s" if job.deadline_s is not None else "its deadline"
    return _failure(
        FailureReason.TIMEOUT,
        f"the trial took longer than budget.trialTimeout ({limit}); {where}. Raise it, or ask for less (fewer samples, "
        "a smaller workload)",
    )


def disrupted(evidence: AttemptEvidence) -> Failure | None:
    """Evicted, drained, preempted, deleted: the Job replaces the pod, unless it has given up or it goes on for ever."""
    pod, limits = evidence.pod, evidence.limits
    why = pod.disruption or "somebody deleted it"
    if evidence.job.failed is not None or evidence.job.deleted:
        return _evicted(f"the pod {pod.name} was ended by the cluster ({why})")
    if evidence.disrupted >= limits.disruptions:
        return _evicted(f"{evidence.disrupted} pods of this trial were ended by the cluster, the last by {why}")
    if pod.gone_by is not None and evidence.now >= pod.gone_by + limits.node_lost_s and not pod.over:
        return _node_lost(evidence, f"the pod {pod.name} was to be gone {evidence.now - pod.gone_by:.0f} s ago")
    return None


def refused(evidence: AttemptEvidence) -> Failure | None:
    """The scheduler chose a node whose kubelet says no."""
    pod = evidence.pod
    if pod.phase != "Failed" or not (pod.reason in _REFUSALS or pod.reason.startswith("OutOf")):
        return None
    return _failure(
        FailureReason.UNSCHEDULABLE,
        f"the node {pod.node or ''} refused the pod ({pod.reason}: {pod.message}); check the node's devices and load",
    )


def lost(evidence: AttemptEvidence) -> Failure | None:
    for container in evidence.pod.containers.values():
        if container.ended is not None and container.ended.reason == _LOST:
            return _node_lost(evidence, f"the container {container.name} is not known to it any more")
    return None


def quantize_ended(evidence: AttemptEvidence) -> Failure | None:
    return _step_ended(evidence, QUANTIZE, FailureReason.QUANTIZATION_FAILED, FailureReason.QUANTIZATION_OOM)


def measure_ended(evidence: AttemptEvidence) -> Failure | None:
    failure = _step_ended(evidence, MEASURE, FailureReason.LOAD_ERRORS, FailureReason.LOAD_ERRORS)
    ended, report = evidence.pod.ended(MEASURE), evidence.reports.get(MEASURE)
    if failure is not None or ended is None or (report is not None and report.load is not None):
        return failure
    what = "ended without a report" if report is None else "ended without numbers"
    log = ended.message or evidence.logs.get(MEASURE, "")
    return _failure(FailureReason.METRICS_MISSING, f"measure {what}; its log says more", _tail(log))


def waiting(evidence: AttemptEvidence) -> Failure | None:
    """A container that cannot be started: its image, or something that it refers to, is not there."""
    for container in evidence.pod.containers.values():
        waited_s = evidence.now - _turn_of(container, evidence.pod)
        why = f"{container.waiting}: {container.waiting_message}" if container.waiting_message else container.waiting
        pulling = container.waiting in _PULLING and waited_s >= evidence.limits.image_pull_s
        if pulling or container.waiting in _WRONG_IMAGE:
            return _failure(
                FailureReason.IMAGE_PULL,
                f"the image {container.image} of the container {container.name} cannot be had ({why}); check its name, "
                "and the registry's credentials (podTemplate.imagePullSecrets, or those of the service account)",
            )
        if container.waiting in _NOT_STARTING and waited_s >= evidence.limits.not_starting_s:
            return _failure(
                FailureReason.UNSCHEDULABLE,
                f"the node {evidence.pod.node or ''} cannot start the container {container.name} ({why}); check the "
                "Secrets and volumes that the tuning and the installation (runner.secrets) name, and the node's "
                "container runtime",
            )
    return None


def unschedulable(evidence: AttemptEvidence) -> Failure | None:
    scheduled = evidence.pod.conditions.get("PodScheduled")
    if scheduled is None or scheduled.status or scheduled.reason != "Unschedulable":
        return None
    waited_s = evidence.now - (scheduled.since or evidence.pod.created)
    if waited_s < evidence.limits.unschedulable_s:
        return None
    return _failure(
        FailureReason.UNSCHEDULABLE,
        f"no node took the pod for {waited_s:.0f} s ({scheduled.message}); free or add a node of the pool, or correct "
        "its nodeSelector, tolerations, podTemplate.affinity, gpusPerReplica or deviceResource",
    )


def unnoticed(evidence: AttemptEvidence) -> Failure | None:
    """No scheduler has said a word: there is none of that name, or it may not begin before something else is there."""
    pod = evidence.pod
    waited_s = evidence.now - pod.created
    if not pod.unnoticed or waited_s < evidence.limits.unschedulable_s:
        return None
    return _failure(
        FailureReason.UNSCHEDULABLE,
        f"no scheduler has looked at the pod {pod.name} for {waited_s:.0f} s; check podTemplate.schedulerName, and "
        "that resourceClaimTemplate is in the tuning's namespace (the pod's events say more)",
    )


def job_failed(evidence: AttemptEvidence) -> Failure | None:
    return gone(evidence.job) if evidence.job.failed is not None or evidence.job.complete else None


def gone(job: Job) -> Failure:
    """For a Job that has ended while nothing else is left to say how."""
    why = f"{job.failed.reason}: {job.failed.message}" if job.failed else "Complete"
    return _failure(
        FailureReason.METRICS_MISSING,
        f"the Job {job.name} has ended ({why}) and what it measured is lost: its pod is gone or left no report",
    )


def deleted(job: Job) -> Failure:
    return _evicted(f"the Job {job.name} was deleted before it ended")


_RULES: tuple[Rule, ...] = (
    engine_died,
    core_died,
    reported,
    past_deadline,
    refused,
    lost,
    quantize_ended,
    measure_ended,
    waiting,
    unschedulable,
    unnoticed,
    job_failed,
)
_REPLACED: tuple[Rule, ...] = (engine_died, reported, disrupted)
"""For a pod that the cluster ended: only what was found out before it did counts."""


def _step_ended(
    evidence: AttemptEvidence, step: str, unexpected: FailureReason, out_of_memory: FailureReason
) -> Failure | None:
    ended, report = evidence.pod.ended(step), evidence.reports.get(step)
    if ended is None:
        return None
    if ended.out_of_memory:
        container = evidence.pod.containers[step]
        message = (
            f"{step} used more than the memory limit of its container{_limit(container)} and was killed; give it more "
            "memory, or fewer or shorter samples"
        )
        return _failure(out_of_memory, message, _tail(ended.message))
    if report is not None and report.failure is not None:
        return report.failure
    if ended.exit_code == 0:
        return None
    if ended.exit_code in OUT_OF_MEMORY_EXITS:
        message = f"{step} was killed (exit code {ended.exit_code}), most likely because its node ran out of memory"
        remedy = "give it more memory, or fewer or shorter samples, or a node without such neighbours"
        return _failure(out_of_memory, f"{message}; {remedy}", _tail(ended.message))
    tail = _tail(ended.message)
    last = f": {tail[-1]}" if tail else ""
    how = f"exit code {ended.exit_code}" + (f", {ended.reason}" if ended.reason not in ("", "Error") else "")
    return _failure(unexpected, f"{step} ended without a report ({how}){last}", tail)


def _turn_of(container: Container, pod: Pod) -> float:
    """When it was this container's turn to start; a waiting state does not say since when."""
    earlier = {ENGINE_CONTAINER: pod.ended(QUANTIZE)}.get(container.name)
    if earlier is not None and earlier.finished is not None:
        return earlier.finished
    if container.name == MEASURE and (engine := pod.containers.get(ENGINE_CONTAINER)) and engine.running_since:
        return engine.running_since
    return pod.scheduled or pod.created


def _where(pod: Pod) -> str:
    running = [name for name, container in pod.containers.items() if container.running_since is not None]
    if running:
        return f"{running[-1]} was running on {pod.node}"
    return "its pod was stopped" if pod.over or pod.gone_by else "its pod was waiting to start"


def _node_lost(evidence: AttemptEvidence, what: str) -> Failure:
    return _evicted(f"the node {evidence.pod.node or ''} is lost: {what}")


def _evicted(what: str) -> Failure:
    return _failure(FailureReason.EVICTED, f"{what}; the configuration is not at fault and may be measured again")


def _failure(reason: FailureReason, message: str, tail: tuple[str, ...] = ()) -> Failure:
    return Failure(reason=reason, message=shortened(" ".join(message.split()), _MESSAGE_LIMIT), log_tail=tail)


def _tail(message: str) -> tuple[str, ...]:
    lines = [line.rstrip() for line in message.splitlines() if line.strip()]
    return tuple(line[:_LINE_LIMIT] for line in lines[-_TAIL_LINES:])


def _limit(container: Container) -> str:
    return f" ({container.memory_limit})" if container.memory_limit else ""
