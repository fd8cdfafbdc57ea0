"""What the load generator can do: tokens/s and requests/s of one process and of several, before a server that can more.

.venvs/runner/bin/python -m benchmarks.load_generator --processes 1 2 --repeats 5

The server (`tests.fakes.streaming_server`) has one process for each of the generator's and says how busy it was itself.
Where that is near a core, or where the machine has fewer cores than both have processes, the figure is that machine's
and no ceiling. Run it on a quiet machine. Every load is run in turn, so that a slow minute falls on all of them:

- *easy*: long answers at the pace of an engine; what a token costs when each comes by itself.
- *short answers*: what a request costs beside its tokens.
- *flat out*: the server writes faster than can be read; tokens come several at a time, which is cheaper for each.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
from tests.fakes.streaming_server import MODEL, Script, streaming_server

from haqa_contract import Estimate, Workload
from haqa_contract.statistics import estimate
from haqa_runner.measure.capacity import CpuClock, effort
from haqa_runner.measure.endpoint import Endpoint
from haqa_runner.measure.machine import describe_machine
from haqa_runner.measure.placement import beside_the_engine
from haqa_runner.measure.prompts import PromptSource
from haqa_runner.measure.shared_traffic import GuidellmGenerator

INPUT_TOKENS = 512
PROMPTS = PromptSource(tuple(range(2000)), (), (0,), tuple(range(3, 2000)), length=INPUT_TOKENS, seed=0)


@dataclass(frozen=True)
class Load:
    """Attributes:
    step_s: Of the server, between two tokens of a stream.
    streams: For each process of the generator.
    """

    name: str
    step_s: float
    output_tokens: int
    streams: int = 64


EASY, SHORT, FLAT_OUT = Load("easy", 0.02, 256), Load("short answers", 0.02, 16), Load("flat out", 0.0005, 256)


@dataclass(frozen=True)
class Seen:
    """Of one run.

    Attributes:
        busiest: Share of the time for which the busiest process of the generator had something to do.
        core_s: Seconds of a core for each second, the generator's processes together.
        server: Share of a core that the busiest process of the server used.
    """

    tokens_per_s: float
    requests_per_s: float
    busiest: float
    core_s: float
    server: float


async def run(url: str, load: Load, processes: int, seconds: float) -> Seen:
    generator = GuidellmGenerator(
        Endpoint(url, MODEL), Workload(input_tokens=INPUT_TOKENS, output_tokens=load.output_tokens)
    )
    streams = load.streams * processes
    try:
        traffic = generator.open(PROMPTS.window(load.name), streams, processes)
        async with traffic:
            await traffic.until(streams, 0)
            before, began, used = traffic.clocks, time.time(), await server_cpu_s(url)
            await asyncio.sleep(seconds)
            after, ended, used_after = traffic.clocks, time.time(), await server_cpu_s(url)
    finally:
        generator.close()
    span = ended - began
    return Seen(
        tokens_per_s=sum(n for sent in traffic.sent for at, n in sent.arrivals if began < at <= ended) / span,
        requests_per_s=sum(sent.answered and began < sent.ended <= ended for sent in traffic.sent) / span,
        busiest=effort(before, after, processes).occupied,
        core_s=sum(used_share(*pair) for pair in zip(before, after, strict=True)),
        server=max(later - earlier for earlier, later in zip(used, used_after, strict=True)) / span,
    )


def used_share(before: CpuClock, after: CpuClock) -> float:
    return (after.used_s - before.used_s) / max(after.at - before.at, 1e-9)


async def server_cpu_s(url: str) -> list[float]:
    """Of each of its processes."""
    async with httpx.AsyncClient(trust_env=False) as client:
        lines = (await client.get(f"{url}/metrics")).text.splitlines()
    return [float(line.split()[1]) for line in lines if line.startswith("process_cpu_seconds_total")]


def one(load: Load, processes: int, seconds: float) -> Seen:
    with streaming_server(Script(load.step_s), processes) as url, beside_the_engine():
        return asyncio.run(run(url, load, processes, seconds))


def spread(values: Sequence[float], digits: int = 0) -> str:
    found: Estimate = estimate(list(values))
    return f"{found.value:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="of the generator")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run, after one round of requests")
    given = parser.parse_args()
    runs: defaultdict[tuple[str, int], list[Seen]] = defaultdict(list)
    for _ in range(given.repeats):
        for processes in given.processes:
            for load in (EASY, SHORT, FLAT_OUT):
                runs[load.name, processes].append(one(load, processes, given.seconds))
    machine = describe_machine()
    print(f"{machine['cpu']}, {os.cpu_count()} cores; mean of {given.repeats} runs of {given.seconds:g} s (95 %)")
    for (name, processes), seen in runs.items():
        print(
            f"{name}, {processes} process(es): {spread([s.tokens_per_s for s in seen])} tokens/s, "
            f"{spread([s.requests_per_s for s in seen], 1)} requests/s, "
            f"busiest process {spread([s.busiest for s in seen], 2)}, cores {spread([s.core_s for s in seen], 2)}, "
            f"server's busiest {spread([s.server for s in seen], 2)}"
        )
    for processes in given.processes:
        token_us, request_us = costs(runs[EASY.name, processes], runs[SHORT.name, processes])
        print(
            f"{processes} process(es): {spread(token_us, 1)} us of a core for a token, {spread(request_us)} us for a "
            f"request; so one core reads {spread([1e6 / us for us in token_us])} tokens/s, or sends "
            f"{spread([1e6 / us for us in request_us])} requests/s"
        )


def costs(easy: Sequence[Seen], short: Sequence[Seen]) -> tuple[list[float], list[float]]:
    """Microseconds of a core for one token and for one request, from each pair of runs: two equations with both."""
    tokens, requests = [], []
    for a, b in zip(easy, short, strict=True):
        determinant = a.tokens_per_s * b.requests_per_s - b.tokens_per_s * a.requests_per_s
        tokens.append(1e6 * (a.core_s * b.requests_per_s - b.core_s * a.requests_per_s) / determinant)
        requests.append(1e6 * (a.tokens_per_s * b.core_s - b.tokens_per_s * a.core_s) / determinant)
    return tokens, requests


if __name__ == "__main__":
    main()
