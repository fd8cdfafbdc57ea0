"""What load generators of one and of several processes make of the same server.

`python -m tests.fakes.measured_by_processes`, run by the runner's Python, which has guidellm, prints one JSON object:
for each number of processes the window, what its figures are by the raw requests, and what the server has seen;
`killed`: what is said when a process dies.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tests.fakes.streaming_server import MODEL, Script, answered, streaming_server

from haqa_contract import Workload
from haqa_contract.failures import TrialFailure
from haqa_runner.measure.endpoint import Endpoint
from haqa_runner.measure.engine_metrics import MetricsReader
from haqa_runner.measure.prompts import PromptSource
from haqa_runner.measure.shared_traffic import GuidellmGenerator
from haqa_runner.measure.window import Observed, Plan, observe, window_of

SOURCE = PromptSource(tuple(range(500)), (), (0,), tuple(range(3, 500)), length=32, seed=0)
WORKLOAD = Workload(input_tokens=32, output_tokens=20)
STREAMS = 7
"""No multiple of any number of processes."""
PLAN = Plan(STREAMS, ramp_rounds=1, rounds=4)


async def window(url: str, generator: GuidellmGenerator, processes: int, repeat: int) -> Observed:
    metrics = MetricsReader(Endpoint(url, MODEL))
    try:
        traffic = generator.open(SOURCE.window(STREAMS, repeat), STREAMS, processes)
        return await observe(traffic, metrics, PLAN)
    finally:
        await metrics.close()


def measured(processes: int, folder: Path) -> dict[str, Any]:
    log = folder / str(processes)
    log.mkdir()
    with streaming_server(Script(step_s=0.005, log=log), processes=2) as url:
        generator = GuidellmGenerator(Endpoint(url, MODEL), WORKLOAD)
        try:
            observed = asyncio.run(window(url, generator, processes, 0))
            again = asyncio.run(window(url, generator, processes, 1))
        finally:
            generator.close()
        left = [process.pid for process in multiprocessing.active_children() if "Spawn" not in type(process).__name__]
        seen = answered(log)
    whole = [request for each in (observed, again) for request in each.sent if request.answered]
    return {
        "window": window_of(observed, 0).model_dump(mode="json"),
        "by_hand": by_hand(observed),
        "processes": observed.client.processes,
        "sent": len(whole),
        "cancelled": sum(request.cancelled for request in observed.sent),
        "tokens": sorted({request.output_tokens for request in whole}),
        "seen": len(seen),
        "distinct": len(set(seen)),
        "left": left,
    }


def by_hand(observed: Observed) -> dict[str, Any]:
    """Percentiles of all requests that ended in the window, whichever process sent them."""
    inside = [r for r in observed.sent if r.answered and observed.before.at < r.ended <= observed.after.at]
    gaps = [np.diff([at for at, _ in request.arrivals]) * 1000 for request in inside]
    samples = {
        "itl_ms": np.concatenate(gaps),
        "ttft_ms": np.array([1000 * (r.arrivals[0][0] - r.started) for r in inside]),
        "e2e_ms": np.array([1000 * (r.ended - r.started) for r in inside]),
    }
    return {
        "completed": len(inside),
        **{
            name: dict(zip(("p50", "p90", "p99"), np.percentile(v, (50, 90, 99)).tolist(), strict=True))
            for name, v in samples.items()
        },
    }


def killed() -> str:
    with streaming_server(Script(step_s=0.05)) as url:
        generator = GuidellmGenerator(Endpoint(url, MODEL), WORKLOAD)

        async def kill() -> None:
            traffic = generator.open(SOURCE.window("killed"), STREAMS, 2)
            async with traffic:
                victim = next(p for p in multiprocessing.active_children() if "Spawn" not in type(p).__name__)
                os.kill(victim.pid or 0, signal.SIGKILL)
                await traffic.until(1000, 0)

        try:
            asyncio.run(kill())
        except TrialFailure as failure:
            return failure.message
        finally:
            generator.close()
    return ""


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        cases = {str(processes): measured(processes, Path(made)) for processes in (1, 2, 3)}
    json.dump({"cases": cases, "killed": killed()}, sys.stdout)
