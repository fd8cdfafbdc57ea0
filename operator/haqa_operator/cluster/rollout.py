"""How an answer comes to be served: a pure function from what the API server shows to the next step.

Level-triggered like `decide`: how far an answer is stands on its record, and everything else is looked at. The pods of
a new answer come up beside those that serve, kept out of the Service by their revision; the Deployment waits after the
first of them, since none counts as available for as long as it is held. Once that pod has been verified, requests may
come and the others follow. Where there is no room beside, the first new pod takes an old one's place.

An answer that does not start, or falls short of its trial, is rolled back once; it is never tried again by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from haqa_contract import Estimate
from haqa_operator.api.labels import REVISION_LABEL
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import AnswerPhase
from haqa_operator.api.tuning import Verify
from haqa_operator.cluster.observe.attempts import TrialObservation
from haqa_operator.cluster.observe.deployments import complete, serves, waits_for, wanted_replicas
from haqa_operator.cluster.observe.failures import Limits
from haqa_operator.cluster.observe.pods import Pod
from haqa_operator.cluster.observe.revisions import Revision
from haqa_operator.cluster.observe.verification import shortfall, verified_metrics

VERIFY_ATTEMPTS = 3
"""Jobs that measure one answer's pod: what keeps one from it may not keep the next."""
RESTARTS = 3
"""Of a new pod's engine, after which it is not waited for any longer."""
_TEMPLATE_HASH = "pod-template-hash"


@dataclass(frozen=True)
class Verification:
    """The latest Job that measures a pod of an answer."""

    attempt: int
    seen: TrialObservation


@dataclass(frozen=True)
class Seen:
    """A pool's answers and what is there of them.

    Attributes:
        wanted: The answer that shall serve.
        serving: The one that serves until then, and to which a failure goes back; `wanted` itself once it serves.
        deployment: None where there is none yet.
        pods: The Deployment's, of all answers.
        verify: Of the spec.
        now: Unix seconds.
    """

    wanted: Revision
    serving: Revision | None
    deployment: Manifest | None
    pods: tuple[Manifest, ...] = ()
    verification: Verification | None = None
    verify: Verify = field(default_factory=Verify)
    rolled_back: frozenset[str] = frozenset()
    now: float = 0.0
    limits: Limits = field(default_factory=Limits)

    @property
    def first(self) -> bool:
        """Whether nothing serves that could be interrupted."""
        return self.serving is None and not self._others

    @property
    def new(self) -> tuple[Manifest, ...]:
        """Pods of the wanted answer."""
        return tuple(pod for pod in self.pods if _revision_of(pod) == self.wanted.label and not _leaving(pod))

    @property
    def _others(self) -> tuple[Manifest, ...]:
        return tuple(pod for pod in self.pods if _revision_of(pod) != self.wanted.label and not _leaving(pod))

    @property
    def left_of_rolled_back(self) -> bool:
        return any(_revision_of(pod) in self.rolled_back for pod in self.pods)

    @property
    def selector_of_serving(self) -> Mapping[str, str]:
        """What tells the pods that serve from those of the wanted answer; empty where none does."""
        if self.serving is not None and self.serving.name != self.wanted.name:
            return {REVISION_LABEL: self.serving.label}
        hashes = {_labels(pod)[_TEMPLATE_HASH] for pod in self._others if _TEMPLATE_HASH in _labels(pod)}
        return {_TEMPLATE_HASH: min(hashes)} if hashes else {}


@dataclass(frozen=True)
class Layout:
    """What shall be in the cluster now.

    Attributes:
        revision: Whose pods the Deployment makes.
        hold: It goes no further than its first new pod.
        in_place: A new pod takes an old one's place, instead of coming beside it.
        service: Whether there is one, and which of the Deployment's pods get requests: those with these labels too.
    """

    revision: Revision
    hold: bool = False
    in_place: bool = False
    service: Mapping[str, str] | None = field(default_factory=dict)


@dataclass(frozen=True)
class Mark:
    """Write on the wanted answer's record how far it is.

    Attributes:
        verified: What was measured of its pod, by metric key.
    """

    phase: AnswerPhase
    message: str = ""
    in_place: bool = False
    verified: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """Have a Job measure the pod at this address."""

    attempt: int
    address: str


@dataclass(frozen=True)
class Step:
    """What to do now.

    Attributes:
        layout: None leaves everything as it is.
        message: What is waited for, for a person.
        serves: Whether the wanted answer serves.
    """

    layout: Layout | None = None
    mark: Mark | None = None
    measure: Measure | None = None
    message: str = ""
    serves: bool = False


def next_step(seen: Seen) -> Step:
    """The same for equal observations; carrying it out twice does no harm."""
    wanted = seen.wanted
    match wanted.phase:
        case AnswerPhase.SERVING:
            return _serving(seen)
        case AnswerPhase.RETIRED:
            # A later one was rolled back, or is not wanted: this one has served before, and need not prove it again.
            return Step(mark=Mark(AnswerPhase.SERVING, "serves again", wanted.in_place))
        case AnswerPhase.DECIDED:
            return Step(mark=Mark(AnswerPhase.DEPLOYING))
        case AnswerPhase.DEPLOYING:
            return _deploying(seen)
        case _:
            return verifying(seen)


