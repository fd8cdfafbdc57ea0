"""How far the served model's next-token distributions are from the baseline's, as far as top-k log-probabilities tell.

An engine returns the k most likely tokens of each position, not the whole vocabulary, and the baseline's k need not be
this model's. What is known nevertheless bounds KL(baseline || this) from below, and that bound is the figure: the
smallest divergence that any pair of distributions compatible with both lists can have.

- A token of the baseline's list that this model's list has too counts as it is.
- One that this model's list lacks has at most the probability of this model's k-th token, and all such tokens together
  at most what this model's list leaves to 1. Within that it is given the probability that makes the divergence smallest
  ("water-filling"), so a model whose list has nothing in common with the baseline's still comes out as far away.
- Everything that the baseline's list does not name is one more outcome, "the rest". Merging outcomes can only lower a
  KL divergence (log sum inequality): the figure stays a lower bound, is never infinite and invents no probability.

What it cannot see is how the rest is distributed, and `rest` says how much of the baseline's probability that is: with
k = 20 usually a few per cent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from haqa_runner.measure.scoring import Floats, Ids, Scores

Doubles = NDArray[np.float64]

_SMALLEST = 1e-12
_SMALLEST_REST = 1e-7
_ROUNDING = 2.0**-24
"""Relative error of a 32-bit float, which is how log-probabilities come."""


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
    """Per position: the bound on KL(p || q) described above, and p's rest."""
    matches = (p_ids[..., :, None] == q_ids[..., None, :]) & (p_ids >= 0)[..., :, None]
    shared = matches.any(axis=-1)
    p, q_listed = _probabilities(p_ids, p_log), _probabilities(q_ids, q_log)
    q_shared = np.where(matches, q_listed[..., None, :], 0.0).sum(axis=-1)
    q_others = q_listed.sum(axis=-1) - q_shared.sum(axis=-1)
    q_unlisted = _left_to_one(q_listed, q_log)
    p_rest = np.maximum(1.0 - p.sum(axis=-1), _SMALLEST_REST)
    p_missing = np.where(shared, 0.0, p)
    # The last entry is the token that stood there, wherever it ranks; the k-th likeliest is the one before.
    cap = np.where(q_ids[..., -2] >= 0, q_listed[..., -2], 1.0)
    q_missing = _nearest(p_missing, p_rest, cap, q_unlisted, q_others)
    q = np.where(shared, q_shared, q_missing)
    q_rest = np.maximum(q_others + q_unlisted - q_missing.sum(axis=-1), _SMALLEST_REST)
    named = p > 0
    ratio = np.where(named, p, 1.0) / np.where(named, np.maximum(q, _SMALLEST), 1.0)
    return (p * np.log(ratio)).sum(axis=-1) + p_rest * np.log(p_rest / q_rest), p_rest


def _left_to_one(listed: Doubles, logprobs: Floats) -> Doubles:
    """The most that `listed` can leave to 1: its rounding counts as left, or the bound on the divergence were none."""
    rounding = _ROUNDING * np.abs(listed * np.where(listed > 0, logprobs, 0.0)).sum(axis=-1)
    left: Doubles = np.maximum(1.0 - listed.sum(axis=-1), 0.0) + np.maximum(rounding, _SMALLEST_REST)
    return left


def _nearest(p: Doubles, p_rest: Doubles, cap: Doubles, unlisted: Doubles, others: Doubles) -> Doubles:
    """The probabilities of the tokens `p` that make the divergence smallest.

    Each is at most `cap` and their sum at most `unlisted`; the rest gets what is left, and has `others` in any case.
    """
    q = _water_filled(p, p_rest, cap, unlisted + others)
    too_much = q.sum(axis=-1) > unlisted
    return np.where(too_much[..., None], _water_filled(p, np.zeros_like(p_rest), cap, unlisted), q)


def _water_filled(p: Doubles, p_rest: Doubles, cap: Doubles, budget: Doubles) -> Doubles:
    """Shares `budget` among `p` and the rest in proportion to their probabilities, none of `p` above `cap`."""
    capped = np.zeros(p.shape, dtype=bool)
    while True:
        free = np.where(capped, 0.0, p)
        weight = free.sum(axis=-1) + p_rest
        left = np.maximum(budget - cap * capped.sum(axis=-1), 0.0)
        rate = np.where(weight > 0, left / np.where(weight > 0, weight, 1.0), 0.0)
        q = np.where(capped, cap[..., None], free * rate[..., None])
        exceeding = ~capped & (q > cap[..., None] * (1 + _SMALLEST))
        if not exceeding.any():
            return q
        capped |= exceeding


def _probabilities(ids: Ids, logprobs: Floats) -> Doubles:
    return np.where(ids >= 0, np.exp(logprobs.astype(np.float64)), 0.0)
