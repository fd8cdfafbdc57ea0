"""Answers that KServe rolls out: requests come when its pods are ready, and here they are verified, and taken back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import AnswerPhase
from haqa_operator.api.tuning import Output
from haqa_operator.cluster.build.statuses import PoolView
from haqa_operator.cluster.edges.api_server import DEPLOYMENT
from haqa_operator.cluster.observe.deployments import complete
from haqa_operator.cluster.observe.revisions import Revision
from haqa_operator.cluster.rollout import Mark, Step, is_of, verifying

if TYPE_CHECKING:
    from haqa_operator.cluster.act.answers import AnswerKeeper

_PREDICTOR = "-predictor"
"""Behind an InferenceService's name: the Deployment that KServe makes."""


def keep_by_kserve(keeper: AnswerKeeper, view: PoolView, output: Output, reason: str) -> PoolView:
    """KServe rolls out, and requests come when its pods are ready; here they are verified, and taken back."""
    history = keeper.history(view.name)
    wanted, latest = history.wanted, history.latest
    assert latest is not None
    if wanted is None:
        keeper.live.remove(latest.answer)
        return keeper.nothing_left(view)
    approval = keeper.approval_of(wanted, output)
    if approval is None and keeper.waits(wanted, output):
        return keeper.awaiting(view, wanted)
    keeper.live.write(wanted.answer, output)
    name = f"{wanted.answer.served_by}{_PREDICTOR}"
    deployment = keeper.live.found(DEPLOYMENT, name)
    rolled_out = deployment is not None and complete(deployment) and is_of(deployment, wanted)
    step = Step(message="KServe rolls it out")
    if wanted.phase in (AnswerPhase.DECIDED, AnswerPhase.RETIRED):
        phase = AnswerPhase.DEPLOYING if wanted.phase is AnswerPhase.DECIDED else AnswerPhase.SERVING
        keeper.mark(wanted, Mark(phase), approval)
    elif wanted.phase is not AnswerPhase.SERVING and deployment is not None:
        step = _step(keeper, wanted, history.serving, output, deployment, rolled_out=rolled_out)
        if step.measure is not None and rolled_out:
            keeper.measure(wanted, step.measure)
        if step.mark is not None and step.mark.phase in (AnswerPhase.SERVING, AnswerPhase.ROLLED_BACK):
            keeper.mark(wanted, step.mark)
    if keeper.history(view.name).wanted is None:
        return keep_by_kserve(keeper, view, output, reason)
    return keeper.viewed(replace(view, deployment=name), replace(step, serves=rolled_out), reason)


def _step(
    keeper: AnswerKeeper,
    wanted: Revision,
    serving: Revision | None,
    output: Output,
    deployment: Manifest,
    *,
    rolled_out: bool,
) -> Step:
    """What comes next for an answer that is on its way."""
    if output.verify.enabled:
        return verifying(keeper.seen(wanted, serving, output, deployment))
    if rolled_out:
        return Step(mark=Mark(AnswerPhase.SERVING, "not verified: output.verify is off"))
    return Step(message="KServe rolls it out")
