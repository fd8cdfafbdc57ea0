"""What the load generator can do, by measurement: how many processes and cores of it a rate of tokens takes.

Both sides reckon with it: the operator asks for CPU by the rate to be expected, the runner begins with that many
processes. What a window then shows decides: the generator was busy, and the window is repeated with more of them.
"""

from __future__ import annotations

import math
from typing import Final

CORE_TOKENS_PER_S: Final = 10_000.0
"""Output tokens/s that one process reads with a whole core. Less than half of what `benchmarks/load_generator.py` has
measured: cores differ, and on most machines two of them share one."""
AT_EASE: Final = 0.5
"""Share of its core that a process should need: tokens come in bursts, one from each stream at every step of the
engine, and the last one of a burst waits for all others."""


def cores(tokens_per_s: float) -> float:
    """Cores that reading this many output tokens/s takes."""
    return tokens_per_s / CORE_TOKENS_PER_S


def processes(tokens_per_s: float) -> int:
    """Processes that read this many output tokens/s at ease; at least one."""
    return max(1, math.ceil(cores(tokens_per_s) / AT_EASE))
