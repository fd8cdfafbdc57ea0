"""The operator's own metrics; docs/operating.md explains each metric.

Counters begin at 0 with every start of the operator, as Prometheus expects: what counts for a tuning is in its status.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import Counter, Gauge, Histogram

from haqa_operator.api import Proposal, TrialStatus
from haqa_operator.api.status import TuningPhase, TuningStatus

_MINUTES = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
_CALLS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

TRIALS = Counter("haqa_trials", "Trials that have ended, by Succeeded or the reason of their failure", ["reason"])
PHASES = Histogram("haqa_trial_phase_seconds", "Where the time of ended trials went", ["phase"], buckets=_MINUTES)
TOKENS = Counter("haqa_agent_tokens", "Tokens that the LLM was sent (prompt) and wrote (completion)", ["kind"])
AGENT = Histogram(
    "haqa_agent_request_seconds",
    "Requests to the LLM: ok, or error for a reply that could not be used or did not come",
    ["outcome"],
    buckets=(0.5, 1, 2.5, 5, 10, 20, 40, 80, 160),
)
RECONCILES = Histogram(
    "haqa_reconcile_seconds", "Reconciliations of a tuning: ok or error", ["outcome"], buckets=_CALLS
)
QUEUE_DEPTH = Gauge("haqa_queue_depth", "Tunings that wait to be reconciled")
API_CALLS = Histogram(
    "haqa_api_request_seconds", "Calls of the API server", ["verb", "kind", "outcome"], buckets=_CALLS
)
WATCH_SILENCE = Gauge("haqa_watch_unanswered_seconds", "How long no watch of this resource was answered", ["resource"])
BUDGET = Gauge("haqa_budget_used", "What a tuning has spent, all pools together", ["namespace", "tuning", "resource"])
PHASE = Gauge("haqa_tuning_phase", "1 for the phase that a tuning is in", ["namespace", "tuning", "phase"])


@contextmanager
def timed(histogram: Histogram, *labels: str) -> Iterator[None]:
    """Observes how long the block took, with `ok` or `error` as the last label."""
    began = perf_counter()
    outcome = "error"
    try:
        yield
        outcome = "ok"
    finally:
        histogram.labels(*labels, outcome).observe(perf_counter() - began)


def trial_ended(status: TrialStatus) -> None:
    TRIALS.labels(status.failure.reason.value if status.failure else "Succeeded").inc()
    for phase, seconds in status.phase_seconds.items():
        PHASES.labels(phase).observe(seconds)


def proposed(proposal: Proposal) -> None:
    for exchange in proposal.exchanges:
        TOKENS.labels("prompt").inc(exchange.prompt_tokens)
        TOKENS.labels("completion").inc(exchange.completion_tokens)
        AGENT.labels("error" if exchange.error else "ok").observe(exchange.latency_seconds)


def tuning_seen(namespace: str, name: str, status: TuningStatus) -> None:
    for resource, value in status.budget_used.model_dump().items():
        BUDGET.labels(namespace, name, resource).set(value)
    for phase in TuningPhase:
        PHASE.labels(namespace, name, phase.value).set(phase is status.phase)


def tuning_gone(namespace: str, name: str) -> None:
    """Its series end, so that dashboards do not show it for ever."""
    for gauge in (BUDGET, PHASE):
        gauge.remove_by_labels({"namespace": namespace, "tuning": name})
