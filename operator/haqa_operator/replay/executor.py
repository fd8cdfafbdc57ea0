"""Trials answered from a table in microseconds, and how good the answers were against the best there is.

The search, the decision and the agent are the real ones; only the executor differs. Since the table holds every
configuration's result, a replay can say what no real tuning can: how much of the best possible value was reached after
each trial.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from statistics import fmean

from haqa_contract import Configuration, Estimate, Failure, FailureReason, LoadGate
from haqa_contract.early_stop import missed
from haqa_contract.statistics import paired_ratio
from haqa_operator.api.metrics import SIZES, MetricKey, higher_is_better, is_accuracy
from haqa_operator.api.trial import Trial, TrialPhase, TrialStatus
from haqa_operator.api.tuning import TuningSpec
from haqa_operator.decision.results import Confirmation
from haqa_operator.metrics.intervals import interval
from haqa_operator.replay.tables.rows import TableRow
from haqa_operator.replay.tables.table import Table
from haqa_operator.tuning.executor import Executor, OnProgress, TrialProgress
from haqa_operator.tuning.load_gates import load_gates

SOURCE = "table"

_LOOK = 0.4
"""What a short look takes, as a share of one repeat: a round of ramp and one of requests, where a repeat has five."""


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

    def execute(self, trial: Trial, earlier: Sequence[Trial], on_progress: OnProgress) -> TrialStatus:
        """The status that the table has for the trial's configuration; takes no time."""
        row = self._table.rows.get(trial.configuration)
        if row is None:
            message = f"{self._table.source} has no {trial.configuration.describe()}; only its rows can be tried"
            row = _absent(trial.configuration, message)
        elif self._noise:
            row = self._noisy(row)
        status = self._ended_early(row, trial, earlier) or status_of(row, trial.status.started)
        on_progress(TrialProgress(status.phase, done=1.0))
        return status

    def _ended_early(self, row: TableRow, trial: Trial, earlier: Sequence[Trial]) -> TrialStatus | None:
        """What a load test shows and saves that ends early; None for one that goes on to its end.

        The first repeat stands for the short look too: a table has none. Where the table does not say what the load
        tests took, nothing is saved by ending one.
        """
        gates = load_gates(self._spec, trial, earlier, None) if row.load_hours and row.failure is None else ()
        repeats = max((len(values) for values in row.samples.values()), default=0)
        for whole in range(repeats):
            shown = {name: values[: whole or 1] for name, values in row.samples.items()}
            why = next((why for gate in gates if (why := _missed(gate, shown, whole))), None)
            if why is not None:
                spent = row.machine_hours - row.load_hours * (1 - (whole + _LOOK) / repeats)
                metrics = {
                    name: interval(MetricKey.parse(name), values)
                    for name, values in shown.items()
                    if len(row.samples[name]) > 1
                }
                cut = replace(row, metrics={**row.metrics, **metrics}, samples=shown, machine_hours=spent)
                return status_of(cut, trial.status.started).model_copy(update={"ended_early": why})
        return None

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
        return replace(row, metrics={**row.metrics, **metrics}, samples={**row.samples, **samples})

    def _factors(self, configuration: Configuration, purpose: str, count: int) -> list[float]:
        random = Random(f"{self._seed} {purpose} {sorted(configuration.parameters.items())!r}")  # noqa: S311, not a secret
        return [math.exp(random.gauss(0, self._noise)) for _ in range(count)]


def _missed(gate: LoadGate, shown: Mapping[str, Sequence[float]], windows: int) -> str | None:
    values = shown.get(str(MetricKey(gate.metric, gate.percentile, gate.concurrency)))
    return missed(gate, fmean(values), max(1, windows), look=not windows) if values else None


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


def _effect(key: MetricKey, factor: float) -> float:
    return 1 / factor if higher_is_better(key.metric) is False else factor


def _absent(configuration: Configuration, message: str) -> TableRow:
    metrics: dict[str, Estimate] = {}
    return TableRow(configuration, metrics, {}, Failure(reason=FailureReason.ENGINE_LOAD_FAILED, message=message))
