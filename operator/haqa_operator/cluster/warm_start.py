"""What an earlier run of a tuning is good for once its numbers no longer count.

Another workload, another model revision or another vLLM makes the old trials incomparable; that their best was good is
still the best guess there is. So it is tried first, right after the new baseline.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from haqa_contract import Configuration
from haqa_operator.api import Proposal, Proposer, Trial
from haqa_operator.api.resources import QuantizationTrial
from haqa_operator.decision.choose import decide
from haqa_operator.tuning.plan import PoolState

GUESSES = 2
"""Trials that are spent on earlier answers; what is left of the budget searches."""


def earlier_runs(trials: Sequence[QuantizationTrial], pool: str, fingerprint: str) -> tuple[tuple[Trial, ...], ...]:
    """The pool's trials of other runs, the newest run first."""
    runs: defaultdict[str, list[Trial]] = defaultdict(list)
    for resource in trials:
        if resource.spec.confirms is not None:
            continue
        if resource.spec.pool == pool and resource.spec.fingerprint not in (None, fingerprint):
            runs[str(resource.spec.fingerprint)].append(resource.trial())
    return tuple(
        tuple(run)
        for run in sorted(
            runs.values(), key=lambda run: max(trial.status.finished or 0.0 for trial in run), reverse=True
        )
    )


def histories(trials: Sequence[QuantizationTrial], pool: str, fingerprint: str) -> tuple[tuple[Trial, ...], ...]:
    """What else was measured of the model: each run of each pool but this one, its trials by number."""
    runs: defaultdict[tuple[str, str], list[Trial]] = defaultdict(list)
    for resource in trials:
        if resource.spec.confirms is not None:
            continue
        key = (resource.spec.pool, str(resource.spec.fingerprint))
        if key != (pool, fingerprint) and (trial := resource.trial()).status.phase.finished:
            runs[key].append(trial)
    return tuple(tuple(sorted(run, key=lambda trial: trial.number)) for _, run in sorted(runs.items()))


def answer_again(configuration: Configuration | None, reason: str, state: PoolState) -> Proposal | None:
    """An answer that is to be measured again, and nothing else; None where it cannot be (any more).

    Args:
        reason: What has changed since.
    """
    tried = {trial.configuration for trial in state.trials}
    if configuration is None or configuration in tried or configuration not in state.space:
        return None
    if configuration in state.taught_space.closed:
        return None
    reasoning = f"The answer that is on record, measured anew: {reason}."
    return Proposal(configuration=configuration, proposer=Proposer.EARLIER_RUN, reasoning=reasoning)


def earlier_answer(runs: Sequence[Sequence[Trial]], state: PoolState) -> Proposal | None:
    """An earlier run's answer that is in the space and was not tried yet; None where there is none (left)."""
    tried = {trial.configuration for trial in state.trials}
    guessed = sum(trial.proposal.proposer is Proposer.EARLIER_RUN for trial in state.trials)
    if guessed >= GUESSES:
        return None
    spec = state.spec
    for run in runs:
        decision = decide(run, spec.objectives, spec.constraints, spec.search.min_improvement_percent)
        won = next((trial for trial in run if trial.name == decision.winner), None)
        if won is None or won.configuration in tried or won.configuration not in state.space:
            continue
        if won.configuration in state.taught_space.closed:
            continue
        reasoning = f"The answer of an earlier run of this tuning ({won.name}), measured anew for what has changed."
        return Proposal(configuration=won.configuration, proposer=Proposer.EARLIER_RUN, reasoning=reasoning)
    return None
