"""What kubelet and Prometheus ask: ready only with live watches, unhealthy only where a restart would help."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import aiohttp
import pytest
from yarl import URL

from haqa_operator.cluster.act.reconciler import Key
from haqa_operator.handlers.queue import Queue
from haqa_operator.handlers.watches import Watches
from haqa_operator.handlers.web import Health, serve_web

PODS = URL("https://cluster/api/v1/pods?watch=true")


def health(now: SimpleNamespace) -> Health:
    return Health(Watches(["pods"], clock=lambda: now.s), Queue(lambda _: None), clock=lambda: now.s)


async def asked(found: Health, *paths: str) -> list[tuple[int, str]]:
    runner = await serve_web(found, "127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
            answers = []
            for path in paths:
                async with session.get(path) as response:
                    answers.append((response.status, await response.text()))
            return answers
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("silent_s", "ready", "healthy"), [(0, 200, 200), (31, 503, 200), (301, 503, 503)])
def test_a_dead_watch_first_takes_readiness_and_then_health(silent_s: float, ready: int, healthy: int) -> None:
    now = SimpleNamespace(s=0.0)
    found = health(now)
    found.watches.asked(PODS)
    found.watches.answered(PODS, 200)
    found.watches.asked(PODS)
    now.s = float(silent_s)
    (readyz, text), (healthz, _) = asyncio.run(asked(found, "/readyz", "/healthz"))
    assert (readyz, healthz) == (ready, healthy)
    assert ("no watch of pods was answered" in text) == (ready == 503)


def test_work_that_nobody_does_is_unhealthy() -> None:
    async def scene() -> list[tuple[int, str]]:
        now = SimpleNamespace(s=0.0)
        found = health(now)
        found.watches.answered(PODS, 200)
        found.queue.add(Key("ns", "a"))
        # The queue counts on the monotonic clock.
        now.s = asyncio.get_running_loop().time() + 601
        found.watches.answered(PODS, 200)
        return await asked(found, "/healthz")

    ((status, text),) = asyncio.run(scene())
    assert status == 503
    assert "1 tunings wait" in text


def test_metrics_are_prometheus_text() -> None:
    ((status, text),) = asyncio.run(asked(health(SimpleNamespace(s=0.0)), "/metrics"))
    assert status == 200
    for name in ("haqa_queue_depth", "haqa_reconcile_seconds", "haqa_watch_unanswered_seconds", "process_resident"):
        assert name in text
