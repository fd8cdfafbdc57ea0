"""Every trial so far, with the arithmetic done: ratios to the baseline, slack to each limit, what the agent expected.

Everything follows from the observations, so that a restart renders the same prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from haqa_contract import Workload
from haqa_operator.agent.candidates import Catalogue
from haqa_operator.agent.limits import percent
from haqa_operator.agent.quoting import prompt_line, quoted
from haqa_operator.api.goals import Objective
from haqa_operator.api.metrics import MetricKey, higher_is_better, is_accuracy
from haqa_operator.api.trial import Trial
from haqa_operator.api.tuning import Budget
from haqa_operator.decision.constraints import References, measured
from haqa_operator.decision.limits import Limit
from haqa_operator.decision.observations import Observation
from haqa_operator.metrics.quantities import quantity, unit

MAX_COLUMNS = 14


@dataclass(frozen=True)
class TrialRow:
    """One trial as a line of the prompt's table.

    Attributes:
        cells: One text for each column.
        limits: Slack to each limit, in words.
        failure: Reason and quoted sentence, where it failed.
    """

    number: int
    candidate: str
    configuration: str
    proposer: str
    expected: str
    cells: tuple[str, ...]
    verdict: str
    limits: tuple[str, ...]
    failure: str | None


def columns(
    observations: Sequence[Observation], objectives: Sequence[Objective], limits: Sequence[Limit], workload: Workload
) -> tuple[MetricKey, ...]:
    """The metrics worth a column: what is optimized, what is limited, throughput per level, accuracy, latencies.

    A replayed table may have none of HAQA's own metrics; then its own fill up the columns.
    """
    names = dict.fromkeys(name for o in observations for name in o.trial.status.metrics)
    present = [key for name in names if (key := _key(name)) is not None]
    levels = workload.concurrency
    wanted = [objective.key for objective in objectives] + [limit.key for limit in limits]
    wanted += [objective.key.at(level) for objective in objectives for level in levels]
    wanted += [MetricKey("throughput", concurrency=level) for level in levels]
    wanted += [key for key in present if is_accuracy(key.metric)]
    wanted += [MetricKey(metric, concurrency=level) for metric in ("ttft", "itl") for level in levels]
    shown = [key for key in dict.fromkeys(wanted) if key in present]
    if len(shown) <= len(objectives):
        shown = list(dict.fromkeys([*shown, *present]))
    return tuple(shown[:MAX_COLUMNS])


def _key(name: str) -> MetricKey | None:
    """The metric of this name; None for a name that a replayed table made up and that no key can be read from."""
    try:
        return MetricKey.parse(name)
    except ValueError:
        return None


def heading(key: MetricKey, objectives: Sequence[Objective]) -> str:
    """`throughput [tokens/s, more is better]`."""
    objective = next((o for o in objectives if o.key == key), None)
    higher = objective.maximize if objective else higher_is_better(key.metric)
    direction = {True: "more is better", False: "less is better", None: ""}[higher]
    details = ", ".join(part for part in (unit(key.metric), direction) if part)
    name = prompt_line(str(key))
    return f"{name} [{details}]" if details else name


def trial_rows(
    observations: Sequence[Observation],
    catalogue: Catalogue,
    keys: Sequence[MetricKey],
    limits: Sequence[Limit],
    references: References,
) -> tuple[TrialRow, ...]:
    """One row for each observation, in their order."""
    return tuple(_row(observation, catalogue, keys, limits, references) for observation in observations)


def _row(
    observation: Observation,
    catalogue: Catalogue,
    keys: Sequence[MetricKey],
    limits: Sequence[Limit],
    references: References,
) -> TrialRow:
    trial = observation.trial
    number = catalogue.index.get(trial.configuration)
    failure = trial.status.failure
    return TrialRow(
        number=trial.number,
        candidate="-" if number is None else str(number),
        configuration=catalogue.describe(trial.configuration),
        proposer=trial.proposal.proposer.value,
        expected=_expected(trial),
        cells=tuple(_cell(trial, key, references.of(key)) for key in keys),
        verdict=_verdict(observation),
        limits=tuple(text for limit in limits if (text := _slack(trial, limit))),
        failure=f"{failure.reason.value}: {quoted(failure.message)}" if failure else None,
    )


def _cell(trial: Trial, key: MetricKey, against: Trial | None) -> str:
    value = measured(trial, key)
    if value is None:
        return "-"
    text = quantity(MetricKey(""), value)
    reference = measured(against, key) if against and trial is not against else None
    return f"{text} ({value / reference:.3g}x)" if reference else text


def _verdict(observation: Observation) -> str:
    if not observation.trial.succeeded:
        return "failed"
    if observation.trial.status.ended_early:
        return "ended early, its figures are rough"
    if observation.score is None:
        return "no value to compare"
    return "breaks limits" if observation.violation > 0 else "meets all limits"


def _slack(trial: Trial, limit: Limit) -> str | None:
    value = measured(trial, limit.key)
    if value is None or (limit.minimum is None and limit.maximum is None):
        return None
    room = limit.slack(value)
    if room >= 0:
        return f"{limit.key} {percent(room)} to spare"
    return f"{limit.key} {percent(-room)} beyond the limit"


def _expected(trial: Trial) -> str:
    """What was said it would be, so that the agent sees how far off such estimates are: `1.5x, 80 %`."""
    expected, chance = trial.proposal.expected_percent, trial.proposal.feasible_chance
    parts = [] if expected is None else [f"{expected / 100:.3g}x"]
    parts += [] if chance is None else [percent(chance)]
    return ", ".join(parts) or "-"


def the_reference(trial: Trial) -> str:
    """`the baseline`, or where that is not served the first trial that was."""
    return trial.called if trial.is_baseline else f"{trial.called}, the first that was served"


def best_sentence(observations: Sequence[Observation], against: Trial | None, objective: Objective) -> str:
    """The best trial that meets every limit, or how near the nearest came."""
    scored = [(o.score, o) for o in observations if o.score is not None]
    feasible = [(score, o) for score, o in scored if o.violation <= 0]
    if not feasible:
        finite = [o for _, o in scored]
        if not finite:
            return "No trial has succeeded so far."
        nearest = min(finite, key=lambda o: o.violation)
        return (
            f"No trial meets all limits so far; trial {nearest.trial.number} comes nearest, "
            f"{percent(nearest.violation)} beyond them in sum."
        )
    best = max(feasible, key=lambda pair: pair[0])[1].trial
    value = measured(best, objective.key)
    reference = measured(against, objective.key) if against else None
    if best is against or against is None or value is None or not reference:
        return f"Best so far that meets all limits: trial {best.number}{' (the baseline)' if best.is_baseline else ''}."
    return (
        f"Best so far that meets all limits: trial {best.number}, {objective.key} {quantity(objective.key, value)}, "
        f"{value / reference:.3g}x {the_reference(against)}."
    )


def budget_lines(observations: Sequence[Observation], budget: Budget, tokens_used: int) -> tuple[str, ...]:
    """What is left of every limit of the budget that can end the search."""
    trials = [o.trial for o in observations if not o.trial.is_baseline]
    failed = sum(not trial.succeeded for trial in trials)
    left = max(0, budget.max_trials - len(trials))
    lines = [f"{left} of {budget.max_trials} trials are left, the one you choose now among them"]
    if budget.max_failed_trials is not None:
        lines.append(f"{max(0, budget.max_failed_trials - failed)} more failed trials end the search")
    if budget.max_gpu_hours is not None:
        used = sum(o.trial.status.machine_hours for o in observations)
        lines.append(
            f"{max(0.0, budget.max_gpu_hours - used):.3g} of {budget.max_gpu_hours:g} accelerator-hours are left"
        )
    if budget.max_duration is not None:
        hours = _elapsed_s(observations) / 3600
        total = budget.max_duration.total_seconds() / 3600
        lines.append(f"{max(0.0, total - hours):.3g} of {total:.3g} hours are left")
    if budget.max_agent_tokens is not None:
        lines.append(
            f"{max(0, budget.max_agent_tokens - tokens_used)} of {budget.max_agent_tokens} of your tokens are left"
        )
    return tuple(lines)


def _elapsed_s(observations: Sequence[Observation]) -> float:
    """From the first trial's start to the last one's end; the clock itself would make every prompt another."""
    starts = [o.trial.status.started for o in observations if o.trial.status.started is not None]
    ends = [o.trial.status.finished for o in observations if o.trial.status.finished is not None]
    return max(0.0, max(ends) - min(starts)) if starts and ends else 0.0
