"""Exact limits, and what they ask of a configuration: arithmetic that a language model should not have to do.

A limit on latency is a
demand on throughput too, since a closed loop of `c` streams finishes `c / latency` requests a second (Little's law):
that decides against a configuration without a trial.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from haqa_contract import Workload
from haqa_operator.api.metrics import MetricKey
from haqa_operator.api.trial import Trial
from haqa_operator.decision.constraints import measured
from haqa_operator.decision.limits import Limit
from haqa_operator.metrics.quantities import quantity, signed_percent

_CONCURRENCY_NAMES = ("concurrency", "max-concurrency", "batch-size")
_ACCELERATOR_NAMES = ("tensor-parallel-size", "gpus", "num-gpus")


def percent(share: float) -> str:
    """0.124 -> `12 %`."""
    return signed_percent(share).lstrip("+")


def demand(limit: Limit, against: Trial | None) -> str:
    """Where the baseline (or what stands for it) is beside a limit, and by what factor it has to change to meet it."""
    value = measured(against, limit.key) if against else None
    if value is None or (limit.minimum is None and limit.maximum is None):
        return f"{limit.describe()}: the baseline has no value to compare with"
    room = limit.slack(value)
    standing = f"{limit.describe()}; {_name(against)} {quantity(limit.key, value)}"
    if room >= 0:
        return f"{standing}: meets it with {percent(room)} to spare"
    if limit.maximum is not None and value > limit.maximum > 0:
        factor = f"it has to fall to {limit.maximum / value:.3g}x, {value / limit.maximum:.3g} times better"
    elif limit.minimum is not None and value > 0:
        factor = f"it has to rise to {limit.minimum / value:.3g}x"
    else:
        factor = "it has to improve"
    return f"{standing}: breaks it; {factor}"


def rate_bounds(
    limits: Sequence[Limit], workload: Workload, accelerators: int, baseline: Trial | None
) -> tuple[str, ...]:
    """What each latency limit means for the rates at each level of concurrency, next to what the baseline does."""
    sentences: list[str] = []
    for limit in limits:
        if limit.maximum is None or limit.maximum <= 0:
            continue
        levels = (limit.key.concurrency,) if limit.key.concurrency else workload.concurrency
        for level in levels:
            if limit.key.metric == "e2e":
                sentences.append(_request_bound(limit.maximum, level, workload, accelerators, baseline))
            elif limit.key.metric in ("itl", "tpot"):
                sentences.append(_decode_bound(limit.key.metric, limit.maximum, level, baseline))
    return tuple(dict.fromkeys(sentences))


def _decode_bound(metric: str, limit_ms: float, level: int, baseline: Trial | None) -> str:
    tokens = level * 1000 / limit_ms
    return (
        f"concurrency {level}, {metric} {limit_ms:g} ms: decoding must reach {level} x 1000 / {limit_ms:g} = "
        f"{tokens:.4g} output tokens/s{_against(baseline, level, tokens)}"
    )


def _request_bound(limit_ms: float, level: int, workload: Workload, accelerators: int, baseline: Trial | None) -> str:
    requests = level * 1000 / limit_ms
    tokens = requests * workload.output_tokens
    share = f" ({requests / accelerators:.4g} for each of {accelerators} accelerators)" if accelerators > 1 else ""
    return (
        f"concurrency {level}, e2e {limit_ms:g} ms: at least {level} x 1000 / {limit_ms:g} = {requests:.4g} "
        f"requests/s{share}, that is {tokens:.4g} output tokens/s{_against(baseline, level, tokens)}"
    )


def _against(baseline: Trial | None, level: int, tokens_per_s: float) -> str:
    value = measured(baseline, MetricKey("throughput", concurrency=level)) if baseline else None
    return f"; {_name(baseline)} {value:.4g}, factor {tokens_per_s / value:.3g}" if value else ""


def _name(trial: Trial | None) -> str:
    return trial.called.removeprefix("the ") if trial else "baseline"


def candidate_bounds(
    limits: Sequence[Limit],
    values: Mapping[str, Sequence[str]],
    load: Collection[str] = (),
    accelerators: Collection[str] = (),
) -> tuple[str, ...]:
    """The same bound where concurrency is itself a parameter of the candidates, as in tables of measurements.

    Args:
        values: Parameter name -> the values it takes, as text.
        load, accelerators: Parameters of which it is known that they say so; else their usual names count.
    """
    levels = _numbers(_of_first(values, load, _CONCURRENCY_NAMES))
    counts = _numbers(_of_first(values, accelerators, _ACCELERATOR_NAMES)) or [1]
    limit_ms = min((lim.maximum for lim in limits if lim.key.metric == "e2e" and lim.maximum), default=None)
    if limit_ms is None or not levels:
        return ()
    return tuple(
        f"concurrency {level:g} on {count:g} accelerator{'' if count == 1 else 's'}: only with at least "
        f"{level * 1000 / (count * limit_ms):.4g} requests/s for each accelerator"
        for level in levels
        for count in counts
    )


def _of_first(values: Mapping[str, Sequence[str]], known: Collection[str], usual: Sequence[str]) -> Sequence[str]:
    by_name = {name.replace("_", "-").lower(): texts for name, texts in values.items()}
    return next((values[name] for name in sorted(known) if name in values), None) or next(
        (by_name[name] for name in usual if name in by_name), ()
    )


def _numbers(texts: Sequence[str]) -> list[float]:
    found = []
    for text in texts:
        try:
            found.append(float(text))
        except ValueError:
            continue
    return sorted({value for value in found if value > 0})
