"""When what a load test has shown makes the rest of it a waste: the arithmetic alone.

A configuration that turns out a third slower than the best so far need not be measured to the last digit. Whether it
is out of reach is answered so that noise alone all but never ends a trial that would have won: what was measured has to
miss the limit by `_DEVIATIONS` times its own uncertainty. That is the noise of a window, by what earlier trials of the
pool showed, and what restarting an engine changes.
"""

from __future__ import annotations

import math

from haqa_contract.requests import LoadGate

_DEVIATIONS = 3.0
"""One-sided 99.9 %."""
_RESTART = 0.02
"""Standard deviation that restarting an engine adds, whatever the windows of one run say."""
_LOOK = 2.0
"""Times the deviation of a full window: a look has about a quarter of its requests."""


def missed(gate: LoadGate, measured: float, windows: int, *, look: bool) -> str | None:
    """Why the gate is out of reach, as a sentence; None while it may still be passed.

    Args:
        measured: The gate's figure, a mean over windows.
        windows: How many at each level.
        look: Whether they are short looks.
    """
    if not (math.isfinite(measured) and measured > 0):
        return None
    window_deviation = gate.deviation * (_LOOK if look else 1.0)
    margin = math.exp(_DEVIATIONS * math.hypot(_RESTART, window_deviation / math.sqrt(windows)))
    short = gate.min is not None and measured * margin < gate.min
    beyond = gate.max is not None and measured / margin > gate.max
    if not (short or beyond):
        return None
    at = "" if gate.concurrency is None else f" at concurrency {gate.concurrency}"
    kind = gate.metric if gate.percentile is None else f"{gate.metric} p{gate.percentile}"
    after = "a short look" if look else f"{windows} of the windows"
    return f"{after} gave {kind} {measured:.4g}{at}, out of reach: {gate.because}"
