"""The trials of a pool as rows and cards: what each one was, who wanted it, how it ended, how close it came."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from haqa_operator.api.metrics import MetricKey, higher_is_better, is_accuracy
from haqa_operator.api.trial import Exchange, Trial
from haqa_operator.api.tuning import TuningSpec
from haqa_operator.decision.constraints import Finding, measured
from haqa_operator.decision.evidence import Evidence, Judged
from haqa_operator.decision.results import PoolResult
from haqa_operator.report import wording
from haqa_operator.report.answer import Tone
from haqa_operator.report.phases import PhaseTime, phase_times

_MOST_LEVELS = 4
"""Levels that get a column each."""


class Outcome(StrEnum):
    """How a trial ended, as far as choosing goes. The value is what people read."""

    WINNER = "winner"
    BASELINE = "baseline"
    FRONT = "on the Pareto front"
    KEEPS_LIMITS = "keeps the limits"
    BREAKS_LIMIT = "breaks a limit"
    ENDED_EARLY = "ended early"
    FAILED = "failed"
    UNFINISHED = "not finished"


@dataclass(frozen=True)
class Column:
    """A column of measured values."""

    key: MetricKey
    title: str
    unit: str = ""
    term: str = ""


@dataclass(frozen=True)
class Cell:
    """One value: its text, what it sorts by, and how it compares with the baseline."""

    text: str
    sort: float | None
    note: str = ""
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True)
class TrialRow:
    """One trial.

    Attributes:
        reason: Why it was not chosen, or how it failed; empty for the winner.
        cells: In the order of the columns.
        findings: One for each constraint that can say something about it.
        on_front: No other feasible trial beats it in everything; the winner need not be on the front, nor the baseline.
        reached_percent: Its objective, in percent of the baseline's.
    """

    trial: Trial
    outcome: Outcome
    reason: str
    cells: tuple[Cell, ...]
    findings: tuple[Finding, ...]
    phases: tuple[PhaseTime, ...]
    on_front: bool
    reached_percent: float | None = None

    @property
    def number(self) -> int:
        return self.trial.number

    @property
    def proposer(self) -> str:
        return self.trial.proposal.proposer.value

    @property
    def seconds(self) -> float | None:
        status = self.trial.status
        if status.started is None or status.finished is None:
            return None
        return status.finished - status.started

    @property
    def took(self) -> Cell:
        seconds = self.seconds
        return Cell(wording.duration_text(seconds) if seconds is not None else wording.NOT_MEASURED, seconds)

    @property
    def expected(self) -> str:
        """What the proposer said the trial would reach; empty where nobody said anything."""
        proposal = self.trial.proposal
        if proposal.expected_percent is None:
            return ""
        low, high, chance = proposal.expected_low_percent, proposal.expected_high_percent, proposal.feasible_chance
        spread = f", 95 % interval {low:.4g} to {high:.4g} %" if low is not None and high is not None else ""
        kept = f", kept limits with a chance of {wording.share_text(chance)}" if chance is not None else ""
        return f"{proposal.expected_percent:.4g} % of the baseline's objective{spread}{kept}"

    @property
    def reached(self) -> str:
        """What came of that, where both are known."""
        proposal, percent = self.trial.proposal, self.reached_percent
        if proposal.expected_percent is None or percent is None:
            return ""
        low, high = proposal.expected_low_percent, proposal.expected_high_percent
        text = f"{percent:.4g} % of the baseline's objective"
        if low is None or high is None:
            return text
        return f"{text}, {'as' if low <= percent <= high else 'more than' if percent > high else 'less than'} expected"

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        return self.trial.proposal.exchanges


def build_columns(spec: TuningSpec, trials: tuple[Trial, ...]) -> tuple[Column, ...]:
    """The objective, its levels, latencies, accuracy and size, as far as any trial has them."""
    objective = spec.objectives[0].key
    keys = [objective]
    keys += [key for o in spec.objectives[1:] if (key := o.key) not in keys]
    keys += [MetricKey("perplexity"), *(MetricKey(name) for name in _tasks(trials))]
    keys += [MetricKey("ttft", 95), MetricKey("itl", 95)]
    levels = spec.workload.concurrency
    if objective.metric == "throughput" and 1 < len(levels) <= _MOST_LEVELS:
        keys += [MetricKey("throughput", concurrency=level) for level in levels]
    keys += [constraint.key for constraint in spec.constraints]
    keys += [MetricKey("klDivergence"), MetricKey("artifactBytes")]
    present = [key for key in dict.fromkeys(keys) if any(str(key) in trial.status.metrics for trial in trials)]
    return tuple(
        Column(key, wording.metric_title(key, short=True), wording.column_unit(key), _term(key)) for key in present
    )


def _tasks(trials: tuple[Trial, ...]) -> list[str]:
    return sorted({name for trial in trials for name in trial.status.metrics if name.startswith("accuracy.")})


def build_rows(
    spec: TuningSpec, result: PoolResult, evidence: Evidence, columns: tuple[Column, ...]
) -> tuple[TrialRow, ...]:
    """A row for every trial, in the order in which they were proposed."""
    judged = {item.trial.name: item for item in evidence.judged}
    rejected = {rejection.trial: rejection.reason for rejection in result.decision.rejections}
    rows = []
    for trial in sorted(result.trials, key=lambda t: t.number):
        item = judged.get(trial.name)
        rows.append(
            TrialRow(
                trial=trial,
                outcome=_outcome(trial, item, result),
                reason=rejected.get(trial.name, ""),
                cells=tuple(_cell(column.key, trial, evidence.against(column.key)) for column in columns),
                findings=item.findings if item else (),
                phases=phase_times(trial),
                on_front=trial.name in result.decision.pareto,
                reached_percent=_reached_percent(spec, trial, evidence),
            )
        )
    return tuple(rows)


def _reached_percent(spec: TuningSpec, trial: Trial, evidence: Evidence) -> float | None:
    key = spec.objectives[0].key
    other = evidence.against(key)
    own, reference = measured(trial, key), measured(other, key) if other is not None else None
    return own / reference * 100 if own is not None and reference else None


def _outcome(trial: Trial, item: Judged | None, result: PoolResult) -> Outcome:
    if trial.name == result.decision.winner:
        return Outcome.WINNER
    if item is None:
        return Outcome.UNFINISHED
    if not trial.succeeded:
        return Outcome.FAILED
    if trial.is_reference:
        return Outcome.BASELINE
    if item.broken or item.score is None:
        return Outcome.BREAKS_LIMIT
    if not item.feasible:
        return Outcome.ENDED_EARLY
    if trial.is_baseline:
        return Outcome.BASELINE
    return Outcome.FRONT if trial.name in result.decision.pareto else Outcome.KEEPS_LIMITS


def _cell(key: MetricKey, trial: Trial, other: Trial | None) -> Cell:
    value = measured(trial, key)
    text = wording.number_text(key, value)
    reference = measured(other, key) if other is not None and trial is not other else None
    if value is None or not reference:
        return Cell(text, value)
    change = value / reference - 1
    return Cell(text, value, wording.change_text(change), _tone(key, change))


def _tone(key: MetricKey, change: float) -> Tone:
    """Good or bad by more than one percent: the colour must not shout about noise."""
    higher = higher_is_better(key.metric)
    if higher is None or abs(change) < 0.01:
        return Tone.PLAIN
    return Tone.GOOD if (change > 0) == higher else Tone.BAD


def _term(key: MetricKey) -> str:
    known = {"perplexity": "perplexity", "klDivergence": "kl", "topTokenAgreement": "agreement"}
    if key.metric in known:
        return known[key.metric]
    if is_accuracy(key.metric):
        return "accuracy"
    return key.metric if key.metric in ("throughput", "ttft", "itl", "tpot", "e2e") else ""
