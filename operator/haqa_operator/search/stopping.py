"""When a search ends: the first limit that is reached, with the sentence that says so.

Pure: time, trials and what is left are passed in. Limits are looked at between trials, so the last trial may run past a
limit on time or machine-hours by its own length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from haqa_contract import FailureReason
from haqa_operator.api.base import format_duration
from haqa_operator.api.goals import Constraint, Objective
from haqa_operator.api.search_spec import Search
from haqa_operator.api.trial import Trial
from haqa_operator.api.tuning import Budget
from haqa_operator.decision.constraints import References
from haqa_operator.decision.observations import observation


class StopCause(StrEnum):
    MAX_TRIALS = "MaxTrials"
    MAX_FAILED_TRIALS = "MaxFailedTrials"
    MAX_GPU_HOURS = "MaxGpuHours"
    MAX_DURATION = "MaxDuration"
    EXHAUSTED = "Exhausted"
    NO_IMPROVEMENT = "NoImprovement"
    BOUND = "Bound"


@dataclass(frozen=True)
class StopReason:
    cause: StopCause
    sentence: str


@dataclass(frozen=True)
class _Search:
    """Everything that a stopping rule may look at."""

    budget: Budget
    search: Search
    trials: Sequence[Trial]
    running: int
    objectives: Sequence[Objective]
    constraints: Sequence[Constraint]
    candidates_left: int
    now: float
    started: float | None
    bound: float | None

    @property
    def tried(self) -> list[Trial]:
        """Finished trials but the baseline, in their order."""
        finished = (t for t in self.trials if t.status.phase.finished and not t.is_baseline)
        return sorted(finished, key=lambda trial: trial.number)


def stop_reason(
    *,
    budget: Budget,
    search: Search,
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    candidates_left: int,
    now: float,
    started: float | None,
    bound: float | None = None,
    running: int = 0,
) -> StopReason | None:
    """Why a pool's search ends here, or None to go on.

    Args:
        trials: The pool's trials; unfinished ones are ignored.
        objectives: The first one decides what counts as better.
        candidates_left: Candidates that no trial has been made of.
        now, started: Unix seconds; `started` is None before the first trial.
        bound: The best score (higher is better) that anything untried could reach (`SearchSpace.best_left`).
        running: Trials beside the baseline that have not ended; they count against maxTrials alone.
    """
    state = _Search(budget, search, trials, running, objectives, constraints, candidates_left, now, started, bound)
    return next((reason for rule in _RULES if (reason := rule(state)) is not None), None)


def _exhausted(state: _Search) -> StopReason | None:
    if state.candidates_left > 0:
        return None
    return StopReason(StopCause.EXHAUSTED, "every feasible configuration has been tried")


def _max_trials(state: _Search) -> StopReason | None:
    limit, tried = state.budget.max_trials, len(state.tried) + state.running
    if tried < limit:
        return None
    return StopReason(StopCause.MAX_TRIALS, f"{tried} trials beside the baseline have run (budget.maxTrials {limit})")


def _max_failed_trials(state: _Search) -> StopReason | None:
    """A configuration that misses the accuracy gate has been measured and has not failed."""
    limit = state.budget.max_failed_trials
    failed = [trial for trial in state.tried if trial.status.failure and not _missed_gate(trial)]
    if limit is None or len(failed) < limit:
        return None
    last = failed[-1].status.failure
    assert last is not None
    return StopReason(
        StopCause.MAX_FAILED_TRIALS,
        f"{len(failed)} trials have failed (budget.maxFailedTrials {limit}), "
        f"the last with {last.reason.value}: {last.message}",
    )


def _missed_gate(trial: Trial) -> bool:
    return trial.status.failure is not None and trial.status.failure.reason is FailureReason.ACCURACY_GATE


def _max_gpu_hours(state: _Search) -> StopReason | None:
    limit = state.budget.max_gpu_hours
    used = sum(trial.status.machine_hours for trial in state.trials)
    if limit is None or used < limit:
        return None
    return StopReason(
        StopCause.MAX_GPU_HOURS, f"the trials have used {used:.2f} machine-hours (budget.maxGpuHours {limit:g})"
    )


def _max_duration(state: _Search) -> StopReason | None:
    limit = state.budget.max_duration
    if limit is None or state.started is None or state.now - state.started < limit.total_seconds():
        return None
    minutes = (state.now - state.started) / 60
    return StopReason(
        StopCause.MAX_DURATION,
        f"the search has run for {minutes:.1f} minutes (budget.maxDuration {format_duration(limit)})",
    )


def _no_improvement(state: _Search) -> StopReason | None:
    """Counts finished trials since the last one that kept all constraints and was better by what counts."""
    limit = state.search.stop_after_no_improvement
    if limit is None:
        return None
    best, since = _best_so_far(state)
    if since < limit:
        return None
    what = "a better configuration" if best is not None else "one that keeps the constraints"
    return StopReason(
        StopCause.NO_IMPROVEMENT,
        f"{since} trials in a row have not found {what} (search.stopAfterNoImprovement {limit})",
    )


def _nothing_left_can_win(state: _Search) -> StopReason | None:
    best, _ = _best_so_far(state)
    if state.bound is None or best is None:
        return None
    if _better(state.bound, best, state.search.min_improvement_percent):
        return None
    return StopReason(
        StopCause.BOUND,
        f"nothing untried can win: {_shown(state, state.bound)} is the most that the hardware's peak rates allow, "
        f"{_shown(state, best)} has been measured",
    )


def _best_so_far(state: _Search) -> tuple[float | None, int]:
    """The best feasible score, the baseline's included, and how many trials have been made since it was found."""
    references = References.among(state.trials)
    best, since = None, 0
    in_order = [*([references.baseline] if references.baseline else []), *state.tried]
    for trial in in_order:
        seen = observation(trial, state.objectives[0], state.constraints, references)
        feasible = seen.score is not None and seen.violation == 0
        if feasible and (best is None or _better(seen.score or 0.0, best, state.search.min_improvement_percent)):
            best, since = seen.score, 0
        elif not trial.is_baseline:
            since += 1
    return best, since


def _better(score: float, than: float, min_improvement_percent: float) -> bool:
    """Whether a score beats another by more than the smallest improvement that counts; latencies are below 0."""
    least = 1 + min_improvement_percent / 100
    return score > than * least if than >= 0 else score * least > than


def _shown(state: _Search, score: float) -> str:
    return f"{state.objectives[0].key} {abs(score):.4g}"


_RULES: tuple[Callable[[_Search], StopReason | None], ...] = (
    _exhausted,
    _max_trials,
    _max_failed_trials,
    _max_gpu_hours,
    _max_duration,
    _no_improvement,
    _nothing_left_can_win,
)
