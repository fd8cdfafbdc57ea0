"""What to do with a pool in a cluster: a pure function from what the API server shows to the next actions.

Level-triggered: nothing here remembers what was done before. The same snapshot gives the same actions however often and
by whichever operator process, and every action can be carried out twice without harm, since trials and
Jobs have deterministic names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from haqa_operator.api import Trial
from haqa_operator.cluster.observe.attempts import TrialObservation
from haqa_operator.cluster.observe.making import Making
from haqa_operator.tuning.plan import AskStrategy, Conclude, Measure, PoolState, step_beside_running

JOB_ATTEMPTS = 3
"""Jobs for one trial: transient failures are tried again, and the attempts count as one trial."""


@dataclass(frozen=True)
class Attempt:
    """The latest Job of a trial, as the API server shows it.

    Attributes:
        number: 1 for the first.
    """

    number: int
    observation: TrialObservation


@dataclass(frozen=True)
class PoolObservation:
    """A pool as it is observed.

    Attributes:
        state: Its trials as recorded, its space, budget and the time.
        attempts: Trial name -> its latest Job; absent where there is none.
        asking: The strategy is thinking about the next trial (an LLM takes its time).
        leaving: Names of trials of which pods or Jobs of an earlier attempt are still there.
        makings: Unfinished trial -> the artifact that it serves; absent where it serves a checkpoint as it is.
        lingering: Trial -> attempt, of recorded trials whose Job would go on: an engine that cannot start is started
            again for ever, and holds its node.
    """

    state: PoolState
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    asking: bool = False
    leaving: frozenset[str] = frozenset()
    lingering: Mapping[str, int] = field(default_factory=dict)
    makings: Mapping[str, Making] = field(default_factory=dict)


@dataclass(frozen=True)
class Propose:
    """Create this trial; its Job follows once the trial is recorded."""

    trial: Trial


@dataclass(frozen=True)
class MakeArtifact:
    """Have a Job make what the trial serves; other pools' trials that serve the same wait for the same Job."""

    trial: Trial
    attempt: int


@dataclass(frozen=True)
class StartJob:
    """Attributes:
    artifact: Content address of what it serves, where that has to be made.
    """

    trial: Trial
    attempt: int
    artifact: str | None = None


@dataclass(frozen=True)
class TryAgain:
    """The attempt failed by no fault of the configuration: note that the next one is due, then remove its Job.

    In this order: an operator that ends in between has not lost count. The next Job follows once nothing of this
    attempt is left, so that two pods of one trial never measure side by side.
    """

    trial: Trial
    observation: TrialObservation
    attempt: int


@dataclass(frozen=True)
class RemoveJob:
    """The Job of an attempt that is over and has been noted or recorded."""

    trial: Trial
    attempt: int


@dataclass(frozen=True)
class ShowProgress:
    """The trial's status lags behind its pod."""

    trial: Trial
    observation: TrialObservation


@dataclass(frozen=True)
class Record:
    """The trial is over: write its status, once and for good."""

    trial: Trial
    observation: TrialObservation
    attempts: int


PoolAction = Propose | AskStrategy | MakeArtifact | StartJob | TryAgain | RemoveJob | ShowProgress | Record | Conclude


def pool_actions(snapshot: PoolObservation) -> tuple[PoolAction, ...]:
    """Everything to be done for the pool now; empty while there is nothing but waiting.

    A suspended tuning lets its running trials end and starts none.
    """
    return tuple(_actions(snapshot))


def _actions(snapshot: PoolObservation) -> Iterator[PoolAction]:
    state = snapshot.state
    for trial in state.trials:
        if trial.status.phase.finished and trial.name in snapshot.lingering:
            yield RemoveJob(trial, snapshot.lingering[trial.name])
    unfinished = [trial for trial in state.trials if not trial.status.phase.finished]
    for trial in unfinished:
        yield from _of_trial(trial, snapshot)
    if not state.spec.suspend and not snapshot.asking and len(unfinished) < _slots(state):
        yield from _next_trial(state, len(unfinished))


def _of_trial(trial: Trial, snapshot: PoolObservation) -> Iterator[PoolAction]:
    attempt, due = snapshot.attempts.get(trial.name), trial.status.attempts
    suspended = snapshot.state.spec.suspend
    if attempt is None:
        if trial.name not in snapshot.leaving:
            yield from _start(trial, snapshot.makings.get(trial.name), suspended=suspended)
        return
    if attempt.number < due:
        yield RemoveJob(trial, attempt.number)
        return
    seen = attempt.observation
    if not seen.phase.finished:
        if seen.phase is not trial.status.phase:
            yield ShowProgress(trial, seen)
        return
    if seen.logs_wanted:
        # Whoever carries the actions out reads those logs and observes again; a report may be in one of them.
        return
    again = seen.failure is not None and seen.failure.reason.transient and attempt.number < JOB_ATTEMPTS
    if not again:
        yield Record(trial, seen, attempt.number)
    elif not suspended:
        yield TryAgain(trial, seen, attempt.number)


def _start(trial: Trial, making: Making | None, *, suspended: bool) -> Iterator[PoolAction]:
    """The trial's Job, once what it serves is there."""
    if making is None or making.digest is not None:
        if not suspended:
            yield StartJob(trial, trial.status.attempts, making.digest if making else None)
        return
    seen = making.seen
    if seen is None:
        if not suspended:
            yield MakeArtifact(trial, 1)
    elif not seen.phase.finished:
        if seen.phase is not trial.status.phase:
            yield ShowProgress(trial, seen)
    elif seen.failure is not None and not seen.logs_wanted:
        if not seen.failure.reason.transient or making.attempt >= JOB_ATTEMPTS:
            yield Record(trial, seen, trial.status.attempts)
        elif not suspended:
            yield MakeArtifact(trial, making.attempt + 1)


def _slots(state: PoolState) -> int:
    """Trials that may run at once: the baseline runs alone, since what comes after it is judged against it."""
    baseline_done = state.baseline is not None and state.baseline.status.phase.finished
    return state.spec.parallel_trials if baseline_done else 1


def _next_trial(state: PoolState, running: int) -> Iterator[PoolAction]:
    """A new trial, if the budget has room for one beside those that are running, or the end of the pool."""
    match step_beside_running(state):
        case Measure(trial, at_once) if at_once or not (trial.is_confirmation and running):
            yield Propose(trial)
        case AskStrategy(number):
            yield AskStrategy(number)
        case Conclude(decision, why) if not running:
            yield Conclude(decision, why)
