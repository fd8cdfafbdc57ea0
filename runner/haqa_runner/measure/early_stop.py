"""When a load test ends before its last window: what the trial cannot do without is out of reach.

It is asked after a short look (one round of requests at each level that matters) and after each round of full windows;
`haqa_contract.early_stop` has the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from haqa_contract import LoadGate, Window
from haqa_contract.early_stop import missed
from haqa_contract.figures import RATES, counted, figure
from haqa_contract.statistics import geometric_mean

LOOK_ROUNDS = 1
"""Requests of each stream in a short look."""
LEAST_ROUNDS = 6
"""Rounds of a full load test, ramps included, from which on a look is worth its time."""


def levels_to_look_at(gates: Sequence[LoadGate], levels: Sequence[int]) -> tuple[int, ...]:
    """The levels that decide about the gates, in the workload's order."""
    if any(gate.concurrency is None for gate in gates):
        return tuple(levels)
    named = {gate.concurrency for gate in gates}
    return tuple(level for level in levels if level in named)


def out_of_reach(gates: Sequence[LoadGate], windows: Sequence[Window], levels: Sequence[int]) -> str | None:
    """Why nothing more need be measured, as a sentence; None while the gates may still be passed.

    Args:
        windows: What was measured so far. Looks count at levels without a full window.
        levels: Of the workload; a gate over all of them waits until each has a window.
    """
    return next((why for gate in gates if (why := _missed(gate, windows, levels)) is not None), None)


def _missed(gate: LoadGate, windows: Sequence[Window], levels: Sequence[int]) -> str | None:
    wanted = levels if gate.concurrency is None else (gate.concurrency,)
    valid = counted(windows)
    found = [[window for window in valid if window.concurrency == level] for level in wanted]
    if not all(found):
        return None
    look = any(window.look for at_level in found for window in at_level)
    return missed(gate, _over_levels(gate, found), min(len(at_level) for at_level in found), look=look)


def _over_levels(gate: LoadGate, found: Sequence[Sequence[Window]]) -> float:
    means = [fmean(figure(window, gate.metric, gate.percentile) for window in at_level) for at_level in found]
    return geometric_mean(means) if gate.metric in RATES else max(means)
