"""Agent and surrogate together: the agent names candidates, and they are ranked with the surrogate's own.

What the agent expects of a candidate is one more opinion beside the surrogate's, weighed by how right the agent has
been in this tuning. It starts with some trust, since it may know what no trial has shown yet. An agent that is wrong
loses it with its first bad trial; one that is silent is left alone for a while (`outages`); one that would stop is
heard where the surrogate, too, expects little more. So the worst of agents costs about one trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log

import numpy as np

from haqa_contract import Configuration
from haqa_operator.agent.advice import Advice, Adviser, Expectations, chosen
from haqa_operator.agent.quoting import plain
from haqa_operator.agent.replies import Choice
from haqa_operator.api.trial import Proposal, Proposer
from haqa_operator.decision.observations import Observation
from haqa_operator.search.bayesian import Bayesian, proposal_of
from haqa_operator.search.patience import ended
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.strategies import ALL_TRIED, Stop, Strategy
from haqa_operator.search.surrogate.outlook import Outlook

_SHOWN = 6
"""Candidates whose expectation the agent is told."""

_AGENT_DEVIATION = 0.3
"""Of an agent's estimate, as a logarithm: capable models are off by factors of 1.3 to 1.9 without a measurement."""
_RIGHT_WITHIN = 0.5
"""Largest error of an estimate, as a logarithm, that counts as right: a factor of 1.65."""
_WRONG_COUNTS = 3
_LEAST_TRUST = 0.5
"""Below this the agent's opinion counts for nothing; its candidates are still looked at."""

_STOP_EASE = 4.0
"""Times `patience.LEAST_GAIN` that may still be expected where the agent, too, sees no more to gain."""


@dataclass(frozen=True)
class Haqa(Strategy):
    """Ranks what a language model names together with what the surrogate expects.

    Attributes:
        adviser: Asks the model.
        surrogate: Proposes where the model does not; its patience ends the search.
    """

    adviser: Adviser
    surrogate: Bayesian

    def propose(self, space: SearchSpace, observations: Sequence[Observation]) -> Proposal | Stop:
        """The most promising candidate by both, with a note where the agent was of no help."""
        if next(space.open({o.trial.configuration for o in observations}), None) is None:
            return ALL_TRIED
        patience = self.surrogate.patience
        seen = self.surrogate.outlook(space, observations)
        if seen is not None and patience and (stop := ended(seen, observations, patience)) is not None:
            return stop
        advice = self.adviser.advise(space, observations, expectations(seen) if seen else None)
        if seen is None:
            return self._unmeasured(space, observations, advice)
        if advice.stop is not None and patience is not None:
            agreed = ended(seen, observations, patience, _STOP_EASE)
            if agreed is not None:
                return Stop(f"{self.adviser.model.name}: {plain(advice.stop, 400)}; {agreed.sentence}")
        named = {choice.configuration: choice for choice in advice.choices}
        if not named.keys() <= set(seen.candidates):
            seen = self.surrogate.outlook(space, observations, tuple(named)) or seen
        return self._best(with_opinions(seen, named, trust(observations)), named, advice)

    def _best(self, seen: Outlook, named: dict[Configuration, Choice], advice: Advice) -> Proposal:
        position = int(np.argmax(seen.worth))
        choice = named.get(seen.candidates[position])
        if choice is None:
            proposal = proposal_of(seen, position, Proposer.BAYESIAN)
            return proposal.model_copy(update={"exchanges": advice.exchanges, "note": self._why_not(advice)})
        proposal = proposal_of(seen, position, Proposer.AGENT)
        own = {"expected_percent": choice.expected_percent} if choice.expected_percent is not None else {}
        reasoning = f"{choice.reasoning}\n{proposal.reasoning}".strip()
        return proposal.model_copy(update={**own, "reasoning": reasoning, "exchanges": advice.exchanges})

    def _why_not(self, advice: Advice) -> str:
        if advice.why_none is not None:
            return f"{advice.why_none}; bayesian proposed this trial instead"
        if advice.stop is not None:
            return f"{self.adviser.model.name} would stop, which is too early: {plain(advice.stop, 400)}"
        names = "; ".join(choice.configuration.describe() for choice in advice.choices)
        return f"promises more than what {self.adviser.model.name} named ({names})"

    def _unmeasured(self, space: SearchSpace, observations: Sequence[Observation], advice: Advice) -> Proposal | Stop:
        """While nothing is measured, the agent's first choice, or the most promising by the order of the space."""
        if advice.choices:
            return chosen(advice.choices[0], advice.exchanges)
        proposal = self.surrogate.propose(space, observations)
        if isinstance(proposal, Stop):
            return proposal
        return proposal.model_copy(update={"exchanges": advice.exchanges, "note": self._why_not(advice)})


def expectations(seen: Outlook) -> Expectations:
    """A short line on each of the candidates that promise most."""
    best = np.argsort(-seen.worth, kind="stable")[:_SHOWN]
    return {
        seen.candidates[i]: (
            f"{seen.percent(i):.0f} % of the baseline, {100 * float(seen.chance[i]):.0f} % likely to meet all limits"
        )
        for i in map(int, best)
    }


def trust(observations: Sequence[Observation]) -> float:
    """How far the agent's opinion counts, 0 to 1, by what came of the candidates that it named."""
    right = wrong = 0
    baseline = next((o.score for o in observations if o.trial.is_baseline), None)
    for observation in observations:
        if observation.trial.proposal.proposer is Proposer.AGENT:
            good = _came_true(observation, baseline)
            right, wrong = right + good, wrong + (not good)
    trusted = (1 + right) / (1 + right + _WRONG_COUNTS * wrong)
    return trusted if trusted >= _LEAST_TRUST else 0.0


def _came_true(observation: Observation, baseline: float | None) -> bool:
    """Whether a trial that the agent named kept the limits and was about as good as it said."""
    if observation.score is None or observation.violation > 0:
        return False
    expected = observation.trial.proposal.expected_percent
    if not expected or not baseline:
        return True
    return abs(log(observation.score / baseline) - log(expected / 100)) < _RIGHT_WITHIN


def with_opinions(seen: Outlook, named: dict[Configuration, Choice], trusted: float) -> Outlook:
    """The outlook with the agent's expectations weighed in."""
    if not named or not trusted:
        return seen
    mean, deviation, chance = seen.mean.copy(), seen.deviation.copy(), seen.chance.copy()
    for i, candidate in enumerate(seen.candidates):
        choice = named.get(candidate)
        if choice is None:
            continue
        if choice.expected_percent is not None:
            said = log(choice.expected_percent / 100) * (1 if seen.maximized else -1)
            own, theirs = 1 / max(deviation[i], 1e-6) ** 2, trusted / _AGENT_DEVIATION**2
            mean[i] = (own * mean[i] + theirs * said) / (own + theirs)
            deviation[i] = (own + theirs) ** -0.5
        if choice.chance is not None:
            chance[i] = _pooled(float(chance[i]), choice.chance, 0.5 * trusted)
    return replace(seen, mean=mean, deviation=deviation, chance=chance)


def _pooled(one: float, other: float, weight: float) -> float:
    """Logarithmic opinion pool of two chances."""
    logit = (1 - weight) * _logit(one) + weight * _logit(other)
    return 1 / (1 + exp(-logit))


def _logit(chance: float) -> float:
    clipped = min(max(chance, 0.001), 0.999)
    return log(clipped / (1 - clipped))
