"""How good a replay's answers were against the best there is in its table.

Since the table holds every configuration's result, a replay can say what no real tuning can: how much of the best
possible value was reached after each trial.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from haqa_contract import Scalar
from haqa_operator.api.base import ResourceModel
from haqa_operator.api.goals import Objective
from haqa_operator.api.trial import Proposer, Trial
from haqa_operator.api.tuning import TuningSpec
from haqa_operator.decision.results import Decision, PoolResult
from haqa_operator.replay.tables.table import Table
from haqa_operator.replay.truth import truth_of


class ProgressPoint(ResourceModel):
    """One trial of a replay, judged by the table's own figures (without the noise that the search saw)."""

    number: int
    trial: str
    configuration: dict[str, Scalar]
    proposer: Proposer
    reasoning: str = ""
    note: str | None = None
    """Why this proposer and not the one that was asked for"""
    value: float | None = None
    """The objective; none = no result"""
    feasible: bool = False
    broken: tuple[str, ...] = ()
    """The limits it breaks, or how it failed"""
    best_so_far: float | None = None
    """Best feasible value up to here; none = nothing feasible yet"""
    fraction: float | None = None
    """Share of the best possible value reached up to here, 0 to 1; none = nothing in the table is feasible"""


class Optimum(ResourceModel):
    """The best that any search could find."""

    configuration: dict[str, Scalar]
    value: float
    feasible: int
    """Configurations of the table that keep every limit, the baseline among them"""


class ReplayReport(ResourceModel):
    """What `haqa replay` writes."""

    table: str
    configurations: int
    """Rows of the table, the baseline among them"""
    context: dict[str, str]
    """What all rows have in common"""
    objective: str
    strategy: str
    agent: str | None
    """litellm's name of the model"""
    seed: int
    noise_percent: float
    optimum: Optimum | None
    trials: tuple[ProgressPoint, ...]
    decision: Decision
    winner_fraction: float | None
    """Share of the best possible value that the final answer has; 0 = no answer, or one that breaks a limit"""
    stopped: str
    agent_tokens: int


def best_possible(table: Table, spec: TuningSpec) -> Optimum | None:
    """The best configuration of the table that keeps every limit; None when there is none."""
    truth = [
        seen
        for seen in truth_of(table, spec.objectives, spec.constraints).values()
        if seen.score is not None and not seen.violation
    ]
    if not truth:
        return None
    best = max(truth, key=lambda seen: seen.score or -math.inf)
    return Optimum(configuration=best.trial.configuration.parameters, value=abs(best.score or 0.0), feasible=len(truth))


def progress_curve(trials: Sequence[Trial], spec: TuningSpec, table: Table) -> list[ProgressPoint]:
    """How far a search had come after each of its finished trials."""
    truth = truth_of(table, spec.objectives, spec.constraints)
    optimum = best_possible(table, spec)
    objective = spec.objectives[0]
    points: list[ProgressPoint] = []
    best: float | None = None
    for trial in trials:
        if not trial.status.phase.finished:
            continue
        seen = truth.get(trial.configuration)
        score = seen.score if seen is not None else None
        feasible = seen is not None and score is not None and not seen.violation
        if feasible and score is not None:
            best = score if best is None else max(best, score)
        points.append(
            ProgressPoint(
                number=trial.number,
                trial=trial.name,
                configuration=trial.configuration.parameters,
                proposer=trial.proposal.proposer,
                reasoning=trial.proposal.reasoning,
                note=trial.proposal.note,
                value=None if score is None else abs(score),
                feasible=feasible,
                broken=seen.broken if seen is not None else (f"{table.source} has no such configuration",),
                best_so_far=None if best is None else abs(best),
                fraction=_fraction(best, optimum, objective),
            )
        )
    return points


def replay_report(
    result: PoolResult, spec: TuningSpec, table: Table, *, seed: int, noise_percent: float = 0.0
) -> ReplayReport:
    """The result of a tuning loop that ran on a table."""
    optimum = best_possible(table, spec)
    winner = next((trial for trial in result.trials if trial.name == result.decision.winner), None)
    answer = progress_curve([winner], spec, table) if winner is not None else []
    nothing = 0.0 if optimum is not None else None
    return ReplayReport(
        table=table.source,
        configurations=len(table.rows),
        context=dict(table.context),
        objective=str(spec.objectives[0].key),
        strategy=spec.search.strategy.value,
        agent=spec.search.agent.model if spec.search.agent else None,
        seed=seed,
        noise_percent=noise_percent,
        optimum=optimum,
        trials=tuple(progress_curve(result.trials, spec, table)),
        decision=result.decision,
        winner_fraction=answer[0].fraction if answer else nothing,
        stopped=result.stopped,
        agent_tokens=result.agent_tokens,
    )


def _fraction(best: float | None, optimum: Optimum | None, objective: Objective) -> float | None:
    if optimum is None:
        return None
    if best is None:
        return 0.0
    return abs(best) / optimum.value if objective.maximize else optimum.value / abs(best)
