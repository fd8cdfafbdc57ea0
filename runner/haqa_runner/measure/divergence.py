"""How far the served model's next-token distributions are from the baseline's, as far as top-k log-probabilities tell.

An engine returns the k most likely tokens of each position, not the whole vocabulary. So KL(baseline || this) is taken
over a coarser partition: every token that *both* lists name is an outcome of its own, and everything else is one more
outcome, "the rest", whose probability is what is left to 1 on either side. A token of the baseline's list that this
model's list lacks joins the rest.

Merging outcomes can only lower a KL divergence (log sum inequality), so the figure is a lower bound of the true one; it
is never infinite and needs no invented probability. What it cannot see is how the rest is distributed, and `rest` says
how much of the baseline's probability that is: with k = 20 usually a few per cent, in which even a doubling of every
probability would add no more than `rest` x ln 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from haqa_runner.measure.scoring import Floats, Ids, Scores

Doubles = NDArray[np.float64]

_SMALLEST_REST = 1e-7
"""Log-probabilities come as 32-bit floats: what is left to 1 is known no better than this."""


@dataclass(frozen=True)
class Divergence:
    """Each array has one mean per window.

    Attributes:
        kl: KL divergence in nats per token, a lower bound.
        agreement: Share of positions where both models find the same token most likely.
        rest: Probability of the baseline's that is not accounted for token by token.
    """

    kl: Doubles
    agreement: Doubles
    rest: Doubles


def divergence(baseline: Scores, ours: Scores) -> Divergence:
    """Compares the scores of the same windows.

    Raises:
        ValueError: the two do not have the same windows and positions.
    """
    if baseline.actual.shape != ours.actual.shape:
        raise ValueError(
            f"scores of {baseline.actual.shape} and {ours.actual.shape} windows and positions do not compare"
        )
    kl, rest = _kl(baseline.ids, baseline.logprobs, ours.ids, ours.logprobs)
    same = (baseline.ids[..., 0] == ours.ids[..., 0]).astype(np.float64)
    return Divergence(kl.mean(axis=1), same.mean(axis=1), rest.mean(axis=1))


def _kl(p_ids: Ids, p_log: Floats, q_ids: Ids, q_log: Floats) -> tuple[Doubles, Doubles]:
    """Per position: KL(p || q) over the partition described above, and p's rest."""
    matches = (p_ids[..., :, None] == q_ids[..., None, :]) & (p_ids >= 0)[..., :, None]
    shared = matches.any(axis=-1)
    q_of_p = np.where(matches, q_log[..., None, :].astype(np.float64), 0.0).sum(axis=-1)
    p_own = np.where(shared, p_log.astype(np.float64), -np.inf)
    p = np.exp(p_own)
    q = np.where(shared, np.exp(q_of_p), 0.0)
    p_rest = np.maximum(1.0 - p.sum(axis=-1), _SMALLEST_REST)
    q_rest = np.maximum(1.0 - q.sum(axis=-1), _SMALLEST_REST)
    terms = np.where(shared, p * (np.where(shared, p_own, 0.0) - q_of_p), 0.0)
    return terms.sum(axis=-1) + p_rest * np.log(p_rest / q_rest), p_rest
