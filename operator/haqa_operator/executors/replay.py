"""Trials answered from a table in microseconds, and how good the answers were against the best there is.

The search, the decision and the agent are the real ones; only the executor differs. Since the table holds every
configuration's result, a replay can say what no real tuning can: how much of the best possible value was reached after
each trial.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random

from haqa_operator.api.base import ResourceModel
from haqa_operator.api.metrics import SIZES, MetricKey, higher_is_better, is_accuracy
from haqa_operator.api.trial import Proposal, Proposer, Trial, TrialPhase, TrialStatus
from haqa_operator.api.tuning import Objective, TuningSpec
from haqa_operator.decision.observations import Observation
from haqa_operator.decision.observe import observe
from haqa_operator.decision.results import Confirmation, Decision, PoolResult
from haqa_operator.executors.base import Executor, OnProgress, TrialProgress
from haqa_operator.executors.table import Table
from haqa_operator.executors.table_rows import TableRow
from haqa_operator.metrics.intervals import interval
from haqa_runner.contract import Configuration, Estimate, Failure, FailureReason, Scalar
from haqa_runner.statistics import paired_ratio

SOURCE = "table"


class TableExecutor(Executor):
    """Answers trials from a table, as measured or with noise added.

    Noise is one log-normal factor a repeat: a slow moment lowers every rate and raises every latency of that repeat,
    and leaves accuracy alone. It depends on seed and configuration, not on the order of the trials.

    Args:
        noise_percent: Relative standard deviation of one repeat; 0 gives the table's own repeats.
        seed: Same seed, same noise.
    """

    def __init__(self, table: Table, spec: TuningSpec, *, noise_percent: float = 0.0, seed: int = 0) -> None:
        self._table = table
        self._spec = spec
        self._noise = noise_percent / 100
        self._seed = seed

    def execute(self, trial: Trial, baseline: Trial | None, on_progress: OnProgress) -> TrialStatus:
        """The status that the table has for the trial's configuration; takes no time."""
        row = self._table.rows.get(trial.configuration)
        if row is None:
            message = f"{self._table.source} has no {trial.configuration.describe()}; only its rows can be tried"
            row = _absent(trial.configuration, message)
        elif self._noise:
            row = self._noisy(row)
        status = status_of(row, trial.status.started)
        on_progress(TrialProgress(status.phase, done=1.0))
        return status

    def confirm(self, winner: Trial, baseline: Trial, on_progress: OnProgress) -> Confirmation | None:
        """New repeats of both, round by round; None without noise, where the table has no more to say."""
        key = self._spec.objectives[0].key
        values = [self._table.rows[trial.configuration].metrics.get(str(key)) for trial in (winner, baseline)]
        rounds = self._spec.confirmation.rounds
        if not (self._noise and rounds and all(values)):
            return None
        drawn = [
            [estimate.value * _effect(key, factor) for factor in self._factors(trial.configuration, "confirm", rounds)]
            for trial, estimate in zip((winner, baseline), values, strict=True)
            if estimate is not None
        ]
        better, worse = drawn if self._spec.objectives[0].maximize else reversed(drawn)
        return Confirmation(
            winner=winner.name,
            baseline=baseline.name,
            metric=str(key),
            ratio=paired_ratio(better, worse),
            winner_values=tuple(drawn[0]),
            baseline_values=tuple(drawn[1]),
        )

    def _noisy(self, row: TableRow) -> TableRow:
        factors = self._factors(row.configuration, "trial", self._spec.workload.repeats)
        keys = {name: MetricKey.parse(name) for name in row.metrics}
        samples = {
            name: tuple(row.metrics[name].value * _effect(key, factor) for factor in factors)
            for name, key in keys.items()
            if not (is_accuracy(key.metric) or key.metric in SIZES)
        }
        metrics = {name: interval(keys[name], values) for name, values in samples.items()}
        return TableRow(
            row.configuration, {**row.metrics, **metrics}, {**row.samples, **samples}, row.failure, row.machine_hours
        )

    def _factors(self, configuration: Configuration, purpose: str, count: int) -> list[float]:
        random = Random(f"{self._seed} {purpose} {sorted(configuration.parameters.items())!r}")  # noqa: S311, not a secret
        return [math.exp(random.gauss(0, self._noise)) for _ in range(count)]


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

    def fraction_after(self, trials: int) -> float | None:
        """Share of the best possible value after this many trials, the baseline not counted."""
        reached = [point.fraction for point in self.trials if point.number <= trials]
        return reached[-1] if reached else None


def status_of(row: TableRow, started: float | None = None) -> TrialStatus:
    """A row of a table as the result of a trial."""
    return TrialStatus(
        phase=TrialPhase.SUCCEEDED if row.failure is None else TrialPhase.FAILED,
        started=started,
        finished=started,
        metrics=dict(row.metrics),
        samples=dict(row.samples),
        source=SOURCE,
        failure=row.failure,
        machine_hours=row.machine_hours,
    )


def best_possible(table: Table, spec: TuningSpec) -> Optimum | None:
    """The best configuration of the table that keeps every limit; None when there is none."""
    truth = [seen for seen in _truth(table, spec).values() if seen.score is not None and not seen.violation]
    if not truth:
        return None
    best = max(truth, key=lambda seen: seen.score or -math.inf)
    return Optimum(configuration=best.trial.configuration.parameters, value=abs(best.score or 0.0), feasible=len(truth))


def progress_curve(trials: Sequence[Trial], spec: TuningSpec, table: Table) -> list[ProgressPoint]:
    """How far a search had come after each of its finished trials."""
    truth = _truth(table, spec)
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


def _truth(table: Table, spec: TuningSpec) -> Mapping[Configuration, Observation]:
    """What a trial of each configuration shows when nothing disturbs it."""
    trials = [
        Trial(
            name=f"row-{number}",
            tuning=SOURCE,
            pool=SOURCE,
            number=number,
            proposal=Proposal(
                configuration=row.configuration,
                proposer=Proposer.BASELINE if row.configuration == table.baseline else Proposer.GRID,
            ),
            status=status_of(row),
        )
        for number, row in enumerate(table.rows.values())
    ]
    return {seen.trial.configuration: seen for seen in observe(trials, spec.objectives, spec.constraints)}


def _fraction(best: float | None, optimum: Optimum | None, objective: Objective) -> float | None:
    if optimum is None:
        return None
    if best is None:
        return 0.0
    return abs(best) / optimum.value if objective.maximize else optimum.value / abs(best)


def _effect(key: MetricKey, factor: float) -> float:
    return 1 / factor if higher_is_better(key.metric) is False else factor


def _absent(configuration: Configuration, message: str) -> TableRow:
    metrics: dict[str, Estimate] = {}
    return TableRow(configuration, metrics, {}, Failure(reason=FailureReason.ENGINE_LOAD_FAILED, message=message))
