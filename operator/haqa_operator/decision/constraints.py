"""Constraints as pure policies: one limit, one trial, the baseline -> met or broken, with a sentence that says why.

The point estimate decides: a limit that moved with the noise would let a noisier measurement through. Where the
interval spans the limit, the finding says so (`marginal`), and a person can ask for more repeats. A number that was not
measured never passes: it is broken with the sentence that it was not measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from haqa_contract import FailureReason
from haqa_operator.api.goals import Constraint
from haqa_operator.api.metrics import ADAPTER, MetricKey, higher_is_better, is_accuracy
from haqa_operator.api.trial import Trial
from haqa_operator.metrics.quantities import quantity, signed_percent

PAIRED = {"perplexity": "perplexityRatio"}
"""Metrics that are measured in pairs with the baseline -> the metric that holds their ratio."""

UNJUDGED_EXCESS = 1.0
"""Relative excess of a constraint that could not be judged: finite, so that a search can still rank such a trial, and
as bad as being at twice the limit."""

_AT_THE_LIMIT = 1e-9
"""Relative. `99 >= 100 * (1 - 0.01)` must hold whatever the last bit of the product is."""

_BASELINE_BY_DEFINITION = {"klDivergence": 0.0, "topTokenAgreement": 1.0}
"""The baseline is the reference of these two, so its own report need not have them."""


@dataclass(frozen=True)
class Finding:
    """What one constraint says of one trial.

    Attributes:
        excess: How far beyond the limit, relative to the limit (0.2 = 20 % too much); 0 when met.
        value: The measured value; None when there is none.
        change: Against the baseline, as a share of it, where that is what is limited.
        judged: Whether there was enough to judge it by; what was not judged is not met.
        marginal: The 95 % interval spans the limit: a repetition might say the opposite.
    """

    constraint: Constraint
    met: bool
    _words: Callable[[], str] = field(repr=False, compare=False)
    excess: float = 0.0
    value: float | None = None
    change: float | None = None
    judged: bool = True
    marginal: bool = False

    @cached_property
    def sentence(self) -> str:
        """Made when it is read: a search judges every trial at every proposal and reads few of the sentences."""
        return self._words()

    @property
    def achieved(self) -> str:
        """The value in the constraint's own terms: `240 ms`, or `+1.3 %` against the baseline; empty if not judged."""
        if not self.judged or self.value is None:
            return ""
        return quantity(self.constraint.key, self.value) if self.change is None else signed_percent(self.change)


def find_baseline(trials: Sequence[Trial]) -> Trial | None:
    """The finished baseline trial, one that succeeded before one that failed; None when there is none."""
    finished = [trial for trial in trials if trial.is_baseline and trial.status.phase.finished]
    return min(finished, key=lambda trial: (not trial.succeeded, trial.number, trial.name), default=None)


def measured_baseline(trials: Sequence[Trial]) -> Trial | None:
    """The baseline that succeeded; None while there is none."""
    found = find_baseline(trials)
    return found if found is not None and found.succeeded else None


@dataclass(frozen=True)
class References:
    """What the trials of a pool are compared with.

    Attributes:
        baseline: Whether it succeeded or not, served or only scored; None while it has not finished.
        speed: The baseline where it was served; else the first trial that was measured to its end.
    """

    baseline: Trial | None = None
    speed: Trial | None = None

    @classmethod
    def among(cls, trials: Sequence[Trial]) -> References:
        baseline = find_baseline(trials)
        if baseline is None or (baseline.succeeded and not baseline.is_reference):
            return cls(baseline, baseline)
        served = (t for t in trials if t.succeeded and not t.is_baseline and not t.status.ended_early)
        return cls(baseline, min(served, key=lambda trial: (trial.number, trial.name), default=None))

    def of(self, key: MetricKey) -> Trial | None:
        """What a metric is compared with."""
        return self.baseline if is_accuracy(key.metric) else self.speed


def measured(trial: Trial, key: MetricKey) -> float | None:
    """A trial's value for a metric; None when it has none or one that is not finite."""
    estimate = trial.status.metrics.get(str(key))
    if estimate is not None:
        return estimate.value if math.isfinite(estimate.value) else None
    if trial.is_baseline and trial.succeeded:
        return _BASELINE_BY_DEFINITION.get(key.metric)
    return None


def judge_trial(constraints: Sequence[Constraint], trial: Trial, references: References) -> tuple[Finding, ...]:
    """One finding for each constraint that can say something about this trial.

    A trial that missed the accuracy gate was ended before its load test, and one that is out of reach in the middle of
    it: only what was measured by then is judged. Any other failed trial gets no findings; its failure is the reason.
    """
    if trial.status.ended_early or trial.is_reference:
        return tuple(judge(c, trial, references) for c in constraints if measured(trial, c.key) is not None)
    if trial.succeeded:
        return tuple(judge(constraint, trial, references) for constraint in constraints)
    if trial.status.failure is not None and trial.status.failure.reason is FailureReason.ACCURACY_GATE:
        reached = [c for c in constraints if is_accuracy(c.metric) and measured(trial, c.key) is not None]
        return tuple(judge(constraint, trial, references) for constraint in reached)
    return ()


