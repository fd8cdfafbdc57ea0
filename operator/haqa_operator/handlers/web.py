"""What kubelet and Prometheus ask the operator: /healthz, /readyz and /metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from haqa_operator.handlers.queue import Queue
from haqa_operator.handlers.watches import Watches

NOT_READY_S = 30.0
"""A watch that nobody answers for so long: something is wrong between the operator and the API server."""
UNHEALTHY_S = 300.0
"""For so long: it will not mend itself, and a restarted operator goes on with the same step."""


@dataclass(frozen=True)
class Health:
    """What is wrong with this process, as sentences; none = it is fine.

    Attributes:
        standby: What it waits for, as long as another operator acts.
    """

    watches: Watches
    queue: Queue
    clock: Callable[[], float] = time.monotonic
    standby: Callable[[], str | None] = lambda: None

    def unready(self) -> list[str]:
        if (waits := self.standby()) is not None:
            return [waits]
        return [*self._dead_watches(NOT_READY_S), *self._stuck(UNHEALTHY_S)]

    def unhealthy(self) -> list[str]:
        if self.standby() is not None:
            return []
        return [*self._dead_watches(UNHEALTHY_S), *self._stuck(2 * UNHEALTHY_S)]

    def _dead_watches(self, limit_s: float) -> list[str]:
        return [
            f"no watch of {resource} was answered for {self.watches.unanswered_s(resource):.0f} s; is the API server "
            "there, are the custom resource definitions, and may the operator watch them?"
            for resource in self.watches.silent(limit_s)
        ]

    def _stuck(self, limit_s: float) -> list[str]:
        waited_s = self.queue.stuck_s(self.clock())
        if waited_s <= limit_s:
            return []
        return [f"{self.queue.depth} tunings wait, and for {waited_s:.0f} s no reconciliation has ended"]


async def serve_web(health: Health, host: str, port: int) -> web.AppRunner:
    """Serves until the runner that is returned is cleaned up."""

    async def healthz(_: web.Request) -> web.Response:
        return _answer(health.unhealthy())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(health.unready())

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    application.add_routes(
        [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)],
    )
    runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner


def _answer(problems: list[str]) -> web.Response:
    return web.Response(status=503 if problems else 200, text="".join(f"{line}\n" for line in problems) or "ok\n")
