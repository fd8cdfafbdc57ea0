"""When a tuning is looked at again at the latest. Whatever happens to its objects or nodes has it looked at sooner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from haqa_operator.api.status import PoolPhase
from haqa_operator.cluster.build.statuses import PoolView
from haqa_operator.cluster.observe.failures import Limits

DONE: Final = (PoolPhase.SUCCEEDED, PoolPhase.FAILED)

RESYNC_S: Final = 300.0
"""Of one that has its answers."""
IDLE_S: Final = 1200.0
"""Of one that waits for somebody else: word of it comes by a watch, and this is for what a watch has missed."""
_SOONEST_S: Final = 2.0
_BUSY_S: Final = 30.0


def busy_s(limits: Limits) -> float:
    """Of one at work: what is over its time is found out by looking."""
    shortest = min(limits.unschedulable_s, limits.image_pull_s, limits.not_starting_s, limits.node_lost_s)
    return min(_BUSY_S, max(_SOONEST_S, shortest / 2))


def next_look_s(pools: Sequence[PoolView], limits: Limits, *, refused: bool = False) -> float:
    """Seconds.

    Args:
        refused: Something that was due could not be written.
    """
    if refused or not all(pool.phase in DONE or pool.idle for pool in pools):
        return busy_s(limits)
    # What serves is held to its record, and not all that it consists of is watched.
    serves = any(pool.phase in DONE or pool.deployment is not None for pool in pools)
    return RESYNC_S if serves else IDLE_S
