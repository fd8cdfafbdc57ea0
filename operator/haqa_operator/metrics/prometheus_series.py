"""A trial pod's counters as Prometheus keeps them: how they are asked for, and what the answer holds.

Samples are asked for as they were scraped (a range selector, each with its own timestamp), not resampled to steps:
`rate()` and `increase()` extrapolate to the range's edges, which over a window of ten seconds can be off by a third.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from haqa_contract.engine_metrics import COUNTERS, FINISHED, STARTED, sums_and_counts

_QUERIED = (
    *COUNTERS.values(),
    *sums_and_counts(),
)
_OF_THE_METRIC = frozenset({"__name__", "model_name", "engine", "finished_reason"})
"""Labels that vLLM gives its series. All others say which target was scraped, and by whom."""
_END_OF_TIME = 253_402_300_800.0
"""Unix time of the year 10000, which calendars do not have."""
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True)
class Labels:
    """Names of the labels that the scrape configuration gives a pod's series."""

    namespace: str = "namespace"
    pod: str = "pod"

    def __post_init__(self) -> None:
        for name in (self.namespace, self.pod):
            if not _LABEL_NAME.fullmatch(name):
                raise ValueError(f"label {name!r} is no Prometheus label name; use letters, digits and _")


@dataclass(frozen=True)
class ScrapedPod:
    """Whose counters are read.

    Attributes:
        model: Served model name; series of other models are left out. None = there is only one.
    """

    namespace: str
    name: str
    model: str | None = None


@dataclass(frozen=True)
class Series:
    """One series of the answer.

    Attributes:
        points: (Unix time of the scrape, value), oldest first.
    """

    name: str
    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Target:
    """Everything that one scrape target exported, summed over the engine's data-parallel ranks.

    Attributes:
        labels: Those of the target, for sentences.
        times: Of its scrapes, oldest first.
        totals: Exported name -> its sum at each of `times`.
        resets: When and why the engine is known to have been restarted: (earlier scrape, later scrape, what).
    """

    labels: Mapping[str, str]
    times: tuple[float, ...]
    totals: Mapping[str, tuple[float, ...]]
    resets: tuple[tuple[float, float, str], ...] = field(default=())

    def describe(self) -> str:
        """`instance="10.1.0.7:8000", job="pods"`: what tells it from another target of the pod."""
        return ", ".join(f'{name}="{value}"' for name, value in sorted(self.labels.items())) or "no labels"


def samples_query(pod: ScrapedPod, labels: Labels, start: float, end: float) -> str:
    """PromQL for all raw samples of the pod from `start` to `end`, in one answer: of the same scrapes."""
    # A Prometheus 2 that asks prometheus_client 0.26 for OpenMetrics gets `vllm_` for `vllm:`.
    of_vllm = "|".join(name.removeprefix("vllm:") for name in _QUERIED)
    names = f"vllm[:_]({of_vllm})|{STARTED}"
    length_s = max(1, math.ceil(end - start))
    selector = f'{{__name__=~"{names}",{labels.namespace}={_quoted(pod.namespace)},{labels.pod}={_quoted(pod.name)}}}'
    return f"{selector}[{length_s}s] @ {end:.3f}"


def series_of(result: object) -> tuple[Series, ...]:
    """The `result` of an instant query for a range.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(result, list):
        raise ValueError(f"a list of series was expected, not {type(result).__name__}")
    try:
        return tuple(_one_series(entry["metric"], entry["values"]) for entry in result)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the answer is no matrix of samples ({error!r})") from error


def targets_of(series: Iterable[Series], model: str | None = None) -> tuple[Target, ...]:
    """The scrape targets behind the series: more than one if two jobs or two Prometheus servers scrape the pod, or if
    two pods had the name one after the other.
    """
    by_target: dict[frozenset[tuple[str, str]], list[Series]] = {}
    for one in series:
        if model is not None and one.labels.get("model_name", model) != model:
            continue
        if one.name == COUNTERS["requests"] and one.labels.get("finished_reason") not in FINISHED:
            continue
        identity = frozenset((name, value) for name, value in one.labels.items() if name not in _OF_THE_METRIC)
        by_target.setdefault(identity, []).append(one)
    # Several names share the namespace and the pod; what differs is what a person needs to read.
    common = frozenset.intersection(*by_target) if len(by_target) > 1 else frozenset()
    targets = [_target(dict(identity - common), members) for identity, members in by_target.items()]
    return tuple(sorted(targets, key=lambda target: (target.times[:1], target.describe())))


def _one_series(labels: Mapping[str, str], values: Sequence[tuple[float, str]]) -> Series:
    points = sorted((float(at), float(value)) for at, value in values)
    if not all(0 <= at < _END_OF_TIME for at, _ in points):
        raise ValueError("a sample has a time that no clock shows")
    if not all(isinstance(value, str) for value in labels.values()):
        raise ValueError("a label is no text")
    name = labels["__name__"]
    name = f"vllm:{name[len('vllm_') :]}" if name.startswith("vllm_") else name
    return Series(name, dict(labels), tuple(point for point in points if math.isfinite(point[1])))


def _target(labels: Mapping[str, str], members: Sequence[Series]) -> Target:
    times = tuple(sorted({at for one in members for at, _ in one.points}))
    totals: dict[str, tuple[float, ...]] = {}
    for name in sorted({one.name for one in members if one.name != STARTED and one.points}):
        # All series of a target come from the same scrapes: one that is not there yet has not been counted up yet.
        of_name = [dict(one.points) for one in members if one.name == name]
        totals[name] = tuple(math.fsum(points.get(at, 0.0) for points in of_name) for at in times)
    resets = {reset for one in members for reset in _resets(one)}
    # A series that is gone from a later scrape shows in the sum alone.
    resets |= {reset for name, sums in totals.items() for reset in _backwards(name, zip(times, sums, strict=True))}
    return Target(labels, times, totals, tuple(sorted(resets)))


def _resets(one: Series) -> Iterable[tuple[float, float, str]]:
    if one.name != STARTED:
        return _backwards(one.name, one.points)
    changes = ((earlier, later) for (earlier, before), (later, after) in pairwise(one.points) if before != after)
    return ((earlier, later, "its process started anew") for earlier, later in changes)


def _backwards(name: str, points: Iterable[tuple[float, float]]) -> Iterable[tuple[float, float, str]]:
    for (earlier, before), (later, after) in pairwise(points):
        if after < before:
            yield earlier, later, f"{name} went backwards"


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
