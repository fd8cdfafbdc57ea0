"""Answers that go into a Git repository: proposed there, followed until they are merged and rolled out, verified, and
taken back by a pull request too.

Who rolls them out is somebody else, Argo CD or Flux; here is only seen that a Deployment of the answer is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from haqa_operator.api.git_output import GitOutput
from haqa_operator.api.labels import PUBLISHED_ANNOTATION
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import AnswerPhase, PoolPhase
from haqa_operator.api.tuning import Output
from haqa_operator.cluster.build.evidence import evidence, summary
from haqa_operator.cluster.build.statuses import PoolView
from haqa_operator.cluster.edges.api_server import DEPLOYMENT, ApiServer
from haqa_operator.cluster.edges.credentials import secret_values
from haqa_operator.cluster.edges.publications import BackgroundPublications, Outcome, PublicationRequest, Publish
from haqa_operator.cluster.observe.deployments import complete
from haqa_operator.cluster.observe.revisions import Revision
from haqa_operator.cluster.rollout import Mark, Step, is_of, verifying
from haqa_operator.gitops import GitCredentials, Publication, Published, PublishState
from haqa_operator.serving.names import dns_label

if TYPE_CHECKING:
    from haqa_operator.cluster.act.answers import AnswerKeeper


@dataclass(frozen=True)
class GitPublisher:
    """Publishes the answers of one tuning, during one look.

    Attributes:
        requeue: Has the tuning looked at again once something new is known.
    """

    api: ApiServer
    publications: BackgroundPublications
    tuning: Manifest
    output: GitOutput
    requeue: Callable[[], None]
    publish: Publish

    def outcome(self, revision: Revision, instead_of: Revision | None = None) -> Outcome:
        """What has become of it in the repository; starts what is due and never waits.

        Args:
            instead_of: An answer that was rolled back: the earlier one is proposed once more.
        """
        publication = self._publication(revision, instead_of)
        return self._ask(publication, publication.key, _known(revision) if instead_of is None else None)

    def retire(self, wanted: Revision, others: Sequence[Revision]) -> bool:
        """Has the pull requests of others closed that may be open; whether that is done."""
        keys = tuple(dict.fromkeys(map(_key, others)))
        if not keys:
            return False
        publication = self._publication(wanted, None).model_copy(update={"retires": keys})
        return self._ask(publication, f"retired.{'.'.join(keys)}", None).published is not None

    def _ask(self, publication: Publication, key: str, known: Published | None) -> Outcome:
        uid = str(self.tuning["metadata"]["uid"])
        return self.publications.ask(
            PublicationRequest(uid, publication.pool, key, self._target()),
            lambda last: self.publish(publication, self.output, self._credentials(), last),
            self.requeue,
            known,
        )

    def _target(self) -> str:
        return hashlib.sha256(self.output.model_dump_json().encode()).hexdigest()[:16]

    def _publication(self, revision: Revision, instead_of: Revision | None) -> Publication:
        answer = revision.answer
        back = f" again, instead of answer {instead_of.number}" if instead_of else ""
        key = _key(revision)
        return Publication(
            key=key if instead_of is None else f"{key}.after.{instead_of.name}",
            pool=answer.pool,
            name=dns_label(answer.tuning, answer.pool),
            manifests=answer.manifests,
            title=f"Serve {answer.configuration} for {answer.tuning} on {answer.pool}{back}"[:200],
            summary=summary(answer, instead_of),
            evidence=evidence(answer),
            made_at=datetime.fromtimestamp(answer.decided, UTC),
        )

    def _credentials(self) -> GitCredentials:
        name = self.output.secret_ref.name
        return GitCredentials.of_secret(name, secret_values(self.api, name, self.tuning["metadata"]["namespace"]))


@dataclass(frozen=True)
class Followed:
    """How far an answer is in the repository.

    Attributes:
        mark: To be written on its record; None where nothing is new.
        published: To be kept on the record.
        phase, message, problem: Of the pool.
    """

    phase: PoolPhase
    message: str
    mark: Mark | None = None
    published: Published | None = None
    problem: str | None = None


def follow(outcome: Outcome, revision: Revision, deployment: Manifest | None, verified: Step | None) -> Followed:
    """What a publication's outcome, and the Deployment that somebody rolls out, make of an answer. Pure.

    Args:
        deployment: Of the answer's name, as it is now.
        verified: What verifying its pods says; None where it is not to be verified.
    """
    published = outcome.published
    said = str(outcome.error) if outcome.error else None
    if published is None:
        return Followed(PoolPhase.DEPLOYING, "it is written to the repository", problem=said)
    where = published.url or published.commit or "the branch"
    match published.state:
        case PublishState.OPEN:
            waits = f"{where} waits to be merged"
            return Followed(PoolPhase.AWAITING_APPROVAL, waits, published=published, problem=said)
        case PublishState.CONFLICT:
            return Followed(
                PoolPhase.DEPLOYING, "", published=published, problem=published.note or f"{where}: conflict"
            )
        case PublishState.CLOSED:
            closed = f"{where} was closed: it is not served"
            return Followed(PoolPhase.FAILED, "", Mark(AnswerPhase.ROLLED_BACK, closed), published, problem=closed)
    if revision.phase is AnswerPhase.DECIDED:
        return Followed(PoolPhase.DEPLOYING, f"{where} is merged", Mark(AnswerPhase.DEPLOYING), published)
    if revision.phase is AnswerPhase.SERVING:
        return Followed(PoolPhase.SUCCEEDED, f"{where} is rolled out", None, published)
    if deployment is None or not complete(deployment) or not is_of(deployment, revision):
        return Followed(PoolPhase.DEPLOYING, f"{where} is merged, and waits to be rolled out", None, published)
    if verified is None:
        return Followed(PoolPhase.SUCCEEDED, f"{where} is rolled out", Mark(AnswerPhase.SERVING), published)
    phase = PoolPhase.VERIFYING if verified.mark is None else PoolPhase.DEPLOYING
    return Followed(phase, verified.message or f"{where} is rolled out", verified.mark, published)


def _asked_for(revision: Revision) -> bool:
    """Whether a pull request of it may be open."""
    known = _known(revision)
    waits = revision.phase in (AnswerPhase.DECIDED, AnswerPhase.DROPPED)
    return waits and (known is None or known.state is PublishState.OPEN)


def _key(revision: Revision) -> str:
    """By its pods: the same answer to another question is not proposed twice."""
    return revision.label or revision.name


def _known(revision: Revision) -> Published | None:
    try:
        return Published.model_validate_json(revision.kept.get(PUBLISHED_ANNOTATION, ""))
    except ValidationError:
        return None


def keep_in_git(keeper: AnswerKeeper, view: PoolView, output: Output, git: GitOutput, reason: str) -> PoolView:
    """Proposes the pool's answer, and follows it; as `AnswerKeeper.keep`."""
    known = keeper.dependencies
    publisher = GitPublisher(known.api, known.publications, keeper.manifest, git, keeper.requeue, known.publish)
    history = keeper.history(view.name)
    wanted, latest = history.wanted, history.latest
    if wanted is None or latest is None:
        return keeper.nothing_left(view)
    approval = keeper.approval_of(wanted, output)
    if approval is None and keeper.waits(wanted, output):
        return keeper.awaiting(view, wanted)
    taken_back = latest.phase is AnswerPhase.ROLLED_BACK or latest.name in history.rejected
    gone_wrong = latest if taken_back and latest.number > wanted.number else None
    outcome = publisher.outcome(wanted, gone_wrong)
    if git.pull_request is not None:
        _retire_others(keeper, publisher, wanted, history.revisions)
    name = wanted.answer.served_by
    deployment = keeper.live.found(DEPLOYMENT, name) if name else None
    verified = _verified(keeper, wanted, deployment, output)
    followed = follow(outcome, wanted, deployment, verified)
    if verified is not None and verified.measure is not None and followed.phase is PoolPhase.VERIFYING:
        keeper.measure(wanted, verified.measure)
    published = followed.published
    more = {PUBLISHED_ANNOTATION: published.model_dump_json(exclude_none=True)} if published else {}
    if followed.mark is not None:
        keeper.mark(wanted, followed.mark, approval, more)
    elif (
        gone_wrong is None
        and published is not None
        and wanted.kept.get(PUBLISHED_ANNOTATION) != more.get(PUBLISHED_ANNOTATION)
    ):
        keeper.note(wanted, Mark(wanted.phase, wanted.message, wanted.in_place), more)
    problem = followed.problem
    if gone_wrong is not None:
        problem = f"answer {gone_wrong.number} was rolled back: {gone_wrong.message or 'a person has rejected it'}"
    message = f"{reason} {followed.message}".strip()
    return replace(
        view,
        phase=followed.phase,
        message=message,
        problem=problem,
        deployment=name if deployment is not None else None,
        answer=keeper.status(view.name),
    )


def _retire_others(
    keeper: AnswerKeeper, publisher: GitPublisher, wanted: Revision, revisions: Sequence[Revision]
) -> None:
    """Once it is done, that is on their records, and not asked for again by the next operator."""
    others = [one for one in revisions if _asked_for(one) and not (one is wanted or one.has_pods_of(wanted))]
    if publisher.retire(wanted, others):
        closed = {PUBLISHED_ANNOTATION: Published(state=PublishState.CLOSED).model_dump_json(exclude_none=True)}
        for one in others:
            keeper.note(one, Mark(one.phase, one.message, one.in_place), closed)


def _verified(keeper: AnswerKeeper, wanted: Revision, deployment: Manifest | None, output: Output) -> Step | None:
    """What verifying the pods that somebody else has rolled out says; None where it is not to be, or cannot be."""
    if deployment is None or not output.verify.enabled:
        return None
    # Requests come as soon as it is rolled out: nothing is held back here.
    return verifying(keeper.seen(wanted, None, output))
