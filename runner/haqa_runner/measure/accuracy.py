"""Accuracy of the served model: perplexity, distance from the baseline, and tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from haqa_contract import AccuracyGate, AccuracyReport, Estimate, Evaluation, FailureReason
from haqa_contract.failures import TrialFailure
from haqa_contract.statistics import estimate, exponential
from haqa_runner.measure.divergence import divergence
from haqa_runner.measure.endpoint import Endpoint
from haqa_runner.measure.reference import load_reference, save_reference
from haqa_runner.measure.scoring import Scores, ScoringWindows, score, scoring_windows
from haqa_runner.measure.tokens import ModelTokenizer
from haqa_runner.progress import ProgressSink, no_progress

PERPLEXITY = "perplexity"
PERPLEXITY_RATIO = "perplexityRatio"
"""Perplexity over the baseline's, window by window: the text's own difficulty cancels out, and with it most of the
interval. The way to tell 0.5 % of degradation from noise."""
KL_DIVERGENCE = "klDivergence"
TOP_TOKEN_AGREEMENT = "topTokenAgreement"  # noqa: S105 (a metric's name)
_MUCH_REST = 0.2


@dataclass(frozen=True)
class Accuracy:
    """Attributes:
    windows: Of text, that were scored.
    scores: Of every window, as the report was made from them.
    """

    report: AccuracyReport
    windows: ScoringWindows
    scores: Scores
    warnings: tuple[str, ...] = ()


def measure_text_accuracy(
    endpoint: Endpoint,
    evaluation: Evaluation,
    tokenizer: ModelTokenizer,
    *,
    reference: str | None,
    baseline: bool,
    by_default: bool = False,
    progress: ProgressSink = no_progress,
) -> Accuracy:
    """Perplexity, and where there is a baseline to compare with, KL divergence and agreement of the first choice.

    Args:
        reference: Where the baseline's distributions are kept; None = no comparison.
        baseline: This is the baseline: leave its distributions there.
        by_default: Nobody has named the number of windows, so that fewer will do.

    Raises:
        TrialFailure: no text, no log-probabilities, or a reference that cannot be used.
    """
    windows = scoring_windows(evaluation, tokenizer, endpoint.max_model_len, by_default=by_default)
    theirs = load_reference(reference, windows.digest) if reference is not None and not baseline else None
    compared = reference is not None and (baseline or theirs is not None)
    scores = score(endpoint, windows, evaluation.top_logprobs if compared else 0, progress)
    if baseline and reference is not None:
        save_reference(reference, scores, windows.digest)
        theirs = scores
    found = summarize(windows, scores, theirs, expected_reference=reference)
    if (taken := len(windows.tokens)) == evaluation.samples:
        return found
    fewer = f"evaluation.dataset has text for {taken} of {evaluation.samples} windows, which were all taken"
    return replace(found, warnings=(*found.warnings, fewer))


def summarize(
    windows: ScoringWindows, scores: Scores, baseline: Scores | None, expected_reference: str | None = None
) -> Accuracy:
    """The report of one pass. Intervals are Student's t over windows, which are independent where tokens are not."""
    metrics: dict[str, Estimate] = {PERPLEXITY: exponential(estimate(scores.window_nll.tolist()))}
    warnings: tuple[str, ...] = ()
    if baseline is not None:
        apart = divergence(baseline, scores)
        metrics[PERPLEXITY_RATIO] = exponential(estimate((scores.window_nll - baseline.window_nll).tolist()))
        metrics[KL_DIVERGENCE] = _at_least_zero(estimate(apart.kl.tolist()))
        metrics[TOP_TOKEN_AGREEMENT] = _within_one(estimate(apart.agreement.tolist()))
        rest = float(np.mean(apart.rest))
        if rest > _MUCH_REST:
            warnings = (
                f"klDivergence sees {1 - rest:.0%} of the baseline's probability token by token, the rest as one lump; "
                "raise evaluation.topLogprobs for a tighter bound",
            )
    elif expected_reference is not None:
        warnings = (
            f"no klDivergence: no baseline has left its distributions at {expected_reference}; measure the baseline "
            f"first",
        )
    return Accuracy(AccuracyReport(metrics=metrics, tokens=int(scores.actual.size)), windows, scores, warnings)


def check_gates(gates: Sequence[AccuracyGate], metrics: Mapping[str, Estimate]) -> None:
    """The measured value decides, not its interval: a limit is the user's, and an interval would move it.

    Raises:
        TrialFailure: the first gate that is missed, or whose metric was not measured.
    """
    for gate in gates:
        measured = metrics.get(gate.metric)
        if measured is None:
            raise TrialFailure(
                FailureReason.ACCURACY_GATE,
                f"{gate.metric} has a limit but was not measured ({', '.join(metrics) or 'nothing'} was); add its "
                "task to evaluation.tasks, or measure the baseline first",
            )
        limit = _broken_limit(gate, measured.value)
        if limit is not None:
            raise TrialFailure(
                FailureReason.ACCURACY_GATE,
                f"{gate.metric} is {measured.value:.4g} (95 % interval {measured.low:.4g} to {measured.high:.4g}), "
                f"{limit}",
            )


def _broken_limit(gate: AccuracyGate, value: float) -> str | None:
    if gate.max is not None and value > gate.max:
        return f"above its limit {gate.max:.4g}"
    if gate.min is not None and value < gate.min:
        return f"below its limit {gate.min:.4g}"
    return None


def _at_least_zero(kl: Estimate) -> Estimate:
    """Rounding may leave a mean just below 0, and a symmetric interval does not know that KL cannot go there."""
    return Estimate(value=max(kl.value, 0.0), low=max(kl.low, 0.0), high=max(kl.high, 0.0), n=kl.n)


def _within_one(share: Estimate) -> Estimate:
    return Estimate(value=share.value, low=max(share.low, 0.0), high=min(share.high, 1.0), n=share.n)
