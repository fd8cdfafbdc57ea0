"""Keeps a tuning's answers applied: writes each down once, brings it to be served, and takes it back if it does not do.

Everything is read from the records, so that nothing in the spec, the installation or on the nodes has to be known for
what serves to go on serving.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from haqa_operator.api.answer import Answer
from haqa_operator.api.labels import (
    APPROVED_AT_ANNOTATION,
    APPROVED_BY_ANNOTATION,
    POOL_LABEL,
    REVISION_LABEL,
    TUNING_LABEL,
)
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import AnswerPhase, AnswerStatus, PoolPhase
from haqa_operator.api.tuning import Output
from haqa_operator.cluster.act.attempt_logs import observe_with_logs
from haqa_operator.cluster.act.dependencies import Dependencies
from haqa_operator.cluster.act.kserving import keep_by_kserve
from haqa_operator.cluster.act.live_objects import Foreign, LiveObjects
from haqa_operator.cluster.act.ownership import apply_record, create_owned
from haqa_operator.cluster.act.publishing import keep_in_git
from haqa_operator.cluster.build.records import (
    build_mark,
    build_record,
    record_name,
    verification_job,
    verification_name,
    with_revision,
)
from haqa_operator.cluster.build.report import build_report_map
from haqa_operator.cluster.build.statuses import PoolView
from haqa_operator.cluster.edges.api_server import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    INFERENCE_SERVICE,
    JOB,
    POD,
    ApiRefused,
)
from haqa_operator.cluster.names import label
from haqa_operator.cluster.observe.approvals import Approval
from haqa_operator.cluster.observe.pods import unix
from haqa_operator.cluster.observe.revisions import History, Revision, stamp
from haqa_operator.cluster.observe.snapshot import Work, label_selector
from haqa_operator.cluster.repeated import CarriedOver, carried_over, repeated
from haqa_operator.cluster.rollout import (
    VERIFY_ATTEMPTS,
    Mark,
    Measure,
    Seen,
    Step,
    Verification,
    is_left,
    next_step,
)
from haqa_operator.report.model import TuningReport
from haqa_operator.serving.deployment import render_yaml

log = logging.getLogger(__name__)

HISTORY_LIMIT = 10
"""Answers of a pool that are kept, as many as a Deployment keeps by default."""
_MOST_STEPS = 8
"""Of one look: from decided to serving it takes four."""


Approved = Callable[[str, float], Approval | None]
"""By the name of the trial that won, since its answer was written down (Unix seconds); None while nobody has."""


@dataclass
class AnswerKeeper:
    """Lives for one look at one tuning.

    Attributes:
        manifest: The tuning's.
        histories: Pool -> its answers; what is written here is in them at once.
        now: Unix seconds.
        requeue: Has the tuning looked at again once a repository has answered.
    """

    dependencies: Dependencies
    manifest: Manifest
    histories: dict[str, History]
    approved: Approved
    now: float
    requeue: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.live = LiveObjects(self.dependencies.api, self.namespace, self.tuning)

    @property
    def namespace(self) -> str:
        return str(self.manifest["metadata"]["namespace"])

    @property
    def tuning(self) -> str:
        return str(self.manifest["metadata"]["name"])

    def history(self, pool: str) -> History:
        return self.histories.get(pool, History())

    def write_down(self, answer: Answer, owner: Manifest, report: TuningReport | None = None) -> Revision:
        """The answer's record: the latest one, where that is the same answer already.

        Args:
            report: How it was found; kept with the record.
        """
        history = self.history(answer.pool)
        latest = history.latest
        if latest is not None and latest.answer.key == answer.key:
            return latest
        name = record_name(self.tuning, answer.pool, answer.key, latest.name if latest else "")
        manifests = self.live.adapted(answer)
        earlier = repeated(history, manifests)
        pods = earlier.label if earlier is not None else label(name)
        answer = answer.model_copy(update={"manifests": with_revision(manifests, pods)})
        number = history.next_number
        record = build_record(answer, name, number, self.namespace, owner, self.now)
        created = apply_record(self.dependencies.api, record)
        if report is not None:
            self._keep_report(report, answer, created)
        metadata = created["metadata"]
        revision = Revision(
            name,
            number,
            answer,
            since=self.now,
            uid=str(metadata["uid"]),
            created=unix(metadata.get("creationTimestamp")) or 0.0,
        )
        self.histories[answer.pool] = replace(history, revisions=(*history.revisions, revision))
        self._forget_oldest(answer.pool)
        return revision

    def _keep_report(self, report: TuningReport, answer: Answer, record: Manifest) -> None:
        """The answer holds without it, and as long as its trials are there `haqa report` makes it again."""
        whole = report.model_copy(update={"manifests": {answer.pool: render_yaml(answer.manifests)}})
        try:
            kept = build_report_map(whole, record)
            if kept is None:
                log.warning("the report of %s is too large to be kept", record["metadata"]["name"])
            else:
                self.dependencies.api.create(kept)
        except Exception:
            log.exception("the report of %s is not kept", record["metadata"]["name"])

    def keep(self, view: PoolView, output: Output | None) -> PoolView:
        """Brings the pool's answer a step further, and says how it is.

        Args:
            view: The pool, as far as it is known but for its answer.
            output: Of the spec; None: the spec cannot be read, and what was recorded holds.
        """
        history = self.history(view.name)
        latest = history.latest
        if latest is None:
            return view
        if (as_earlier := carried_over(history)) is not None:
            self._carry_over(latest, as_earlier)
        output = output or latest.answer.output
        reason = "; ".join((latest.answer.reason, *latest.answer.notes))
        if output.mode == "Git" and output.git is not None:
            return keep_in_git(self, view, output, output.git, reason)
        if output.mode != "Apply":
            return replace(view, phase=PoolPhase.SUCCEEDED, message=reason, answer=self.status(view.name))
        try:
            if latest.answer.manifest(INFERENCE_SERVICE.kind) is not None:
                return keep_by_kserve(self, view, output, reason)
            return self._kept(view, output, reason)
        except Foreign as error:
            return replace(view, phase=PoolPhase.FAILED, problem=str(error), answer=self.status(view.name))
        except ApiRefused as error:
            refused = replace(view, message=reason, problem=f"the API server refuses: {error}", refused=True)
            serving = self.history(view.name).serving
            phase = (
                PoolPhase.SUCCEEDED
                if serving is not None and self.live.all_there(serving.answer)
                else PoolPhase.DEPLOYING
            )
            return replace(refused, phase=phase, deployment=_name_of(serving), answer=self.status(view.name))

    def go_on_serving(self, pool: str) -> str | None:
        """Keeps applied what serves while another answer is searched for; the name of its Deployment."""
        serving = self.history(pool).serving
        if serving is None or serving.answer.output.mode != "Apply":
            return None
        if serving.phase is AnswerPhase.SERVING:
            if serving.answer.manifest(INFERENCE_SERVICE.kind) is not None:
                self.live.write(serving.answer, serving.answer.output)
            elif (layout := next_step(self.seen(serving, serving, serving.answer.output)).layout) is not None:
                self.live.lay_out(layout, serving.answer.output)
        return _name_of(serving)

    def _kept(self, view: PoolView, output: Output, reason: str) -> PoolView:
        step = Step()
        for _ in range(_MOST_STEPS):
            history = self.history(view.name)
            wanted = history.wanted
            if wanted is None:
                return self._taken_back(view, output)
            approval = self.approval_of(wanted, output)
            if approval is None and self.waits(wanted, output):
                return self.awaiting(view, wanted)
            self.live.check_ours(wanted.answer, output)
            step = next_step(self.seen(wanted, history.serving, output))
            if step.layout is not None:
                self.live.lay_out(step.layout, output)
            if step.measure is not None:
                self.measure(wanted, step.measure)
            if step.mark is None:
                break
            self.mark(wanted, step.mark, approval)
        return self.viewed(view, step, reason)

    def _carry_over(self, latest: Revision, earlier: CarriedOver) -> None:
        """One of two with the same pods goes on, and has them measured."""
        self.mark(latest, earlier.mark, more=earlier.kept)
        if (twin := earlier.instead_of) is not None:
            self.note(twin, Mark(AnswerPhase.DROPPED, f"answer {latest.number} is the same", twin.in_place))
            for attempt in range(1, VERIFY_ATTEMPTS + 1):
                self.dependencies.api.delete(JOB, verification_name(twin.name, attempt), self.namespace)

    def waits(self, wanted: Revision, output: Output) -> bool:
        """Whether it is not deployed before a person has said so."""
        return wanted.phase is AnswerPhase.DECIDED and output.approval == "Manual"

    def approval_of(self, wanted: Revision, output: Output) -> Approval | None:
        """Who said so; None where nobody has, or nobody needs to."""
        return self.approved(wanted.answer.trial, wanted.created) if self.waits(wanted, output) else None

    def viewed(self, view: PoolView, step: Step, reason: str) -> PoolView:
        history = self.history(view.name)
        wanted, latest = history.wanted, history.latest
        assert wanted is not None
        assert latest is not None
        name = _name_of(wanted)
        problem = view.problem
        if latest.phase is AnswerPhase.ROLLED_BACK:
            problem = f"answer {latest.number} was rolled back, and {wanted.number} serves: {latest.message}"
        view = replace(view, deployment=name, problem=problem, answer=self.status(view.name))
        if wanted.phase is AnswerPhase.SERVING and step.serves:
            return replace(view, phase=PoolPhase.SUCCEEDED, message=reason)
        phase = PoolPhase.VERIFYING if wanted.phase is AnswerPhase.VERIFYING else PoolPhase.DEPLOYING
        waiting = f"{reason} Deployment {name}: {step.message}" if step.message else reason
        return replace(view, phase=phase, message=waiting)

    def awaiting(self, view: PoolView, wanted: Revision) -> PoolView:
        deployment = self.go_on_serving(view.name)
        # A command to copy ends the sentence.
        said = "; ".join((*wanted.answer.notes, wanted.answer.reason))
        message = f"{said} To deploy it: kubectl haqa approve {self.tuning} --trial {wanted.answer.trial}"
        return replace(
            view,
            phase=PoolPhase.AWAITING_APPROVAL,
            message=message,
            deployment=deployment,
            answer=self.status(view.name),
            idle=True,
        )

    def _taken_back(self, view: PoolView, output: Output) -> PoolView:
        """Nothing is left that could serve: the only answer there was did not do, or is not wanted."""
        latest = self.history(view.name).latest
        assert latest is not None
        if is_left(self.seen(latest, None, output)) and (name := _name_of(latest)) is not None:
            self.dependencies.api.delete(DEPLOYMENT, name, self.namespace)
        return self.nothing_left(view)

    def nothing_left(self, view: PoolView) -> PoolView:
        """A pool of which no answer serves any more."""
        latest = self.history(view.name).latest
        assert latest is not None
        why = latest.message or "a person has rejected it"
        problem = f"answer {latest.number} was rolled back, and nothing was before it: {why}"
        return replace(view, phase=PoolPhase.FAILED, problem=problem, deployment=None, answer=self.status(view.name))

    def seen(
        self, wanted: Revision, serving: Revision | None, output: Output, deployment: Manifest | None = None
    ) -> Seen:
        deployment = deployment or self.live.deployment(_name_of(wanted))
        pods = self.live.pods_of(deployment) if deployment is not None else ()
        history = self.history(wanted.answer.pool)
        gone = frozenset(
            one.label
            for one in history.revisions
            if one.phase in (AnswerPhase.ROLLED_BACK, AnswerPhase.DROPPED) or history.is_rejected(one)
        ) - {wanted.label, serving.label if serving is not None else ""}
        return Seen(
            wanted,
            serving,
            deployment,
            pods,
            self._verification(wanted) if wanted.on_its_way else None,
            output.verify,
            gone,
            self.now,
            self.dependencies.installation.limits,
        )

    def _verification(self, wanted: Revision) -> Verification | None:
        chosen = label_selector({TUNING_LABEL: label(self.tuning), REVISION_LABEL: label(wanted.name)})
        jobs = {str(job["metadata"]["name"]): job for job in self.dependencies.api.list(JOB, self.namespace, chosen)}
        for attempt in range(VERIFY_ATTEMPTS, 0, -1):
            job = jobs.get(verification_name(wanted.name, attempt))
            if job is None:
                continue
            pods = [
                pod
                for pod in self.dependencies.api.list(POD, self.namespace, chosen)
                if any(ref["uid"] == job["metadata"]["uid"] for ref in pod["metadata"].get("ownerReferences", ()))
            ]
            work = Work(job, tuple(pods), attempt)
            limits = self.dependencies.installation.limits
            seen = observe_with_logs(self.dependencies.api, self.namespace, work, self.now, limits)
            return Verification(attempt, seen)
        return None

    def measure(self, wanted: Revision, measure: Measure) -> None:
        job = verification_job(wanted, measure.attempt, measure.address)
        create_owned(self.dependencies.api, job)

    def mark(
        self,
        revision: Revision,
        mark: Mark,
        approval: Approval | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        """How far the answer is; what that makes of the others follows."""
        who = {APPROVED_BY_ANNOTATION: approval.by, APPROVED_AT_ANNOTATION: stamp(approval.at)} if approval else {}
        who |= more or {}
        if mark.phase is AnswerPhase.SERVING:
            # First the others: two that serve would be one too many, none is what the next look mends.
            for other in self.history(revision.answer.pool).revisions:
                if other.name == revision.name:
                    continue
                if other.phase is AnswerPhase.SERVING:
                    self.note(other, Mark(AnswerPhase.RETIRED, other.message, other.in_place))
                elif other.on_its_way and other.number < revision.number:
                    self.note(other, Mark(AnswerPhase.DROPPED, f"answer {revision.number} came", other.in_place))
        self.note(revision, mark, who)

    def note(self, revision: Revision, mark: Mark, more: Mapping[str, str] | None = None) -> None:
        body = build_mark(revision, self.namespace, mark, self.now, more)
        self.dependencies.api.apply(body)
        written = revision.as_marked(body["metadata"]["annotations"])
        history = self.history(revision.answer.pool)
        revisions = tuple(written if one.name == revision.name else one for one in history.revisions)
        self.histories[revision.answer.pool] = replace(history, revisions=revisions)

    def _forget_oldest(self, pool: str) -> None:
        history = self.history(pool)
        keep = {one.name for one in (history.wanted, history.serving) if one is not None}
        old = [one for one in history.revisions[:-HISTORY_LIMIT] if one.name not in keep]
        for one in old:
            self.dependencies.api.delete(CONTROLLER_REVISION, one.name, self.namespace)
        names = {one.name for one in old}
        left = tuple(one for one in history.revisions if one.name not in names)
        self.histories[pool] = replace(history, revisions=left)

    def status(self, pool: str) -> AnswerStatus | None:
        history = self.history(pool)
        latest, serving = history.latest, history.serving
        if latest is None:
            return None
        return AnswerStatus(
            revision=latest.number,
            record=latest.name,
            trial=latest.answer.trial,
            phase=latest.phase,
            since=stamp(latest.since),
            message=latest.message,
            confirmed=latest.answer.confirmed,
            serving=serving.number if serving is not None and serving.phase is AnswerPhase.SERVING else None,
            left_behind=self._left_behind(pool),
        )

    def _left_behind(self, pool: str) -> tuple[str, ...]:
        """What was made to serve the pool, and none of its answers on the way or in service names.

        A Deployment by its name alone. Those that are listed anyway, and what is on record: nobody lists
        InferenceServices, whose kind a cluster may not know.
        """
        history = self.history(pool)
        current = (history.latest, history.wanted, history.serving)
        named = {one.answer.server for one in current if one is not None}
        listed = {
            (DEPLOYMENT.kind, name)
            for name, deployment in self.live.known_deployments().items()
            if (deployment["metadata"].get("labels") or {}).get(POOL_LABEL) == label(pool)
            # KServe's have the labels of their InferenceService.
            and not deployment["metadata"].get("ownerReferences")
        }
        recorded = {one.answer.server for one in history.revisions} - named - listed
        there = (server for server in recorded if server is not None and self.live.serves(*server, pool))
        left = sorted({*(listed - named), *there})
        return tuple(name if kind == DEPLOYMENT.kind else f"{kind}/{name}" for kind, name in left)


def _name_of(revision: Revision | None) -> str | None:
    return revision.answer.served_by if revision is not None else None
