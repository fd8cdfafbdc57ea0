"""Load windows as Prometheus saw them: the counters' values at each window's exact edges.

Scrapes do not fall on a window's edges. Between the scrape before an edge and the one after it the counter is taken to
rise evenly; it is never extended beyond what was scraped. Where that is not enough, the windows are not read from
Prometheus at all: half of a trial by one ruler and half by another would not be comparable.

Percentiles stay the load generator's (docs/decisions/0004-percentiles.md).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median

from haqa_contract import Window
from haqa_contract.engine_metrics import COUNTERS, DISAGREEMENT_LIMIT, HISTOGRAMS
from haqa_operator.metrics.prometheus_series import Series, Target, targets_of

_REACH = 2
"""Scrape intervals between an edge and the scrapes on both sides of it, at most: one may fail, no more."""
_TIMING_SLACK_S = 0.1
"""Prometheus spreads scrapes by some milliseconds."""


class Unreadable(Exception):
    """Prometheus cannot give the windows' figures; the message says why, for the trial's status.

    Attributes:
        lasting: Asking again will not change it.
    """

    lasting = True


class NotYet(Unreadable):
    """The scrape after a window's end is not in yet."""

    lasting = False


class Restarted(Unreadable):
    """The engine was restarted inside a window."""


@dataclass(frozen=True)
class Edge:
    """A moment between two scrapes.

    Attributes:
        before, after: Indices of the scrapes around it; equal when it falls on one.
        share: How far it lies from the one to the other, 0 to 1.
    """

    before: int
    after: int
    share: float

    def value(self, totals: Sequence[float]) -> float:
        low, high = totals[self.before], totals[self.after]
        return low + self.share * (high - low)


@dataclass(frozen=True)
class Change:
    """What a counter did between two edges.

    Attributes:
        value: With the counter rising evenly around each edge.
        least, most: The bounds that the scrapes themselves give, however it rose.
    """

    value: float
    least: float
    most: float


def windows_from_prometheus(
    report_windows: Sequence[Window],
    samples: Iterable[Series],
    *,
    model: str | None = None,
    scrape_interval_s: float | None = None,
) -> tuple[Window, ...]:
    """The runner's windows with the engine's figures replaced by Prometheus'.

    Windows that the runner has already set aside (`invalid`) are passed on as they are, and so are short looks, which
    fit between two scrapes.

    Args:
        samples: Of the windows' pod; see `samples_query`.
        model: Served model name; None = the engine serves one.
        scrape_interval_s: None = the median distance between the scrapes.

    Raises:
        NotYet: a scrape after a window's end is missing, and may still come.
        Restarted: the engine was restarted inside a window.
        Unreadable: series are missing, or the scrapes lie too far apart for these windows.
    """
    targets = targets_of(samples, model)
    return tuple(_read(window, targets, scrape_interval_s) if window.counts else window for window in report_windows)


def change_between(target: Target, name: str, started: Edge, ended: Edge) -> Change:
    """Change of one of the target's counters."""
    totals = target.totals[name]
    return Change(
        value=ended.value(totals) - started.value(totals),
        least=max(0.0, totals[ended.before] - totals[started.after]),
        most=totals[ended.after] - totals[started.before],
    )


def _read(window: Window, targets: Sequence[Target], scrape_interval_s: float | None) -> Window:
    if not targets:
        raise NotYet(
            "no samples of this pod: Prometheus does not scrape it, or gives its series other labels than the queries "
            "ask for"
        )
    # A sidecar's exporter has a process too; only a pod without any of vLLM's series is left with those alone.
    target = _covering(window, [target for target in targets if target.totals] or targets)
    started, ended = _edges(window, target, scrape_interval_s)
    for earlier, later, what in target.resets:
        if earlier < target.times[ended.after] and later > target.times[started.before]:
            raise Restarted(f"the engine was restarted in the window that began at {_clock(window.started)} ({what})")
    missing = [
        COUNTERS[n] for n in ("generation_tokens", "prompt_tokens", "requests") if COUNTERS[n] not in target.totals
    ]
    if missing:
        raise Unreadable(
            f"this pod is scraped, but {missing[0]} is missing; look for a metric_relabel_configs that drops it"
        )
    return _figures(window, target, started, ended)


