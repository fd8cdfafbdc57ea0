"""Stopping by value: when what another trial may gain is worth less than the trial."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from haqa_operator.api.search_spec import Patience
from haqa_operator.decision.observations import Observation
from haqa_operator.search.strategies import Stop
from haqa_operator.search.surrogate.outlook import Outlook

LEAST_GAIN = {Patience.LOW: 0.02, Patience.NORMAL: 0.005, Patience.HIGH: 0.001, Patience.UNLIMITED: 0.0}
"""Expected gain of the most promising trial, as a share of the best so far, below which a search ends."""

LEAST_TRIALS = 3
"""Trials that are made in any case: fewer do not tell whether the models are right."""


def ended(seen: Outlook, observations: Sequence[Observation], patience: Patience, ease: float = 1.0) -> Stop | None:
    """Why a search ends here, or None to go on.

    Args:
        ease: Times the threshold, for somebody who has reasons of their own to stop.
    """
    made = sum(not o.trial.is_baseline for o in observations)
    if seen.best is None or made < LEAST_TRIALS:
        return None
    gains = seen.gain
    least = LEAST_GAIN[patience] * ease
    most = int(np.argmax(gains))
    if gains[most] >= least:
        return None
    return Stop(
        f"another trial is expected to gain {100 * float(gains[most]):.2g} % at most, and search.patience "
        f"{patience.value} asks for {100 * LEAST_GAIN[patience]:g} %; next would have been "
        f"{seen.candidates[most].describe()}"
    )
