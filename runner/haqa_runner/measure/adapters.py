"""What a LoRA adapter does over the served base, held against what it does over the baseline.

Adapters are trained over the unquantized model. Over a quantized one two things go wrong without a word in the engine's
log: the kernel leaves the adapter out, or adds it to numbers of another scale and answers garbage. Both show in the
text's log-probabilities, and end the trial before the load test.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from haqa_contract import AccuracyReport, Estimate, FailureReason, TrialRequest
from haqa_contract.failures import TrialFailure
from haqa_contract.statistics import estimate, exponential
from haqa_runner.measure.accuracy import Accuracy
from haqa_runner.measure.endpoint import Endpoint
from haqa_runner.measure.reference import load_reference, save_reference
from haqa_runner.measure.scoring import Scores, score
from haqa_runner.progress import ProgressSink

PERPLEXITY = "adapter"
"""With a dot and the adapter's name: perplexity of held-out text through it."""
RATIO = "adapterRatio"
"""The same over the baseline's, window by window."""
EFFECT = "adapterEffect"
"""Mean absolute change of a token's log-probability (nats) that the adapter makes to the base it is served with."""

_NO_EFFECT = 1e-3
"""Nats; kernels that add in any order change less. A trained adapter changes some hundredths at least."""
_CLEAR = 10.0
_GARBAGE = 2.0
"""Times the perplexity that quantizing alone explains."""


def measure_adapter(
    endpoint: Endpoint, name: str, base: Accuracy, request: TrialRequest, progress: ProgressSink
) -> Accuracy:
    """Perplexity through the adapter, its effect, and where there is a baseline to compare with, the ratio.

    Args:
        base: Of the same windows without the adapter, on the same engine.

    Raises:
        TrialFailure: AccuracyGate, where the adapter is left out, or answers garbage, over this base.
    """
    windows = base.windows
    ours = score(endpoint.through(name), windows, 0, progress)
    metrics = {
        f"{PERPLEXITY}.{name}": exponential(estimate(ours.window_nll.tolist())),
        f"{EFFECT}.{name}": _effect(base.scores, ours),
    }
    found = Accuracy(AccuracyReport(metrics=metrics, tokens=int(ours.actual.size)), windows, ours)
    if request.reference is None:
        return found
    place = adapter_reference(request.reference, name)
    if request.baseline:
        save_reference(place, ours, windows.digest)
        return replace(found, warnings=_untrained(name, metrics[f"{EFFECT}.{name}"]))
    before, theirs = load_reference(request.reference, windows.digest), load_reference(place, windows.digest)
    if before is None or theirs is None:
        return found
    ratio = exponential(estimate((ours.window_nll - theirs.window_nll).tolist()))
    _check(name, metrics[f"{EFFECT}.{name}"], _effect(before, theirs), ratio, _ratio(before, base.scores))
    compared = {**metrics, f"{RATIO}.{name}": ratio}
    return replace(found, report=found.report.model_copy(update={"metrics": compared}))


def adapter_reference(reference: str, name: str) -> str:
    """Where the baseline leaves what it thought of the text through an adapter."""
    return f"{reference.removesuffix('.npz')}.{name}.npz"


def _effect(base: Scores, ours: Scores) -> Estimate:
    return estimate(np.abs(ours.actual - base.actual).mean(axis=1).tolist())


def _ratio(before: Scores, base: Scores) -> float:
    return float(np.exp((base.window_nll - before.window_nll).mean()))


def _check(name: str, effect: Estimate, over_baseline: Estimate, ratio: Estimate, of_base: float) -> None:
    if effect.value < _NO_EFFECT and over_baseline.value > _CLEAR * _NO_EFFECT:
        raise TrialFailure(
            FailureReason.ACCURACY_GATE,
            f"adapter {name} changes nothing over this base (log-probabilities by {effect.value:.1g} nats, by "
            f"{over_baseline.value:.2g} over the baseline): the engine leaves it out with this scheme; take it out of "
            "the search",
        )
    if ratio.value > _GARBAGE * max(1.0, of_base):
        raise TrialFailure(
            FailureReason.ACCURACY_GATE,
            f"adapter {name} gives garbage over this base: {ratio.value:.3g} times the perplexity that it has over the "
            f"baseline, where the base alone has {of_base:.3g} times its own; take the scheme out of the search",
        )


def _untrained(name: str, effect: Estimate) -> tuple[str, ...]:
    if effect.value >= _NO_EFFECT:
        return ()
    return (f"adapter {name} changes nothing over the baseline either: it may never have been trained",)
