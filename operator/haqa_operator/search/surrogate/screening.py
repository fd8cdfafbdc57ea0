"""Which candidates the surrogate looks at, where there are too many to look at all of them at each proposal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from haqa_contract import Configuration
from haqa_operator.decision.observations import Observation
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.strategies import open_positions

MOST_CANDIDATES = 1500
_NEIGHBOURS_OF = 3
_DIFFERENCES = 2


def screened(
    space: SearchSpace, observations: Sequence[Observation], also: Sequence[Configuration] = ()
) -> list[Configuration]:
    """Open candidates worth a look: all of a small space; of a large one the most promising and those near the best.

    Args:
        also: Open candidates that are looked at in any case.
    """
    open_ = open_positions(space, observations)
    if len(open_) > MOST_CANDIDATES:
        named = [space.index.positions[configuration] for configuration in also]
        near = _near_the_best(space, observations, open_)[: MOST_CANDIDATES // 2]
        first = open_[: MOST_CANDIDATES - len(near)]
        open_ = np.unique(np.concatenate([np.array(named, dtype=np.int64), first, near]))
    return [space.candidates[i] for i in open_]


def _near_the_best(
    space: SearchSpace, observations: Sequence[Observation], open_: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Open candidates that differ from one of the best in few parameters, the nearest first."""
    scored = [o for o in observations if o.score is not None]
    best = sorted(scored, key=lambda o: (o.violation, -(o.score or 0.0)))[:_NEIGHBOURS_OF]
    if not best:
        return open_[:0]
    codes = space.index.codes
    rows = codes.rows[open_]
    apart = np.min([(rows != codes.row(o.trial.configuration)).sum(axis=1) for o in best], axis=0)
    return np.asarray(open_[np.argsort(apart, kind="stable")][: int((apart <= _DIFFERENCES).sum())])
