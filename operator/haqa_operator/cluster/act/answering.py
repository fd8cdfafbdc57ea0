"""From a pool's decision to the answer that is written down."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from haqa_operator.api import NodePool, Trial
from haqa_operator.api.answer import Answer, Surroundings
from haqa_operator.api.labels import RETUNE_ANNOTATION, TRIAL_LABEL
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.status import PoolPhase
from haqa_operator.cluster.act.answers import AnswerKeeper
from haqa_operator.cluster.act.context import Check, PoolContext
from haqa_operator.cluster.build.pool_manifests import CannotDeploy, PoolManifests
from haqa_operator.cluster.build.report import build_report, build_result
from haqa_operator.cluster.build.statuses import PoolView, pool_status
from haqa_operator.cluster.edges.api_server import POD, ApiServer
from haqa_operator.cluster.installation import Installation
from haqa_operator.cluster.names import label
from haqa_operator.cluster.observe.revisions import Revision, canonical
from haqa_operator.cluster.observe.snapshot import TuningSnapshot
from haqa_operator.cluster.observe.surroundings import changes, digest, image_id_of, only_price_changed, surroundings
from haqa_operator.decision.results import Decision, Verdict
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.hardware.nodes import Node
from haqa_operator.serving.images import EngineVersion, pool_image
from haqa_operator.tuning.fingerprint import asked

_KEY_DIGITS = 16
_SINCE = "#"
"""Between the words of a person who asked once more, and what has changed since."""


@dataclass(frozen=True)
class Question:
    """What is asked of a pool now, beside the latest answer on record.

    Attributes:
        hardware: Of its nodes, or why it is not known.
        engine: Which vLLM its engines would be now, or why that is refused.
        latest: None where there is no answer yet, or none that can be read.
    """

    snapshot: TuningSnapshot
    pool: NodePool
    hardware: Accelerator | str | Exception
    engine: EngineVersion | str
    installation: Installation
    latest: Revision | None

    @property
    def answered(self) -> bool:
        """Whether the answer is one to this question, would be deployed under the same name, and is still wanted."""
        spec = self.snapshot.tuning.spec
        if self.latest is None:
            return False
        answer = self.latest.answer
        same_place = (answer.output.deployment.name, answer.output.target) == (
            spec.output.deployment.name,
            spec.output.target,
        )
        same_question = answer.asked == asked(spec, self.pool, retune_text(self.snapshot.manifest))
        return same_place and same_question and not self._asked_again_by_itself

    @cached_property
    def stale(self) -> str | None:
        """What has changed since the answer was measured; None where nothing has."""
        if self.latest is None:
            return None
        return "; ".join(changes(self.latest.answer.surroundings, self._surroundings)) or None

    @property
    def again(self) -> str:
        """Text that tells this search's trials from those of an earlier one; empty for the first."""
        asked_for = retune_text(self.snapshot.manifest)
        if self.latest is None:
            return asked_for
        before = self.latest.answer.again
        asked_for = asked_for or (before.rpartition(_SINCE)[0] if _SINCE in before else before)
        measured = self.latest.answer.surroundings
        if self._asked_again_by_itself and not only_price_changed(measured, self._surroundings):
            return f"{asked_for}{_SINCE}{digest(self._surroundings)}"
        goes_on = before == asked_for or before.startswith(f"{asked_for}{_SINCE}")
        return before if goes_on else asked_for

    @property
    def check(self) -> Check | None:
        """What is measured of the answer, where it is not searched for another one; None where it is."""
        if self.latest is None or not self._asked_again_by_itself:
            return None
        if only_price_changed(self.latest.answer.surroundings, self._surroundings):
            return Check()
        if self._on_change != "Verify":
            return None
        assert self.stale is not None
        answered = (one for one in self.snapshot.trials if one.metadata.name == self.latest.answer.trial)
        trial = next((one.trial() for one in answered), None)
        return Check(self.stale, None if trial is None or trial.is_baseline else trial.configuration)

    @property
    def _asked_again_by_itself(self) -> bool:
        return self.stale is not None and self._on_change != "Notify"

    @property
    def _on_change(self) -> str:
        return self.snapshot.tuning.spec.output.on_change

    @cached_property
    def _surroundings(self) -> Surroundings:
        """As far as it is known without asking anybody: without nodes, neither image nor labels are."""
        image = ""
        nodes: tuple[Node, ...] = ()
        if isinstance(self.hardware, Accelerator) and isinstance(self.engine, EngineVersion):
            image = pool_image(self.pool, self.hardware, self.engine.text, self.installation.engine_image)
            nodes = self.snapshot.nodes[self.pool.name]
        model = self.snapshot.model.digest if self.snapshot.model else ""
        return surroundings(self.pool, nodes, image, None, model)


