"""What the record of a search says of its agent: tokens used, and trials in a row without any reply."""

from __future__ import annotations

from collections.abc import Sequence

from haqa_operator.api.trial import Exchange
from haqa_operator.decision.observations import Observation

OUTAGES_THAT_OPEN = 3
"""So many trials in a row without any reply, and the model is left alone for a while…"""
TRIALS_LEFT_ALONE = 3
"""…of so many trials. A dead endpoint would otherwise cost every trial its time-outs."""

NO_REPLY = "no reply: "
"""Begins the error of an exchange in which the model was not heard at all."""


def tokens_used(observations: Sequence[Observation]) -> int:
    """Prompt and reply tokens of all recorded exchanges."""
    return sum(tokens_of(exchange) for o in observations for exchange in o.trial.proposal.exchanges)


def tokens_of(exchange: Exchange) -> int:
    return exchange.prompt_tokens + exchange.completion_tokens


def resting(observations: Sequence[Observation]) -> int:
    """After how many outages in a row the model is not asked for this trial; 0 where it is."""
    outages = consecutive_outages(observations)
    return outages if outages >= OUTAGES_THAT_OPEN and _rests(observations) else 0


def consecutive_outages(observations: Sequence[Observation]) -> int:
    """Of the latest trials for which the model was asked, how many in a row had no reply at all."""
    count = 0
    for observation in reversed(observations):
        exchanges = observation.trial.proposal.exchanges
        if exchanges and not _outage(exchanges):
            break
        count += bool(exchanges)
    return count


def _rests(observations: Sequence[Observation]) -> bool:
    """Whether fewer than `TRIALS_LEFT_ALONE` trials have passed since the model was last asked."""
    since = 0
    for observation in reversed(observations):
        if observation.trial.proposal.exchanges:
            break
        since += 1
    return since < TRIALS_LEFT_ALONE


def _outage(exchanges: Sequence[Exchange]) -> bool:
    return all((exchange.error or "").startswith(NO_REPLY) for exchange in exchanges)
