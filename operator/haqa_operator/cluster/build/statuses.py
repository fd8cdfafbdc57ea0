"""What a tuning's status says, from what was observed and decided. Pure; times are passed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from haqa_operator.api import Trial
from haqa_operator.api.status import (
    OWN_TEXT,
    STALE,
    AnswerPhase,
    AnswerStatus,
    BestTrial,
    BudgetUsed,
    Condition,
    FetchedModel,
    PoolPhase,
    PoolStatus,
    Skipped,
    TrialCounts,
    TuningPhase,
    TuningStatus,
)
from haqa_operator.cluster.observe.revisions import stamp
from haqa_operator.decision.choose import decide
from haqa_operator.decision.results import Decision, Exclusion, Verdict
from haqa_operator.tuning.plan import PoolState, agent_tokens
from haqa_operator.tuning.pool_defaults import measured_with

_DONE = (PoolPhase.SUCCEEDED, PoolPhase.FAILED)


@dataclass(frozen=True)
class PoolView:
    """A pool as its status shows it.

    Attributes:
        state: None until hardware and model are known.
        message: What it waits for or does, for a person.
        decision, why: Once the search has ended.
        answer: The latest on record.
        problem: Needs a person.
        refused: Something could not be written, so that the rest of what was due is not done; it is tried again.
        unchanged: The pool's earlier status, where nothing new is known but how far its answer is.
        idle: Nothing is under way: it goes on once somebody else does something.
    """

    name: str
    phase: PoolPhase
    message: str = ""
    hardware: str | None = None
    state: PoolState | None = None
    decision: Decision | None = None
    why: str | None = None
    deployment: str | None = None
    answer: AnswerStatus | None = None
    problem: str | None = None
    refused: bool = False
    unchanged: PoolStatus | None = None
    idle: bool = False

    @classmethod
    def as_before(cls, name: str, status: TuningStatus, message: str = "", problem: str | None = None) -> PoolView:
        """The pool as an earlier status of its tuning shows it, with another message or problem."""
        before = next((pool for pool in status.pools if pool.name == name), PoolStatus(name=name))
        return cls(name, before.phase, message or before.message, problem=problem, unchanged=before)

    @property
    def started(self) -> bool:
        """Whether there are trials."""
        trials = self.state.trials if self.state else ()
        return bool(trials) or (self.unchanged is not None and self.unchanged.trials.total > 0)


@dataclass(frozen=True)
class TuningView:
    """A tuning as its status shows it; `problem` keeps all of it from going on, `builtin_text` is a warning."""

    generation: int
    suspended: bool
    pools: tuple[PoolView, ...] = ()
    model: FetchedModel | None = None
    problem: str | None = None
    problem_reason: str = "InvalidSpec"
    builtin_text: str | None = None


def tuning_status(view: TuningView, before: TuningStatus, now: float) -> TuningStatus:
    """The status to write; equal views give equal statuses, so that nothing is written where nothing has changed."""
    # Searching again does not take down what serves.
    serving = {pool.name: pool.deployment for pool in before.pools}
    # Nor is it forgotten what a pool's trials are measured with while it has no node.
    used = {pool.name: pool.measured_with for pool in before.pools}
    pools = tuple(
        pool_status(pool if pool.deployment else replace(pool, deployment=serving.get(pool.name)), now)
        for pool in view.pools
    )
    pools = tuple(
        pool if pool.measured_with else pool.model_copy(update={"measured_with": used.get(pool.name)}) for pool in pools
    )
    phase = _phase(view)
    finished = sum(pool.trials.succeeded + pool.trials.failed for pool in pools)
    return TuningStatus(
        observed_generation=view.generation,
        phase=phase,
        best_speedup=_best_speedup(pools),
        pools_done=f"{sum(pool.phase in _DONE for pool in pools)}/{len(pools)}",
        trials_done=f"{finished}/{sum(pool.trials.total for pool in pools)}",
        conditions=_conditions(view, phase, before, now),
        budget_used=_sum([pool.budget_used for pool in pools]),
        model=view.model,
        pools=pools,
    )


def pool_status(view: PoolView, now: float) -> PoolStatus:
    state, message = view.state, view.problem or view.message
    if view.unchanged is not None:
        answered = {"answer": view.answer, "deployment": view.deployment} if view.answer else {}
        return view.unchanged.model_copy(update={"message": message, "phase": view.phase, **answered})
    if state is None:
        return PoolStatus(name=view.name, phase=view.phase, hardware=view.hardware, message=message, answer=view.answer)
    trials = [trial for trial in state.trials if not trial.is_confirmation]
    done = state.finished_trials
    ended = [trial for trial in state.trials if trial.status.phase.finished]
    provisional = view.decision or decide(
        done, state.spec.objectives, state.spec.constraints, state.spec.search.min_improvement_percent
    )
    return PoolStatus(
        name=view.name,
        phase=view.phase,
        hardware=view.hardware,
        message=message,
        measured_with=measured_with(state.spec),
        candidates=len(state.space.candidates),
        skipped=tuple(_skipped(exclusion) for exclusion in state.taught_space.ruled_out[:50]),
        baseline=state.baseline.name if state.baseline else None,
        best=_best(provisional, done),
        pareto=provisional.pareto,
        trials=TrialCounts(
            total=len(trials),
            running=len(trials) - len(done),
            succeeded=sum(trial.succeeded for trial in done),
            failed=sum(not trial.succeeded for trial in done),
        ),
        budget_used=_budget(done, ended),
        deployment=view.deployment,
        answer=view.answer,
        stopped=view.why,
    )


def _phase(view: TuningView) -> TuningPhase:
    phases = [pool.phase for pool in view.pools]
    if view.problem:
        return TuningPhase.FAILED
    if phases and all(phase in _DONE for phase in phases):
        return TuningPhase.FAILED if PoolPhase.FAILED in phases else TuningPhase.SUCCEEDED
    started = any(pool.started for pool in view.pools)
    if view.suspended:
        return TuningPhase.SUSPENDED if started else TuningPhase.PENDING
    return TuningPhase.RUNNING if started else TuningPhase.PENDING


def _conditions(view: TuningView, phase: TuningPhase, before: TuningStatus, now: float) -> tuple[Condition, ...]:
    problems = [view.problem] if view.problem else [f'pool "{p.name}": {p.problem}' for p in view.pools if p.problem]
    waiting = [f'pool "{p.name}": {p.message}' for p in view.pools if p.message and p.phase not in _DONE]
    answers = [f'pool "{p.name}": {p.decision.reason if p.decision else p.message}' for p in view.pools]
    stale = [f'pool "{p.name}": {p.answer.stale}' for p in view.pools if p.answer and p.answer.stale]
    ready = phase is TuningPhase.SUCCEEDED
    going_on = phase in (TuningPhase.PENDING, TuningPhase.RUNNING)
    facts = (
        ("Ready", ready, "Completed" if ready else phase.value, " ".join(answers if ready else waiting or problems)),
        ("Progressing", going_on, phase.value, " ".join(waiting)),
        ("Degraded", bool(problems), _problem_reason(view) if problems else "AsExpected", " ".join(problems)),
        *(((OWN_TEXT, False, "BuiltInText", view.builtin_text),) if view.builtin_text else ()),
        *(((STALE, bool(stale), "Changed" if stale else "AsMeasured", " ".join(stale)),) if _answered(view) else ()),
    )
    old = {condition.type: condition for condition in before.conditions}
    return tuple(_condition(kind, holds, reason, text, old.get(kind), view, now) for kind, holds, reason, text in facts)


def _answered(view: TuningView) -> bool:
    return any(pool.answer is not None for pool in view.pools)


def _problem_reason(view: TuningView) -> str:
    if view.problem:
        return view.problem_reason
    if any(pool.problem and pool.answer and pool.answer.phase is AnswerPhase.ROLLED_BACK for pool in view.pools):
        return "RolledBack"
    return "Refused" if any(pool.refused for pool in view.pools) else "PoolFailed"


def _condition(
    kind: str, holds: bool, reason: str, message: str, old: Condition | None, view: TuningView, now: float
) -> Condition:
    status = "True" if holds else "False"
    return Condition(
        type=kind,
        status="True" if holds else "False",
        reason=reason,
        message=message[:32768],
        last_transition_time=old.last_transition_time if old and old.status == status else stamp(now),
        observed_generation=view.generation,
    )


def _best(decision: Decision, trials: Sequence[Trial]) -> BestTrial | None:
    if decision.verdict not in (Verdict.WINNER, Verdict.BASELINE_BEST):
        return None
    best = next((trial for trial in trials if trial.name == decision.winner), None)
    if best is None:
        return None
    return BestTrial(
        trial=best.name,
        configuration=best.configuration.describe(),
        speedup=decision.speedup,
        metrics=dict(best.status.metrics),
    )


def _best_speedup(pools: Sequence[PoolStatus]) -> str | None:
    speedups = [pool.best.speedup.value for pool in pools if pool.best and pool.best.speedup]
    return f"{max(speedups):.2f}x" if speedups else None


def _skipped(exclusion: Exclusion) -> Skipped:
    what = ", ".join(f"{name}={value}" for name, value in sorted(exclusion.parameters.items()))
    return Skipped(parameters=what, reason=exclusion.reason)


def _budget(trials: Sequence[Trial], held: Sequence[Trial]) -> BudgetUsed:
    """`held`: those that have held a node, beside the search's also those that confirm."""
    starts = [trial.status.started for trial in held if trial.status.started is not None]
    ends = [trial.status.finished for trial in held if trial.status.finished is not None]
    return BudgetUsed(
        trials=sum(not trial.is_baseline for trial in trials),
        failed_trials=sum(not trial.succeeded for trial in trials),
        gpu_hours=round(sum(trial.status.machine_hours for trial in held), 6),
        # Of two clocks, a node's and the control plane's.
        duration_seconds=max(0.0, round(max(ends) - min(starts), 3)) if starts and ends else 0,
        agent_tokens=agent_tokens(trials),
    )


def _sum(used: Sequence[BudgetUsed]) -> BudgetUsed:
    return BudgetUsed(
        trials=sum(one.trials for one in used),
        failed_trials=sum(one.failed_trials for one in used),
        gpu_hours=round(sum(one.gpu_hours for one in used), 6),
        duration_seconds=max((one.duration_seconds for one in used), default=0),
        agent_tokens=sum(one.agent_tokens for one in used),
    )
