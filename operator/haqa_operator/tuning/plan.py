"""What to do next with a pool: a pure function of what is known about it.

The same function serves the loop on one machine and the operator's reconciler, so that both can be stopped and started
anywhere and go on with the same step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from haqa_contract import FailureReason
from haqa_operator.api import Proposal, Proposer, Trial, TuningSpec
from haqa_operator.api.metrics import is_accuracy
from haqa_operator.decision.choose import decide
from haqa_operator.decision.constraints import References, find_baseline
from haqa_operator.decision.evidence import failed_too_fast
from haqa_operator.decision.results import Confirmation, Decision, Verdict
from haqa_operator.search.lessons.teaching import taught
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.stopping import StopCause, stop_reason
from haqa_operator.tuning.confirming import NextWindow, Unconfirmed, confirming

HOPELESS_BASELINE = frozenset(
    {
        FailureReason.MODEL_FETCH,
        FailureReason.ENGINE_LOAD_FAILED,
        FailureReason.IMAGE_PULL,
        FailureReason.UNSCHEDULABLE,
    }
)
"""A baseline that ends so says that no other configuration can be served either: each has the same model and image, and
asks for the same node. Unless the cause is its own: a quantized model runs on other kernels."""


@dataclass(frozen=True)
class Measure:
    """Run this trial; it was proposed and has no result yet.

    Attributes:
        at_once: A window that confirms, beside the other one of its round.
    """

    trial: Trial
    at_once: bool = False


@dataclass(frozen=True)
class AskStrategy:
    """AskStrategy the strategy for the configuration of this trial number."""

    number: int


@dataclass(frozen=True)
class Confirm:
    """Measure winner and baseline alternately."""

    winner: Trial
    baseline: Trial


@dataclass(frozen=True)
class Conclude:
    """The pool is done."""

    decision: Decision
    why: str


Action = Measure | AskStrategy | Confirm | Conclude


@dataclass(frozen=True)
class PoolState:
    """Everything that deciding depends on.

    Attributes:
        space: As it was before any trial; `taught_space` is what strategies choose from.
        trials: Proposed trials by number, finished or not.
        started: When the first trial was proposed (Unix seconds), None before it.
        now: The time, passed in.
        ended: Why the strategy proposes nothing more.
        run: Part of the trials' names that tells apart runs whose results cannot be compared (in a cluster, where the
            names of all runs share a namespace); empty = none.
        one_engine: Winner and baseline are confirmed by trials, since only one engine at a time fits.
        room: Node -> replicas that it has accelerators for, where that is known.
    """

    tuning: str
    pool: str
    spec: TuningSpec
    space: SearchSpace
    trials: tuple[Trial, ...] = ()
    confirmations: tuple[Confirmation, ...] = ()
    started: float | None = None
    now: float = 0
    ended: str | None = None
    run: str = ""
    one_engine: bool = False
    room: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def taught_space(self) -> SearchSpace:
        """The space without what its trials rule out."""
        return taught(self.space, self.counted_trials, self.spec.constraints)

    @property
    def finished_trials(self) -> tuple[Trial, ...]:
        return tuple(trial for trial in self.counted_trials if trial.status.phase.finished)

    @property
    def counted_trials(self) -> tuple[Trial, ...]:
        """Of the search; not of a published checkpoint that is not named any more, or whose files have changed."""
        known = (None, *self.space.variants)
        return tuple(
            trial for trial in self.trials if trial.configuration.variant in known and not trial.is_confirmation
        )

    @property
    def baseline(self) -> Trial | None:
        """The one that is under way; else the one that says most."""
        under_way = (trial for trial in self.trials if trial.is_baseline and not trial.status.phase.finished)
        return next(under_way, None) or find_baseline(self.trials)

    @property
    def next_number(self) -> int:
        """One that no trial has: somebody may have deleted any of them."""
        return max((trial.number for trial in self.trials), default=-1) + 1

    def with_trial(self, trial: Trial) -> PoolState:
        """With this trial, in the place of an earlier state of it."""
        others = (other for other in self.trials if other.name != trial.name)
        return replace(self, trials=tuple(sorted((*others, trial), key=lambda one: one.number)))


def plan(state: PoolState) -> Action:
    """The next step of a pool: baseline, pending trial, new proposal, confirmation or the end."""
    pending = [trial for trial in state.trials if not trial.status.phase.finished]
    return Measure(pending[0]) if pending else step_beside_running(state)


def step_beside_running(state: PoolState) -> Action:
    """The next step, whether or not trials are running: those count as spent, but not as without success."""
    if state.baseline is None:
        problem = state.space.baseline_problem
        if problem is not None and not state.space.candidates:
            return _conclude(state, f"nothing can be served here: {problem}")
        return Measure(baseline_trial(state) if problem is None else reference_trial(state, problem))
    scored = any(trial.is_reference for trial in state.trials)
    if not scored and (problem := _not_servable(state.baseline)) is not None:
        return Measure(reference_trial(state, problem))
    why = _end_of_search(state, state.baseline)
    if why is None:
        return AskStrategy(number=state.next_number)
    return _conclude(state, why)


def baseline_trial(state: PoolState) -> Trial:
    proposal = Proposal(
        configuration=state.space.baseline,
        proposer=Proposer.BASELINE,
        reasoning="The model as it is with the engine's defaults: what everything else is compared with.",
    )
    return new_trial(state, 0, proposal)


def reference_trial(state: PoolState, problem: str) -> Trial:
    """The baseline where it cannot be served: no accelerator is spent on what is known not to run.

    Args:
        problem: Why it cannot be.
    """
    proposal = Proposal(
        configuration=state.space.baseline,
        proposer=Proposer.REFERENCE,
        reasoning="How accurate the model is as it is, found without serving it: what accuracy is compared with.",
        note=problem,
    )
    return new_trial(state, state.next_number, proposal)


def _not_servable(baseline: Trial) -> str | None:
    """What has shown that a baseline cannot be served where others may be: no replica holds it, or runs its kernels."""
    failure = baseline.status.failure
    if failure is None:
        return None
    return failure.message if failure.reason is FailureReason.ENGINE_OOM or failure.of_configuration else None


def new_trial(state: PoolState, number: int, proposal: Proposal) -> Trial:
    """A trial with the deterministic name that a restart would give it again."""
    return Trial(
        name=trial_name(state.tuning, state.pool, number, state.run),
        tuning=state.tuning,
        pool=state.pool,
        number=number,
        proposal=proposal,
    )


def trial_name(tuning: str, pool: str, number: int, run: str = "") -> str:
    return "-".join(part for part in (tuning, pool, run, f"{number:03d}") if part)


def agent_tokens(trials: Sequence[Trial]) -> int:
    exchanges = (exchange for trial in trials for exchange in trial.proposal.exchanges)
    return sum(exchange.prompt_tokens + exchange.completion_tokens for exchange in exchanges)


def _end_of_search(state: PoolState, baseline: Trial) -> str | None:
    failure = baseline.status.failure
    # Where it is only scored, its image and its pod are others than those of what is served.
    hopeless = frozenset({FailureReason.MODEL_FETCH}) if baseline.is_reference else HOPELESS_BASELINE
    if failure is not None and failure.reason in hopeless and not failure.of_configuration:
        return f"the baseline cannot be served: {failure.reason}: {failure.message}"
    too_fast = next((trial for trial in state.finished_trials if failed_too_fast(trial)), None)
    if too_fast is not None:
        return f"trial {too_fast.number} is faster than the load generator, and so may others be"
    relative = [c for c in state.spec.constraints if c.max_degradation_percent is not None and is_accuracy(c.metric)]
    if failure is not None and relative:
        return (
            f"the baseline failed ({failure.reason}: {failure.message}), so that `{relative[0].describe()}` cannot be "
            "judged; give absolute limits (min, max) to tune without a baseline"
        )
    if state.ended is not None:
        return state.ended
    tried = {trial.configuration for trial in state.trials}
    space = state.taught_space
    left = int(space.open_mask(tried).sum())
    stop = stop_reason(
        budget=state.spec.budget,
        search=state.spec.search,
        trials=state.finished_trials,
        running=sum(not trial.is_baseline for trial in state.counted_trials if not trial.status.phase.finished),
        objectives=state.spec.objectives,
        constraints=state.spec.constraints,
        candidates_left=left,
        now=state.now,
        started=state.started,
        bound=space.best_left(tried),
    )
    if stop is not None and stop.cause is StopCause.EXHAUSTED and space.lessons:
        ruled_out = sum(lesson.configurations for lesson in space.lessons)
        return f"{stop.sentence}, or is ruled out by what trials have shown ({ruled_out} are)"
    return stop.sentence if stop else None


def _conclude(state: PoolState, why: str) -> Action:
    """Decides; a winner is measured once more against the baseline before it is believed."""
    trials = state.finished_trials
    search = state.spec.search
    provisional = decide(trials, state.spec.objectives, state.spec.constraints, search.min_improvement_percent)
    if provisional.verdict is not Verdict.WINNER:
        return Conclude(provisional, why)
    winner = next(trial for trial in trials if trial.name == provisional.winner)
    baseline = References.among(trials).speed
    if not state.spec.confirmation.rounds or baseline is None or not baseline.succeeded or baseline is winner:
        return Conclude(provisional, why)
    confirmation = next((c for c in reversed(state.confirmations) if c.winner == winner.name), None)
    if confirmation is None and state.one_engine:
        match confirming(state.spec, state.trials, winner, baseline, state.room):
            case NextWindow(proposal, at_once):
                return Measure(new_trial(state, state.next_number, proposal), at_once)
            case Unconfirmed(note):
                return Conclude(provisional.model_copy(update={"reason": f"{provisional.reason} ({note})"}), why)
            case Confirmation() as found:
                confirmation = found
    if confirmation is None:
        return Confirm(winner, baseline)
    final = decide(trials, state.spec.objectives, state.spec.constraints, search.min_improvement_percent, confirmation)
    return Conclude(final, why)
