"""Which candidates the surrogate looks at, where there are too many to look at all of them at each proposal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from threading import Lock

from cachetools import LRUCache, cached

from haqa_contract import Configuration
from haqa_operator.decision.observations import Observation
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.surrogate.features import Features, features_of

MOST_CANDIDATES = 3000
_NEIGHBOURS_OF = 3
_DIFFERENCES = 2


@cached(LRUCache(16), key=lambda space: (space.baseline, id(space.candidates)), lock=Lock())
def _features(space: SearchSpace) -> tuple[tuple[Configuration, ...], Features]:
    # The candidates are kept beside, so that their id stays theirs.
    return space.candidates, features_of(space)


def features_for(space: SearchSpace) -> Features:
    """The space's features; those of one space are worked out once."""
    return _features(space)[1]


def screened(
    space: SearchSpace, observations: Sequence[Observation], also: Sequence[Configuration] = ()
) -> list[Configuration]:
    """Open candidates worth a look: all of a small space; of a large one the most promising and those near the best.

    Args:
        also: Open candidates that are looked at in any case.
    """
    tried = {observation.trial.configuration for observation in observations}
    if len(space.candidates) <= MOST_CANDIDATES:
        return list(space.open(tried))
    first = list(islice(space.open(tried), MOST_CANDIDATES // 2))
    near = islice(_near_the_best(space, observations, tried), MOST_CANDIDATES // 2)
    return list(dict.fromkeys([*also, *first, *near]))


def _near_the_best(
    space: SearchSpace, observations: Sequence[Observation], tried: set[Configuration]
) -> list[Configuration]:
    """Open candidates that differ from one of the best in few parameters, the nearest first."""
    scored = [o for o in observations if o.score is not None]
    best = sorted(scored, key=lambda o: (o.violation, -(o.score or 0.0)))[:_NEIGHBOURS_OF]
    near: dict[Configuration, int] = {}
    for observation in best:
        wanted = set(observation.trial.configuration.parameters.items())
        for candidate in space.open(tried):
            differences = len(wanted.symmetric_difference(candidate.parameters.items()))
            if differences <= 2 * _DIFFERENCES:
                near[candidate] = min(differences, near.get(candidate, differences))
    return sorted(near, key=lambda candidate: near[candidate])
