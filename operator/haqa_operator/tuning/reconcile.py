"""What to do with a pool in a cluster: a pure function from what the API server shows to the next actions.

Level-triggered: nothing here remembers what was done before. The same snapshot gives the same actions however often and
by whichever operator process it is looked at, and every action can be carried out twice without harm, since trials and
Jobs have deterministic names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from haqa_operator.api import Trial, TrialPhase
from haqa_operator.decision.results import Decision
from haqa_operator.executors.pod_outcome import TrialObservation
from haqa_operator.tuning.plan import Ask, Finish, Measure, PoolState, plan

ATTEMPTS = 3
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
class PoolSnapshot:
    """One look at a pool.

    Attributes:
        state: Its trials as recorded, its space, budget and the time.
        attempts: Trial name -> its latest Job; absent where there is none.
        asking: The strategy is thinking about the next trial (an LLM takes its time).
    """

    state: PoolState
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    asking: bool = False


@dataclass(frozen=True)
class Propose:
    """Create this trial; its Job follows once the trial is recorded."""

    trial: Trial


@dataclass(frozen=True)
class AskStrategy:
    """Ask for the configuration of this trial number, among those that no trial is of; not in the reconciler's time."""

    number: int


@dataclass(frozen=True)
class StartJob:
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


@dataclass(frozen=True)
class Conclude:
    """The pool is done."""

    decision: Decision
    why: str


PoolAction = Propose | AskStrategy | StartJob | ShowProgress | Record | Conclude


def reconcile_pool(snapshot: PoolSnapshot) -> tuple[PoolAction, ...]:
    """Everything to be done for the pool now; empty while there is nothing but waiting.

    A suspended tuning lets its running trials end and starts none.
    """
    return tuple(_actions(snapshot))


def _actions(snapshot: PoolSnapshot) -> Iterator[PoolAction]:
    state = snapshot.state
    unfinished = [trial for trial in state.trials if not trial.status.phase.finished]
    for trial in unfinished:
        yield from _of_trial(trial, snapshot.attempts.get(trial.name), suspended=state.spec.suspend)
    if not state.spec.suspend and not snapshot.asking and len(unfinished) < _slots(state):
        yield from _next_trial(state, len(unfinished))


def _of_trial(trial: Trial, attempt: Attempt | None, *, suspended: bool) -> Iterator[PoolAction]:
    if attempt is None:
        if not suspended:
            yield StartJob(trial, 1)
        return
    seen = attempt.observation
    if not seen.phase.finished:
        if seen.phase is not trial.status.phase:
            yield ShowProgress(trial, seen)
        return
    if seen.logs_wanted:
        # Whoever carries the actions out reads those logs and observes again; a report may be in one of them.
        return
    again = seen.failure is not None and seen.failure.reason.transient and attempt.number < ATTEMPTS
    if not again:
        yield Record(trial, seen, attempt.number)
    elif not suspended:
        yield StartJob(trial, attempt.number + 1)


def _slots(state: PoolState) -> int:
    """Trials that may run at once: the baseline runs alone, since what comes after it is judged against it."""
    baseline_done = bool(state.trials) and state.trials[0].status.phase.finished
    return state.spec.parallel_trials if baseline_done else 1


def _next_trial(state: PoolState, running: int) -> Iterator[PoolAction]:
    """A new trial, if the budget has room for one beside those that are running, or the end of the pool."""
    match plan(_as_if_done(state)):
        case Measure(trial) if not state.trials:
            yield Propose(trial)
        case Ask():
            yield AskStrategy(number=len(state.trials))
        case Finish(decision, why) if not running:
            yield Conclude(decision, why)


def _as_if_done(state: PoolState) -> PoolState:
    """The state with running trials counted as spent, so that a budget of ten never starts an eleventh.

    Winner and baseline are not yet measured in turn in a cluster, so the trials' own intervals decide.
    """
    spent = tuple(trial if trial.status.phase.finished else _spent(trial) for trial in state.trials)
    spec = state.spec.model_copy(update={"confirmation": state.spec.confirmation.model_copy(update={"rounds": 0})})
    return replace(state, trials=spent, spec=spec)


def _spent(trial: Trial) -> Trial:
    return trial.model_copy(update={"status": trial.status.model_copy(update={"phase": TrialPhase.SUCCEEDED})})