def retune_text(tuning: Manifest) -> str:
    """By which somebody has everything measured once more; empty where nobody has."""
    return str((tuning["metadata"].get("annotations") or {}).get(RETUNE_ANNOTATION, ""))


def conclude(
    keeper: AnswerKeeper,
    context: PoolContext,
    manifests: PoolManifests,
    view: PoolView,
    decision: Decision,
    why: str,
    notes: Sequence[str] = (),
) -> PoolView:
    """Writes the answer down and begins to carry it out; says why where there is none.

    Args:
        notes: What somebody should know about how it was found.
    """
    view = replace(view, decision=decision, why=why, message=decision.reason)
    if decision.verdict not in (Verdict.WINNER, Verdict.BASELINE_BEST) or decision.winner is None:
        serving = keeper.go_on_serving(view.name)
        return replace(view, phase=PoolPhase.FAILED, problem=decision.reason, deployment=serving)
    assert view.state is not None
    winner = next(trial for trial in view.state.trials if trial.name == decision.winner)
    try:
        answer = _answer(keeper, context, manifests, view, decision, winner, notes)
    except CannotDeploy as error:
        return replace(view, phase=PoolPhase.FAILED, problem=str(error))
    tuning = context.snapshot.tuning
    result = build_result(tuning, context.pool, answer.status, view.state.trials, decision)
    keeper.write_down(answer, context.snapshot.owner(), build_report(tuning, (result,), {}, context.now))
    return keeper.keep(view, context.spec.output)


def _answer(
    keeper: AnswerKeeper,
    context: PoolContext,
    manifests: PoolManifests,
    view: PoolView,
    decision: Decision,
    winner: Trial,
    notes: Sequence[str],
) -> Answer:
    output = context.spec.output
    question = asked(context.snapshot.tuning.spec, context.pool, retune_text(context.snapshot.manifest))
    parts = [
        question,
        context.fingerprint,
        winner.name,
        winner.status.finished,
        output.deployment.name,
        output.target,
        context.pool.cost_per_hour,
        decision.verdict.value,
    ]
    key = hashlib.sha256(canonical(parts).encode()).hexdigest()[:_KEY_DIGITS]
    done = replace(view, phase=PoolPhase.SUCCEEDED)
    owner = context.snapshot.owner()
    return Answer(
        tuning=keeper.tuning,
        pool=view.name,
        key=key,
        asked=question,
        again=context.again,
        trial=winner.name,
        configuration=winner.configuration.describe(),
        reason=decision.reason,
        notes=tuple(notes),
        speedup=decision.speedup,
        confirmed=decision.confirmed,
        metrics=dict(winner.status.metrics),
        engine_version=winner.status.engine_version,
        artifact_digest=winner.status.artifact_digest,
        surroundings=_measured_in(keeper.dependencies.api, context, manifests, winner),
        output=output,
        status=pool_status(done, context.now),
        manifests=manifests.winner(winner),
        verification=manifests.verification(winner, owner),
        decided=context.now,
    )


def _measured_in(api: ApiServer, context: PoolContext, manifests: PoolManifests, winner: Trial) -> Surroundings:
    pods = api.list(POD, context.snapshot.namespace, f"{TRIAL_LABEL}={label(winner.name)}")
    nodes = context.snapshot.nodes[context.pool.name]
    return surroundings(context.pool, nodes, manifests.engine_image, image_id_of(pods), context.model.digest)
