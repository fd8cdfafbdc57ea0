"""In place of vLLM on a node that pretends to have GPUs: `python3 -m tests.cluster.rehearsal.engine --model=…`.

It takes vLLM's arguments, reads the checkpoint's config and headers, and is refused memory where a GPU of this kind
would refuse it. Its answers to a load test come from a simulation in time that is computed: whoever asks for traffic
(`POST /simulated/…`) gets it at once, with the times that it would have taken. Standard library only.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.cluster.rehearsal.accuracy import perplexity
from tests.cluster.rehearsal.arguments import Arguments
from tests.cluster.rehearsal.checkpoints import Checkpoint
from tests.cluster.rehearsal.devices import DEVICES, Device
from tests.cluster.rehearsal.failing import lines_of
from tests.cluster.rehearsal.kernels import StepTimes
from tests.cluster.rehearsal.memory import GIB, Memory, OutOfMemory, allocate
from tests.cluster.rehearsal.scheduling import ClosedLoop, Limits, Request, Simulation

DRIVER = Path("/device/driver.json")
"""What the node's driver says: {"product": …, "devices": …}. Each node mounts its own."""
CLOCK = "X-Simulated-Time"
"""Header of every answer: Unix seconds of the engine's own time."""


class Engine:
    """A started engine; raises OutOfMemory where it does not start."""

    def __init__(self, device: Device, checkpoint: Checkpoint, arguments: Arguments, now: float) -> None:
        self.checkpoint, self.arguments = checkpoint, arguments
        self.memory: Memory = allocate(device, checkpoint, arguments)
        times = StepTimes(device, checkpoint, arguments)
        self.simulation = Simulation(_groups(device, self.memory, arguments), times.seconds, now, _seed(arguments))
        self.started = now
        self._loop: ClosedLoop | None = None
        self.tokens = {"first": 0.0, "gaps": 0.0, "whole": 0.0}

    def open(self, streams: int, prompt: int, wanted: int) -> dict[str, Any]:
        self._loop = ClosedLoop(self.simulation, streams, prompt, wanted)
        self._loop.start()
        return {}

    def until(self, answered: int) -> dict[str, Any]:
        assert self._loop is not None, "no traffic was opened"
        ended = self._loop.until(answered)
        for one in ended:
            self.tokens["first"] += one.arrivals[0] - one.started
            self.tokens["gaps"] += one.arrivals[-1] - one.arrivals[0]
            self.tokens["whole"] += one.arrivals[-1] - one.started
        return {"ended": [_shown(one) for one in ended]}

    def close(self) -> dict[str, Any]:
        self._loop = None
        return {"cancelled": [_shown(one) for one in self.simulation.cancel_all()]}

    def metrics(self) -> str:
        """By vLLM's names."""
        simulation, name = self.simulation, self.arguments.served_name
        engine = f'{{engine="0",model_name="{name}"}}'
        values: dict[str, float] = {
            "process_start_time_seconds": self.started,
            f"vllm:prompt_tokens_total{engine}": simulation.prompted,
            f"vllm:generation_tokens_total{engine}": simulation.generated,
            f"vllm:num_preemptions_total{engine}": simulation.preempted,
            f"vllm:num_requests_running{engine}": simulation.running,
            f"vllm:num_requests_waiting{engine}": simulation.waiting,
            f"vllm:kv_cache_usage_perc{engine}": simulation.cache_usage,
        }
        for reason, count in (("stop", 0), ("length", simulation.finished), ("abort", 0)):
            labels = f'{{engine="0",finished_reason="{reason}",model_name="{name}"}}'
            values[f"vllm:request_success_total{labels}"] = count
        finished = simulation.finished
        for short, total, count in (
            ("time_to_first_token", self.tokens["first"], finished),
            ("inter_token_latency", self.tokens["gaps"], simulation.generated - finished),
            ("e2e_request_latency", self.tokens["whole"], finished),
        ):
            values[f"vllm:{short}_seconds_sum{engine}"] = total
            values[f"vllm:{short}_seconds_count{engine}"] = count
        return "".join(f"{key} {value}\n" for key, value in values.items())

    def models(self) -> dict[str, Any]:
        served = {"id": self.arguments.served_name, "max_model_len": self.memory.max_model_len}
        return {"object": "list", "data": [served]}

    def accuracy(self) -> dict[str, float]:
        return {"perplexity": perplexity(self.checkpoint, self.arguments.cache_dtype)}

    def described(self) -> str:
        """Lines as vLLM writes them when it has started."""
        memory, replicas = self.memory, self.arguments.data
        lines = (
            f"Model loading took {memory.weights / GIB:.2f} GiB memory",
            f"Available KV cache memory: {memory.cache / GIB:.2f} GiB",
            f"GPU KV cache size: {memory.cache_tokens:,} tokens",
            f"{self.checkpoint.format.name} on {replicas} replicas of {self.arguments.tensor} x "
            f"{self.arguments.pipeline} GPUs",
        )
        return "\n".join(f"(EngineCore pid=211) INFO 11-29 12:00:00 [rehearsal.py:1] {line}" for line in lines)


