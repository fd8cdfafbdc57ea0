"""Reads finished trials' metrics from Prometheus in the background, so that nothing else waits for it.

Prometheus may be away for a minute, or take an answer's whole time limit to say nothing: a reconciliation asks here
what has come in, and goes on. What is being read is held in memory alone; an operator that is restarted reads again,
which changes nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from haqa_contract import TrialReport
from haqa_operator.metrics.prometheus import PrometheusReading, Source, read_serving_metrics
from haqa_operator.metrics.prometheus_series import ScrapedPod

log = logging.getLogger(__name__)

SCRAPES_AWAITED = 4
"""Scrape intervals after a trial's end in which its last scrape has to come in; it was taken before the pod ended."""
LEAST_PATIENCE_S = 10.0
"""For scrapes every second: what is written to Prometheus from afar comes in batches of some seconds."""
OUTAGE_PATIENCE_S = 60.0
"""For a Prometheus that does not answer: it is restarted in that time, its log of samples replayed."""
_KEPT_S = 600.0
"""After which an answer that nobody fetched is thrown away: its tuning was deleted."""


@dataclass(frozen=True)
class _Answer:
    reading: PrometheusReading
    at: float


class PrometheusReadings:
    """What is being read from one Prometheus, and what was read and not fetched yet."""

    def __init__(self, source: Source, scrape_interval_s: float, clock: Callable[[], float] = time.time) -> None:
        """`clock`: Unix seconds."""
        self._source = source
        self._patience_s = max(LEAST_PATIENCE_S, SCRAPES_AWAITED * scrape_interval_s)
        self._clock = clock
        self._lock = threading.Lock()
        self._asked: set[ScrapedPod] = set()
        self._answers: dict[ScrapedPod, _Answer] = {}

    def read(
        self, pod: ScrapedPod, report: TrialReport, finished: float, on_answer: Callable[[], None]
    ) -> PrometheusReading | None:
        """The reading, once; None while it is not there, and `on_answer` is called when it is. Never blocks.

        Args:
            finished: When the pod ended; Prometheus is given a while from then on, however late it is asked.
        """
        with self._lock:
            self._forget_unfetched()
            answer = self._answers.pop(pod, None)
            if answer is not None:
                return answer.reading
            if pod in self._asked:
                return None
            self._asked.add(pod)
        # Not of a pool: a trial that waits for Prometheus keeps no other one from asking, nor the process from ending.
        threading.Thread(
            target=self._read, args=(pod, report, finished, on_answer), name="haqa-reading", daemon=True
        ).start()
        return None

    def under_way(self, pod: ScrapedPod) -> bool:
        """Whether Prometheus has not given its last word on this pod yet."""
        with self._lock:
            return pod in self._asked

    def _read(self, pod: ScrapedPod, report: TrialReport, finished: float, on_answer: Callable[[], None]) -> None:
        try:
            reading = read_serving_metrics(
                self._source,
                pod,
                report,
                finished + self._patience_s,
                outage_deadline=finished + max(self._patience_s, OUTAGE_PATIENCE_S),
                clock=self._clock,
            )
        except Exception as error:
            log.exception("reading %s/%s from Prometheus", pod.namespace, pod.name)
            reading = PrometheusReading(report, None, f"not read from Prometheus: {error!r}; see the operator's log")
        with self._lock:
            self._asked.discard(pod)
            self._answers[pod] = _Answer(reading, self._clock())
        on_answer()

    def _forget_unfetched(self) -> None:
        oldest = self._clock() - _KEPT_S
        self._answers = {pod: answer for pod, answer in self._answers.items() if answer.at > oldest}