def _figures(window: Window, target: Target, started: Edge, ended: Edge) -> Window:
    seconds = window.ended - window.started
    output, prompt, requests = (
        change_between(target, COUNTERS[name], started, ended)
        for name in ("generation_tokens", "prompt_tokens", "requests")
    )
    rate = output.value / seconds
    client_rate = window.client_output_tokens_per_s
    disagreement = abs(rate - client_rate) / rate if rate > 0 else 1.0
    objection = None
    if disagreement > DISAGREEMENT_LIMIT:
        # Nothing counted by either side is no question of how close the scrapes are: no such window is any good.
        if output.most > 0 and output.least <= client_rate * seconds <= output.most:
            raise Unreadable(
                f"scrapes lie too far apart for a window of {seconds:.0f} s: between {output.least / seconds:.1f} and "
                f"{output.most / seconds:.1f} output tokens/s fit them, and the load generator counted "
                f"{client_rate:.1f}; scrape more often, or raise workload.durationSeconds"
            )
        objection = (
            f"Prometheus counted {rate:.1f} output tokens/s and the load generator {client_rate:.1f}: they differ by "
            f"{disagreement:.0%}; something else uses the engine, or one of the two was starved"
        )
    preemptions = window.preemptions
    if COUNTERS["preemptions"] in target.totals:
        preemptions = round(change_between(target, COUNTERS["preemptions"], started, ended).value)
    return window.model_copy(
        update={
            "output_tokens_per_s": rate,
            "total_tokens_per_s": (output.value + prompt.value) / seconds,
            "requests_per_s": requests.value / seconds,
            "source": "prometheus",
            "disagreement": disagreement,
            "engine_mean_ms": _means(target, started, ended),
            "preemptions": preemptions,
            "invalid": objection,
        }
    )


def _means(target: Target, started: Edge, ended: Edge) -> dict[str, float]:
    means: dict[str, float] = {}
    for short, name in HISTOGRAMS.items():
        if f"{name}_sum" in target.totals and f"{name}_count" in target.totals:
            observed = change_between(target, f"{name}_count", started, ended).value
            if observed > 0:
                means[short] = 1000 * change_between(target, f"{name}_sum", started, ended).value / observed
    return means


def _covering(window: Window, targets: Sequence[Target]) -> Target:
    """The target that was scraped on both sides of the window."""
    covering = [t for t in targets if t.times and t.times[0] <= window.started and t.times[-1] >= window.ended]
    addresses = {target.labels.get("instance") for target in covering}
    if len(addresses) > 1:
        raise Unreadable(
            f"two targets have this pod's name at the same time ({'; '.join(t.describe() for t in covering)}); the "
            "labels do not tell two pods, clusters or ports apart"
        )
    if covering:
        # Scraped twice over (two jobs, two servers): the same engine, so the closer record of the two.
        return max(covering, key=lambda target: len(target.times))
    before = [t for t in targets if t.times and t.times[0] <= window.started]
    after = [t for t in targets if t.times and t.times[-1] >= window.ended]
    if (
        before
        and after
        and {t.labels.get("instance") for t in before}.isdisjoint(t.labels.get("instance") for t in after)
    ):
        raise Restarted(
            f"the pod was replaced by another of its name in the window that began at {_clock(window.started)} "
            f"({before[0].describe()}, then {after[0].describe()})"
        )
    return max(before or targets, key=lambda target: target.times[-1:])


def _edges(window: Window, target: Target, scrape_interval_s: float | None) -> tuple[Edge, Edge]:
    times = target.times
    gaps = [later - earlier for earlier, later in pairwise(times)]
    if not gaps:
        raise NotYet(f"this pod has been scraped {len(times)} time(s); two are needed")
    reach_s = _REACH * (scrape_interval_s or median(gaps)) + _TIMING_SLACK_S
    if times[0] > window.started:
        raise Unreadable(
            f"the window began at {_clock(window.started)}, before the first scrape of this pod that Prometheus has "
            f"({_clock(times[0])})"
        )
    if times[-1] < window.ended:
        raise NotYet(
            f"the last scrape of this pod is of {_clock(times[-1])}, and the window ended at {_clock(window.ended)}"
        )
    for at in (window.started, window.ended):
        around = times[bisect_right(times, at) - 1], times[bisect_left(times, at)]
        if at - around[0] > reach_s or around[1] - at > reach_s:
            raise Unreadable(
                f"no scrapes of this pod from {_clock(around[0])} to {_clock(around[1])}, with the edge of a window at "
                f"{_clock(at)} in between; the target was down or too slow for the scrape's time limit"
            )
    if times[bisect_left(times, window.started)] > window.ended:
        raise Unreadable(
            f"no scrape fell into the window from {_clock(window.started)} to {_clock(window.ended)}; scrape more "
            "often, or raise workload.durationSeconds"
        )
    return _edge(times, window.started), _edge(times, window.ended)


def _edge(times: Sequence[float], at: float) -> Edge:
    before, after = bisect_right(times, at) - 1, bisect_left(times, at)
    if before >= after:
        return Edge(after, after, 0.0)
    return Edge(before, after, (at - times[before]) / (times[after] - times[before]))


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-4] + "Z"