def _serving(seen: Seen) -> Step:
    wanted = seen.wanted
    # While pods of one that was rolled back are still there, they get no request.
    narrow = {REVISION_LABEL: wanted.label} if seen.left_of_rolled_back else {}
    # Nor are they waited for: where there is no room they hold the place of the one that shall serve.
    layout = Layout(wanted, in_place=wanted.in_place or seen.left_of_rolled_back, service=narrow)
    if seen.deployment is not None and is_of(seen.deployment, wanted) and complete(seen.deployment):
        return Step(layout, serves=True)
    waiting = waits_for(seen.deployment, seen.new) if seen.deployment else "its Deployment is made"
    up = seen.deployment is not None and is_of(seen.deployment, wanted) and serves(seen.deployment)
    return Step(layout, message=waiting, serves=up)


def _deploying(seen: Seen) -> Step:
    wanted, layout = seen.wanted, _rolling(seen)
    deployment = seen.deployment
    if deployment is None or not is_of(deployment, wanted):
        return Step(layout, message="its pods are made")
    if wanted_replicas(deployment) == 0:
        return Step(mark=Mark(AnswerPhase.SERVING, "not verified: it is scaled to 0", wanted.in_place))
    pods = [Pod.read(pod) for pod in seen.new]
    if any(_ready(pod) for pod in seen.new):
        if seen.verify.enabled:
            return Step(layout, mark=Mark(AnswerPhase.VERIFYING, in_place=wanted.in_place))
        return Step(layout, mark=Mark(AnswerPhase.SERVING, "not verified: output.verify is off", wanted.in_place))
    if trouble := _gave_up(seen, pods):
        return Step(mark=Mark(AnswerPhase.ROLLED_BACK, trouble, wanted.in_place))
    if not wanted.in_place and not seen.first and _no_room(pods, seen):
        # Begins its time anew: the pod that it replaces has to end first.
        return Step(mark=Mark(AnswerPhase.DEPLOYING, "no room beside what serves: it is replaced in place", True))
    return Step(layout, message=waits_for(deployment, seen.new))


def verifying(seen: Seen) -> Step:
    """The next step for an answer whose pods are there: the Job that measures one, and what follows from it."""
    wanted, layout, latest = seen.wanted, _rolling(seen), seen.verification
    ready = [pod for pod in seen.new if _ready(pod) and pod.get("status", {}).get("podIP")]
    observed = latest.seen if latest is not None else None
    if observed is not None and (not observed.phase.finished or observed.logs_wanted):
        return Step(layout, message=f"it is measured: {observed.message}")
    if observed is not None and observed.failure is None and observed.report is not None:
        measured = verified_metrics(observed.report, wanted.answer)
        short = shortfall(measured, wanted.answer, seen.verify.tolerance_percent)
        if short is None:
            return Step(mark=Mark(AnswerPhase.SERVING, "as fast as its trial", wanted.in_place, measured))
        return Step(mark=Mark(AnswerPhase.ROLLED_BACK, short, wanted.in_place, measured))
    attempt = latest.attempt + 1 if latest is not None else 1
    if observed is not None and attempt > VERIFY_ATTEMPTS:
        why = f"it could not be measured in {VERIFY_ATTEMPTS} attempts: {observed.message}"
        return Step(mark=Mark(AnswerPhase.ROLLED_BACK, why, wanted.in_place))
    if not ready:
        return _deploying(seen)
    return Step(layout, measure=Measure(attempt, ready[0]["status"]["podIP"]), message="it is measured")


def is_left(seen: Seen) -> bool:
    """Whether the Deployment is still that of the wanted answer: of one that did not do it has to go."""
    return seen.deployment is not None and is_of(seen.deployment, seen.wanted)


def _rolling(seen: Seen) -> Layout:
    """The wanted answer beside the one that serves."""
    wanted = seen.wanted
    if seen.first:
        # What gets no requests yet need not be held.
        return Layout(wanted, service=None)
    narrow = seen.selector_of_serving if seen.verify.enabled else {}
    return Layout(wanted, hold=seen.verify.enabled, in_place=wanted.in_place, service=narrow)


def _gave_up(seen: Seen, pods: list[Pod]) -> str | None:
    """Why the new pods are not waited for any longer."""
    assert seen.deployment is not None
    for pod in pods:
        for container in pod.containers.values():
            if container.restarts >= RESTARTS:
                return waits_for(seen.deployment, seen.new)
    deadline_s = _deadline_s(seen.wanted)
    if seen.now < seen.wanted.since + deadline_s:
        return None
    return f"not ready after {deadline_s:.0f} s: {waits_for(seen.deployment, seen.new)}"


def _deadline_s(revision: Revision) -> float:
    deployment = revision.answer.manifest("Deployment")
    return float(deployment["spec"]["progressDeadlineSeconds"]) if deployment else 600.0


def _no_room(pods: list[Pod], seen: Seen) -> bool:
    waiting = (pod for pod in pods if pod.without_node is not None)
    return any(seen.now >= pod.created + seen.limits.unschedulable_s for pod in waiting)


def is_of(deployment: Manifest, revision: Revision) -> bool:
    """Whether its newest pods are the answer's."""
    labels = deployment["spec"]["template"]["metadata"].get("labels") or {}
    return labels.get(REVISION_LABEL) == revision.label


def _revision_of(pod: Manifest) -> str:
    return _labels(pod).get(REVISION_LABEL, "")


def _labels(pod: Manifest) -> Mapping[str, str]:
    return pod["metadata"].get("labels") or {}


def _leaving(pod: Manifest) -> bool:
    read = Pod.read(pod)
    return read.gone_by is not None or read.over


def _ready(pod: Manifest) -> bool:
    condition = Pod.read(pod).conditions.get("Ready")
    return condition is not None and condition.status