def _groups(device: Device, memory: Memory, arguments: Arguments) -> list[Limits]:
    """Replicas, each cut into as many batches as its pipeline has stages."""
    stages = arguments.pipeline
    sequences = max(1, arguments.sequences(device) // stages)
    one = Limits(arguments.batched_tokens(device), sequences, memory.cache_tokens // stages)
    return [one] * (arguments.data * stages)


def _seed(arguments: Arguments) -> int:
    """The same command behaves the same."""
    return sum(place * ord(letter) for place, letter in enumerate(repr(sorted(arguments.given.items())), 1))


def _shown(one: Request) -> dict[str, Any]:
    return {"started": one.started, "arrivals": one.arrivals, "prompt": one.prompt}


def world_problem(driver: Mapping[str, Any], arguments: Arguments, env: Mapping[str, str]) -> str | None:
    """vLLM's words where the container has fewer GPUs than the arguments want."""
    names = env.get("NVIDIA_VISIBLE_DEVICES")
    seen = len(names.split(",")) if names else int(driver["devices"])
    if arguments.accelerators <= seen:
        return None
    return (
        f"ValueError: World size ({arguments.accelerators}) is larger than the number of available GPUs ({seen}) in "
        "this node."
    )


def _handler(engine: Engine) -> type[http.server.BaseHTTPRequestHandler]:
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with lock:
                match self.path:
                    case "/metrics":
                        self._say(engine.metrics(), "text/plain; version=0.0.4; charset=utf-8")
                    case "/simulated/accuracy":
                        self._say(json.dumps(engine.accuracy()))
                    case _:
                        self._say(json.dumps(engine.models()))

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
            with lock:
                match self.path:
                    case "/simulated/open":
                        answer = engine.open(asked["streams"], asked["input_tokens"], asked["output_tokens"])
                    case "/simulated/until":
                        answer = engine.until(asked["answered"])
                    case "/simulated/close":
                        answer = engine.close()
                    case _:
                        tokens = int(asked.get("max_tokens", 16))
                        answer = {"choices": [{"text": ""}], "usage": {"completion_tokens": tokens}}
                self._say(json.dumps(answer))

        def _say(self, text: str, kind: str = "application/json") -> None:
            body = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header(CLOCK, repr(engine.simulation.now))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Probes are no news."""

    return Handler


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    arguments = Arguments.parse(sys.argv[1:], os.environ)
    driver = json.loads(DRIVER.read_text())
    if problem := world_problem(driver, arguments, os.environ):
        print(problem, flush=True)
        return 1
    try:
        engine = Engine(DEVICES[driver["product"]], Checkpoint.read(Path(arguments.model)), arguments, time.time())
    except OutOfMemory as error:
        print("\n".join(lines_of(error)), flush=True)
        return 1
    print(engine.described(), flush=True)
    place = (arguments.given["host"], int(arguments.given["port"]))
    server = http.server.ThreadingHTTPServer(place, _handler(engine))
    server.daemon_threads = True
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
