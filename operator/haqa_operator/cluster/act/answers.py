"""Keeps a tuning's answers applied: writes each down once, brings it to be served, and takes it back if it does not do.

Everything is read from the records, so that nothing in the spec, the installation or on the nodes has to be known for
what serves to go on serving.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from haqa_contract import Estimate
from haqa_operator.api.answer import Answer
from haqa_operator.api.git_output import GitOutput
from haqa_operator.api.labels import (
    APPROVED_AT_ANNOTATION,
    APPROVED_BY_ANNOTATION,
    MANAGED_BY,
    POOL_LABEL,
    PUBLISHED_ANNOTATION,
    REVISION_LABEL,
    TUNING_LABEL,
)
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import AnswerPhase, AnswerStatus, PoolPhase
from haqa_operator.api.tuning import Output
from haqa_operator.cluster.act.attempt_logs import observe_with_logs
from haqa_operator.cluster.act.dependencies import Dependencies
from haqa_operator.cluster.act.ownership import create_owned
from haqa_operator.cluster.act.publishing import GitPublisher, follow
from haqa_operator.cluster.build.records import (
    build_mark,
    build_record,
    laid_out,
    record_name,
    verification_job,
    verification_name,
    with_revision,
)
from haqa_operator.cluster.build.statuses import PoolView
from haqa_operator.cluster.edges.api_server import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    FIELD_MANAGER,
    FIRST_WRITER,
    JOB,
    POD,
    ApiRefused,
    ApiUnavailable,
    Kind,
)
from haqa_operator.cluster.names import label
from haqa_operator.cluster.observe.differences import differs
from haqa_operator.cluster.observe.revisions import History, Revision, stamp
from haqa_operator.cluster.observe.snapshot import Work, label_selector
from haqa_operator.cluster.observe.verification import verified_metrics
from haqa_operator.cluster.rollout import (
    VERIFY_ATTEMPTS,
    Layout,
    Mark,
    Measure,
    Seen,
    Step,
    Verification,
    next_step,
    rolled_back_first,
    verifying,
)

HISTORY_LIMIT = 10
"""Answers of a pool that are kept, as many as a Deployment keeps by default."""
_MOST_STEPS = 8
"""Of one look: from decided to serving it takes four."""


class Foreign(Exception):
    """An object that an answer would write is somebody else's; the message says whose, and what to do."""


@dataclass(frozen=True)
class Approval:
    """Who let an answer be deployed."""

    by: str
    at: str


