"""One search of one problem, and how far it had come after each of its trials."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from haqa_operator.api.trial import Proposal, Proposer, Trial
from haqa_operator.decision.choose import decide
from haqa_operator.decision.observations import observations_of
from haqa_operator.decision.results import Decision, Verdict
from haqa_operator.replay.bench.problems import Problem
from haqa_operator.replay.executor import SOURCE, TableExecutor
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.strategies import Stop, Strategy
from haqa_operator.tuning.executor import TrialProgress

Closing = Callable[[SearchSpace, Sequence[Trial]], SearchSpace]
"""The space without what the trials so far rule out."""


@dataclass(frozen=True)
class Step:
    """One trial of a search, judged by the table's own figures.

    Attributes:
        share: Share of the best feasible value that was found up to here, 0 to 1.
        regret: How far that is from the best, 0 to 1 (`Problem.regret`).
        feasible: Whether this trial has a result that keeps every limit.
        failed: Whether it has no result.
        machine_hours: Spent up to here, the baseline's among them.
        tokens: Of an LLM, up to here.
        thinking_s: What this proposal took.
    """

    trial: Trial
    share: float
    regret: float
    feasible: bool
    failed: bool
    machine_hours: float
    tokens: int
    thinking_s: float = 0.0


@dataclass(frozen=True)
class Trace:
    """A whole search. `steps[0]` is the baseline; `decision` is what HAQA would have answered at its end."""

    problem: str
    strategy: str
    seed: int
    steps: tuple[Step, ...]
    stopped: str | None = None
    decision: Decision | None = None

    def share_after(self, trials: int) -> float:
        """Share of the best feasible value after this many trials of its own; a search that ended stays where it is."""
        return self.steps[min(trials, len(self.steps) - 1)].share

    def trials_to(self, share: float) -> int | None:
        """Own trials until this share was reached; None = never."""
        return next((number for number, step in enumerate(self.steps) if step.share >= share - 1e-12), None)


def run(
    problem: Problem,
    strategy: Strategy,
    seed: int,
    trials: int = 20,
    *,
    name: str = "",
    noise_percent: float = 0.0,
    closing: Closing | None = None,
    early_stopping: bool = False,
) -> Trace:
    """The baseline, then up to `trials` trials of the strategy's own.

    No budget, patience or confirmation ends it: a strategy is judged by its proposals alone. Its own Stop does.

    Args:
        seed: Of the noise; the strategy brings its own.
        noise_percent: Of one repeat, as in `haqa replay`; what was reached is judged without it.
        early_stopping: Whether load tests may end early, where the table says what they took.
    """
    search = problem.spec.search.model_copy(update={"early_stopping": early_stopping})
    spec = problem.spec.model_copy(update={"search": search})
    executor = TableExecutor(problem.table, spec, noise_percent=noise_percent, seed=seed)
    done: list[Trial] = []
    steps: list[Step] = []
    stopped, thought = None, 0.0
    proposal: Proposal | Stop = Proposal(configuration=problem.baseline, proposer=Proposer.BASELINE)
    while not isinstance(proposal, Stop):
        trial = Trial(name=f"{SOURCE}-{len(done):03d}", tuning=SOURCE, pool=SOURCE, number=len(done), proposal=proposal)
        status = executor.execute(trial, done, _nobody)
        done.append(trial.model_copy(update={"status": status}))
        steps.append(_step(problem, done[-1], steps[-1] if steps else None, thought))
        if len(done) > trials:
            break
        seen = observations_of(done, [problem.objective], problem.constraints)
        begun = time.perf_counter()
        space = closing(problem.space, done) if closing else problem.space
        proposal = strategy.propose(space, seen)
        thought = time.perf_counter() - begun
        stopped = proposal.sentence if isinstance(proposal, Stop) else None
    decision = _decided(problem, done, executor)
    return Trace(problem.name, name or type(strategy).__name__, seed, tuple(steps), stopped, decision)


def _decided(problem: Problem, trials: Sequence[Trial], executor: TableExecutor) -> Decision:
    """What HAQA would have answered, confirmation included."""
    spec = problem.spec
    percent = spec.search.min_improvement_percent
    decision = decide(trials, spec.objectives, spec.constraints, percent)
    baseline = trials[0]
    if decision.verdict is not Verdict.WINNER or not baseline.succeeded:
        return decision
    winner = next(trial for trial in trials if trial.name == decision.winner)
    confirmation = executor.confirm(winner, baseline, _nobody)
    return decide(trials, spec.objectives, spec.constraints, percent, confirmation) if confirmation else decision


def _step(problem: Problem, trial: Trial, before: Step | None, thinking_s: float) -> Step:
    truth = problem.truth[trial.configuration]
    feasible = truth.score is not None and not truth.violation
    share = problem.share(truth.score) if feasible else 0.0
    regret = problem.regret(truth.score if feasible else None)
    tokens = sum(one.prompt_tokens + one.completion_tokens for one in trial.proposal.exchanges)
    return Step(
        trial=trial,
        share=max(share, before.share if before else 0.0),
        regret=min(regret, before.regret if before else 1.0),
        feasible=feasible,
        failed=truth.score is None,
        machine_hours=trial.status.machine_hours + (before.machine_hours if before else 0.0),
        tokens=tokens + (before.tokens if before else 0),
        thinking_s=thinking_s,
    )


def _nobody(progress: TrialProgress) -> None:
    """Nobody watches."""