def judge(constraint: Constraint, trial: Trial, references: References) -> Finding:
    """Whether this trial keeps this limit."""
    key = constraint.key
    value = measured(trial, key)
    if value is None:
        return _unjudged(constraint, f"{key} was not measured, and {constraint.describe()} is asked for")
    if constraint.max_degradation_percent is not None:
        return _judge_relative(constraint, trial, value, references, constraint.max_degradation_percent)
    return _judge_absolute(constraint, trial, value)


def _judge_absolute(constraint: Constraint, trial: Trial, value: float) -> Finding:
    key = constraint.key
    if constraint.max is not None and value > _stretched(constraint.max, upwards=True):
        limit, side = constraint.max, "above the limit of"
    elif constraint.min is not None and value < _stretched(constraint.min, upwards=False):
        limit, side = constraint.min, "below the limit of"
    else:
        marginal = any(_spans(trial, key, bound) for bound in (constraint.min, constraint.max))

        def kept() -> str:
            return f"{key} is {quantity(key, value)}, which keeps {constraint.describe()}{_noise_note(marginal)}"

        return Finding(constraint, True, kept, value=value, marginal=marginal)
    marginal = _spans(trial, key, limit)

    def broken() -> str:
        return f"{key} is {quantity(key, value)}, {side} {quantity(key, limit)}{_noise_note(marginal)}"

    return Finding(constraint, False, broken, _relative(abs(value - limit), limit), value, marginal=marginal)


def _judge_relative(
    constraint: Constraint, trial: Trial, value: float, references: References, allowed_percent: float
) -> Finding:
    key = constraint.key
    higher = higher_is_better(key.metric)
    if higher is None:
        remedy = "give min or max instead of maxDegradationPercent"
        return _unjudged(constraint, f"whether more or less {key} is better is not known; {remedy}", value)
    against = references.of(key)
    if against is None or not against.succeeded:
        why = _why_no_baseline(references.baseline)
        return _unjudged(constraint, f"{constraint.describe()} cannot be judged: {why}", value)
    whose = against.called
    reference = measured(against, key)
    if reference is None:
        return _unjudged(constraint, f"{constraint.describe()} cannot be judged: {whose} has no {key}", value)
    if reference == 0 and value != 0:
        remedy = "nothing is a percentage of that; give min or max instead"
        return _unjudged(constraint, f"{constraint.describe()} cannot be judged: {whose}'s is 0, {remedy}", value)
    allowed = abs(reference) * allowed_percent / 100
    limit = reference - allowed if higher else reference + allowed
    change = _relative(value - reference, reference)
    met = value >= _stretched(limit, upwards=False) if higher else value <= _stretched(limit, upwards=True)
    marginal = _spans_relative(trial, key, limit, reference) and trial is not against

    def words() -> str:
        return (
            f"{key} is {quantity(key, value)}, {signed_percent(change)} against {whose}'s {quantity(key, reference)}, "
            f"where {allowed_percent:g} % worse is allowed{_noise_note(marginal)}"
        )

    excess = 0.0 if met else _relative(abs(value - limit), limit)
    return Finding(constraint, met, words, excess, value, change, marginal=marginal)


def _why_no_baseline(baseline: Trial | None) -> str:
    if baseline is None:
        return "the baseline was not measured"
    reason = baseline.status.failure.reason.value if baseline.status.failure else "no reason given"
    return "the baseline could not be served" if baseline.succeeded else f"the baseline failed ({reason})"


def _unjudged(constraint: Constraint, sentence: str, value: float | None = None) -> Finding:
    return Finding(constraint, False, lambda: sentence, UNJUDGED_EXCESS, value, judged=False)


def _spans_relative(trial: Trial, key: MetricKey, limit: float, reference: float) -> bool:
    """`_spans` by the paired interval where there is one.

    Perplexity differs far more from window to window of text than from scheme to scheme; trial and baseline are scored
    on the same windows, and the interval of their ratio leaves that out.
    """
    paired = trial.status.metrics.get(paired_metric(str(key)))
    if paired is None or not reference:
        return _spans(trial, key, limit)
    return paired.low < limit / reference < paired.high


def paired_metric(metric: str) -> str:
    """The ratio to the baseline that was measured text by text; empty where there is none."""
    if metric.startswith(ADAPTER):
        return f"adapterRatio.{metric.removeprefix(ADAPTER)}"
    return PAIRED.get(metric, "")


def _spans(trial: Trial, key: MetricKey, limit: float | None) -> bool:
    estimate = trial.status.metrics.get(str(key))
    return limit is not None and estimate is not None and estimate.low < limit < estimate.high


def _noise_note(marginal: bool) -> str:
    return " (within noise of the limit)" if marginal else ""


def _stretched(limit: float, *, upwards: bool) -> float:
    slack = abs(limit) * _AT_THE_LIMIT
    return limit + slack if upwards else limit - slack


def _relative(difference: float, reference: float) -> float:
    """The difference as a share of the reference; as it is, where the reference is zero."""
    return difference / abs(reference) if reference else difference