Approved = Callable[[str], Approval | None]
"""By the name of the trial that won; None while nobody has."""


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
    _deployments: dict[str, Manifest] | None = field(default=None, repr=False)
    _objects: dict[tuple[Kind, str], Manifest | None] = field(default_factory=dict, repr=False)

    @property
    def namespace(self) -> str:
        return str(self.manifest["metadata"]["namespace"])

    @property
    def tuning(self) -> str:
        return str(self.manifest["metadata"]["name"])

    def history(self, pool: str) -> History:
        return self.histories.get(pool, History())

    def write_down(self, answer: Answer, owner: Manifest) -> Revision:
        """The answer's record: the latest one, where that is the same answer already."""
        history = self.history(answer.pool)
        latest = history.latest
        if latest is not None and latest.answer.key == answer.key:
            return latest
        name = record_name(self.tuning, answer.pool, answer.key, latest.name if latest else "")
        answer = answer.model_copy(update={"manifests": with_revision(self._adapted(answer), name)})
        number = history.next_number
        record = build_record(answer, name, number, self.namespace, owner, self.now)
        created = create_owned(self.dependencies.api, record)
        if created is None:
            raise ApiUnavailable(f"ControllerRevision {name} was written a moment ago; it is read again")
        revision = Revision(name, number, answer, since=self.now, uid=str(created["metadata"]["uid"]))
        self.histories[answer.pool] = replace(history, revisions=(*history.revisions, revision))
        self._forget_oldest(answer.pool)
        return revision

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
        output = output or latest.answer.output
        reason = "; ".join((latest.answer.reason, *latest.answer.notes))
        if output.mode == "Git" and output.git is not None:
            return self._kept_in_git(view, output, output.git, reason)
        if output.mode != "Apply":
            return replace(view, phase=PoolPhase.SUCCEEDED, message=reason, answer=self._status(view.name))
        try:
            return self._kept(view, output, reason)
        except Foreign as error:
            return replace(view, phase=PoolPhase.FAILED, problem=str(error), answer=self._status(view.name))
        except ApiRefused as error:
            refused = replace(view, message=reason, problem=f"the API server refuses: {error}", refused=True)
            serving = self.history(view.name).serving
            phase = PoolPhase.SUCCEEDED if self._all_there(serving) else PoolPhase.DEPLOYING
            return replace(refused, phase=phase, deployment=_name_of(serving), answer=self._status(view.name))

    def _all_there(self, serving: Revision | None) -> bool:
        """As far as this look has seen it."""
        if serving is None:
            return False
        named = ((Kind.of(one), str(one["metadata"]["name"])) for one in serving.answer.manifests)
        return all(self._objects.get(address) is not None for address in named)

    def go_on_serving(self, pool: str) -> str | None:
        """Keeps applied what serves while another answer is searched for; the name of its Deployment."""
        serving = self.history(pool).serving
        if serving is None or serving.answer.output.mode != "Apply":
            return None
        seen = self._seen(serving, serving, serving.answer.output)
        if serving.phase is AnswerPhase.SERVING:
            self._lay_out(next_step(seen).layout, serving.answer.output)
        return _name_of(serving)

    def _kept(self, view: PoolView, output: Output, reason: str) -> PoolView:
        step = Step()
        for _ in range(_MOST_STEPS):
            history = self.history(view.name)
            wanted = history.wanted
            if wanted is None:
                return self._taken_back(view, output)
            approval = None
            if wanted.phase is AnswerPhase.DECIDED and output.approval == "Manual":
                approval = self.approved(wanted.answer.trial)
                if approval is None:
                    return self._awaiting(view, wanted)
            self._check_ours(wanted.answer, output)
            step = next_step(self._seen(wanted, history.serving, output))
            if step.layout is not None:
                self._lay_out(step.layout, output)
            if step.measure is not None:
                self._measure(wanted, step.measure)
            if step.mark is None:
                break
            self._mark(wanted, step.mark, approval)
        return self._viewed(view, step, reason)

    def _kept_in_git(self, view: PoolView, output: Output, git: GitOutput, reason: str) -> PoolView:
        known = self.dependencies
        publisher = GitPublisher(known.api, known.publications, self.manifest, git, self.requeue, known.publish)
        history = self.history(view.name)
        wanted, latest = history.wanted, history.latest
        if wanted is None or latest is None:
            return replace(view, phase=PoolPhase.FAILED, problem="no answer is left", answer=self._status(view.name))
        approval = None
        if wanted.phase is AnswerPhase.DECIDED and output.approval == "Manual":
            approval = self.approved(wanted.answer.trial)
            if approval is None:
                return self._awaiting(view, wanted)
        gone_wrong = latest if latest.phase is AnswerPhase.ROLLED_BACK and latest.number > wanted.number else None
        outcome = publisher.outcome(wanted, gone_wrong)
        name = _name_of(wanted)
        deployment = self._found(DEPLOYMENT, name) if name else None
        verified = self._verified_in_git(wanted, deployment, output)
        followed = follow(outcome, wanted, deployment, verified)
        if verified is not None and verified.measure is not None and followed.phase is PoolPhase.VERIFYING:
            self._measure(wanted, verified.measure)
        published = followed.published
        more = {PUBLISHED_ANNOTATION: published.model_dump_json(exclude_none=True)} if published else {}
        if followed.mark is not None:
            self._mark(wanted, followed.mark, approval, more)
        elif (
            gone_wrong is None
            and published is not None
            and wanted.kept.get(PUBLISHED_ANNOTATION) != more.get(PUBLISHED_ANNOTATION)
        ):
            self._write(wanted, Mark(wanted.phase, wanted.message, wanted.in_place), None, more)
        problem = followed.problem
        if gone_wrong is not None:
            problem = f"answer {gone_wrong.number} was rolled back: {gone_wrong.message}"
        message = f"{reason} {followed.message}".strip()
        return replace(
            view,
            phase=followed.phase,
            message=message,
            problem=problem,
            deployment=name if deployment is not None else None,
            answer=self._status(view.name),
        )

    def _verified_in_git(self, wanted: Revision, deployment: Manifest | None, output: Output) -> Step | None:
        """What verifying the pods that somebody else has rolled out says; None where it is not to be, or cannot be."""
        if deployment is None or not output.verify.enabled:
            return None
        # Requests come as soon as it is rolled out: nothing is held back here.
        seen = replace(self._seen(wanted, None, output), verification=self._verification(wanted))
        return verifying(seen)

    def _viewed(self, view: PoolView, step: Step, reason: str) -> PoolView:
        history = self.history(view.name)
        wanted, latest = history.wanted, history.latest
        assert wanted is not None
        assert latest is not None
        name = _name_of(wanted)
        problem = view.problem
        if latest.phase is AnswerPhase.ROLLED_BACK:
            problem = f"answer {latest.number} was rolled back, and {wanted.number} serves: {latest.message}"
        view = replace(view, deployment=name, problem=problem, answer=self._status(view.name))
        if wanted.phase is AnswerPhase.SERVING and step.serves:
            return replace(view, phase=PoolPhase.SUCCEEDED, message=reason)
        phase = PoolPhase.VERIFYING if wanted.phase is AnswerPhase.VERIFYING else PoolPhase.DEPLOYING
        waiting = f"{reason} Deployment {name}: {step.message}" if step.message else reason
        return replace(view, phase=phase, message=waiting)

    def _awaiting(self, view: PoolView, wanted: Revision) -> PoolView:
        deployment = self.go_on_serving(view.name)
        # A command to copy ends the sentence.
        said = "; ".join((*wanted.answer.notes, wanted.answer.reason))
        message = f"{said} To deploy it: kubectl haqa approve {self.tuning} --trial {wanted.answer.trial}"
        return replace(
            view,
            phase=PoolPhase.AWAITING_APPROVAL,
            message=message,
            deployment=deployment,
            answer=self._status(view.name),
        )

    def _taken_back(self, view: PoolView, output: Output) -> PoolView:
        """Nothing is left that could serve: the only answer there was did not do, or is not wanted."""
        history = self.history(view.name)
        latest = history.latest
        assert latest is not None
        step = rolled_back_first(self._seen(latest, None, output))
        if step.remove and (name := _name_of(latest)) is not None:
            self.dependencies.api.delete(DEPLOYMENT, name, self.namespace)
        why = latest.message or "a person has rejected it"
        problem = f"answer {latest.number} was rolled back, and nothing was before it: {why}"
        return replace(view, phase=PoolPhase.FAILED, problem=problem, deployment=None, answer=self._status(view.name))

    def _seen(self, wanted: Revision, serving: Revision | None, output: Output) -> Seen:
        deployment = self._deployment(_name_of(wanted))
        pods = self._pods_of(deployment) if deployment is not None else ()
        history = self.history(wanted.answer.pool)
        gone = frozenset(
            one.label
            for one in history.revisions
            if one.phase is AnswerPhase.ROLLED_BACK or one.name in history.rejected
        )
        return Seen(
            wanted,
            serving,
            deployment,
            pods,
            self._verification(wanted) if wanted.phase is AnswerPhase.VERIFYING else None,
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

    def _measure(self, wanted: Revision, measure: Measure) -> None:
        job = verification_job(wanted, measure.attempt, measure.address)
        create_owned(self.dependencies.api, job)

    def _mark(
        self,
        revision: Revision,
        mark: Mark,
        approval: Approval | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        """How far the answer is; what that makes of the others follows."""
        report = None
        if mark.phase in (AnswerPhase.SERVING, AnswerPhase.ROLLED_BACK) and revision.on_its_way:
            found = self._verification(revision)
            report = found.seen.report if found else None
        verified = verified_metrics(report, revision.answer) if report and report.load else None
        who = {APPROVED_BY_ANNOTATION: approval.by, APPROVED_AT_ANNOTATION: approval.at} if approval else {}
        who |= more or {}
        if mark.phase is AnswerPhase.SERVING:
            # First the others: two that serve would be one too many, none is what the next look mends.
            for other in self.history(revision.answer.pool).revisions:
                if other.name == revision.name:
                    continue
                if other.phase is AnswerPhase.SERVING:
                    self._write(other, Mark(AnswerPhase.RETIRED, other.message, other.in_place))
                elif other.on_its_way and other.number < revision.number:
                    self._write(other, Mark(AnswerPhase.DROPPED, f"answer {revision.number} came", other.in_place))
        self._write(revision, mark, verified, who)

    def _write(
        self,
        revision: Revision,
        mark: Mark,
        verified: Mapping[str, Estimate] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        body = build_mark(revision, self.namespace, mark, self.now, verified, more)
        self.dependencies.api.apply(body)
        written = revision.as_marked(body["metadata"]["annotations"])
        history = self.history(revision.answer.pool)
        revisions = tuple(written if one.name == revision.name else one for one in history.revisions)
        self.histories[revision.answer.pool] = replace(history, revisions=revisions)

    def _lay_out(self, layout: Layout | None, output: Output) -> None:
        """Writes what differs, all or nothing: what somebody else has made under one of the names is left alone."""
        if layout is None:
            return
        self._check_ours(layout.revision.answer, output)
        for manifest in laid_out(layout):
            found = self._existing(manifest)
            if manifest["kind"] == "Deployment":
                self._apply_deployment(manifest, found)
            elif found is None or differs(manifest, found):
                self._remember(self.dependencies.api.apply(manifest, force=found is not None))

    def _check_ours(self, answer: Answer, output: Output) -> None:
        """Raises Foreign: one of the names is somebody else's."""
        if output.deployment.adopt:
            return
        for manifest in answer.manifests:
            found = self._existing(manifest)
            if found is not None and not self._ours(found, answer.pool):
                raise Foreign(_foreign(manifest, answer.pool))

    def _apply_deployment(self, deployment: Manifest, existing: Manifest | None) -> None:
        """Sets `replicas` once; from then on the field belongs to whoever scales the Deployment.

        A field that its only owner does not apply any more falls back to the API server's default. So `replicas` gets
        an owner that applies nothing else before it is left out. Whatever else an earlier winner had goes.
        """
        api, replicas = self.dependencies.api, deployment["spec"]["replicas"]
        lasting = {**deployment, "spec": {name: v for name, v in deployment["spec"].items() if name != "replicas"}}
        if existing is None:
            # Not forced: somebody may have made one of this name since we asked.
            api.apply(deployment, force=False)
        elif _owns_replicas(existing):
            replicas = existing["spec"]["replicas"]
        else:
            if differs(lasting, existing):
                self._remember(api.apply(lasting))
            return
        metadata = {name: deployment["metadata"][name] for name in ("name", "namespace")}
        api.apply({**deployment, "metadata": metadata, "spec": {"replicas": replicas}}, FIRST_WRITER)
        self._remember(api.apply(lasting))

    def _adapted(self, answer: Answer) -> tuple[Manifest, ...]:
        """An adopted Deployment keeps its selector, which the API server lets nobody change."""
        deployment = answer.manifest("Deployment")
        if deployment is None or not answer.output.deployment.adopt:
            return answer.manifests
        existing = self._existing(deployment)
        selector = (existing or {}).get("spec", {}).get("selector", {}).get("matchLabels")
        if not selector or selector == deployment["spec"]["selector"]["matchLabels"]:
            return answer.manifests
        adapted: list[Manifest] = []
        for manifest in answer.manifests:
            spec = dict(manifest["spec"])
            match manifest["kind"]:
                case "Deployment":
                    template = spec["template"]
                    labels = {**template["metadata"]["labels"], **selector}
                    spec |= {
                        "selector": {"matchLabels": selector},
                        "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
                    }
                case "Service":
                    spec["selector"] = dict(selector)
                case _:
                    spec["selector"] = {"matchLabels": dict(selector)}
            adapted.append({**manifest, "spec": spec})
        return tuple(adapted)

    def _forget_oldest(self, pool: str) -> None:
        history = self.history(pool)
        keep = {one.name for one in (history.wanted, history.serving) if one is not None}
        old = [one for one in history.revisions[:-HISTORY_LIMIT] if one.name not in keep]
        for one in old:
            self.dependencies.api.delete(CONTROLLER_REVISION, one.name, self.namespace)
        names = {one.name for one in old}
        left = tuple(one for one in history.revisions if one.name not in names)
        self.histories[pool] = replace(history, revisions=left)

    def _status(self, pool: str) -> AnswerStatus | None:
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
        """Deployments that were made for the pool, and that none of its answers on the way or in service names."""
        if self._deployments is None:
            return ()
        history = self.history(pool)
        named = {_name_of(one) for one in (history.latest, history.wanted, history.serving) if one is not None}
        made = (
            name
            for name, deployment in self._deployments.items()
            if (deployment["metadata"].get("labels") or {}).get(POOL_LABEL) == label(pool)
        )
        return tuple(sorted(name for name in made if name not in named))

    def _known_deployments(self) -> dict[str, Manifest]:
        """The tuning's, by name."""
        if self._deployments is None:
            chosen = label_selector({**MANAGED_BY, TUNING_LABEL: label(self.tuning)})
            found: Sequence[Manifest] = self.dependencies.api.list(DEPLOYMENT, self.namespace, chosen)
            self._deployments = {str(one["metadata"]["name"]): one for one in found}
        return self._deployments

    def _deployment(self, name: str | None) -> Manifest | None:
        """Also one that was not made by HAQA, and is to be adopted."""
        return self._known_deployments().get(name) or self._found(DEPLOYMENT, name) if name else None

    def _pods_of(self, deployment: Manifest) -> tuple[Manifest, ...]:
        selector = label_selector(deployment["spec"]["selector"]["matchLabels"])
        return tuple(self.dependencies.api.list(POD, self.namespace, selector))

    def _existing(self, manifest: Manifest) -> Manifest | None:
        return self._found(Kind.of(manifest), str(manifest["metadata"]["name"]))

    def _found(self, kind: Kind, name: str) -> Manifest | None:
        """As it was when it was first asked for, or has been written since."""
        if (kind, name) not in self._objects:
            self._objects[kind, name] = self.dependencies.api.get(kind, name, self.namespace)
        return self._objects[kind, name]

    def _remember(self, written: Manifest) -> None:
        kind, name = Kind.of(written), str(written["metadata"]["name"])
        self._objects[kind, name] = written
        if kind == DEPLOYMENT:
            self._known_deployments()[name] = written

    def _ours(self, existing: Manifest, pool: str) -> bool:
        labels = existing["metadata"].get("labels") or {}
        wanted = {**MANAGED_BY, TUNING_LABEL: label(self.tuning), POOL_LABEL: label(pool)}
        return all(labels.get(name) == value for name, value in wanted.items())


def _name_of(revision: Revision | None) -> str | None:
    deployment = revision.answer.manifest("Deployment") if revision is not None else None
    return str(deployment["metadata"]["name"]) if deployment else None


def _foreign(manifest: Manifest, pool: str) -> str:
    return (
        f"{manifest['kind']} {manifest['metadata']['name']} exists already and was not made by this tuning for pool "
        f'"{pool}"; choose another output.deployment.name, or set output.deployment.adopt to take it over'
    )


def _owns_replicas(deployment: Manifest) -> bool:
    """Whether the operator ended between creating the Deployment and handing its `replicas` over."""
    ours = (
        entry["fieldsV1"]
        for entry in deployment["metadata"].get("managedFields", ())
        if entry["manager"] == FIELD_MANAGER and entry["operation"] == "Apply"
    )
    return any("f:replicas" in fields.get("f:spec", {}) for fields in ours)
