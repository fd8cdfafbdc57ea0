"""A server that streams made-up answers as vLLM does, in several processes, and takes next to no time for a token.

`vllm_server` has a thread for every request and is slower than what it should show the limit of. This one writes to
raw sockets: every step it sends one prepared piece to each stream that runs, as an engine does, all of them at once.
What it counts is shared between its processes, so that any of them answers /metrics for all.

`python -m tests.fakes.streaming_server --step-ms 10` serves until standard input closes and says its URL first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any, cast

MODEL = "tiny"
_GENERATED, _PROMPTED, _FINISHED, _RUNNING, _CPU_S, _SLOTS = range(6)
_END = b"0\r\n\r\n"
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Script:
    """What the server does.

    Attributes:
        step_s: Between two tokens of a stream.
        log: Folder in which every process writes a line for each request that it has answered whole: its first tokens.
    """

    step_s: float = 0.01
    log: Path | None = None


@contextmanager
def streaming_server(script: Script | None = None, processes: int = 1) -> Iterator[str]:
    """Serves inside the block; its URL."""
    context = multiprocessing.get_context("spawn")
    counters = RawArray("d", processes * _SLOTS)
    # Bound and never listened on: it keeps the port for the processes, and takes no connection.
    with _listener(0) as kept:
        port = kept.getsockname()[1]
        ready = context.Barrier(processes + 1)
        workers = [
            context.Process(target=_work, args=(script or Script(), port, counters, number, ready), daemon=True)
            for number in range(processes)
        ]
        for worker in workers:
            worker.start()
        try:
            ready.wait(60)
            yield f"http://127.0.0.1:{port}"
        finally:
            for worker in workers:
                worker.terminate()
                worker.join()


def answered(log: Path) -> list[str]:
    """The first tokens of every request that was answered whole, as the processes wrote them."""
    return [line for file in sorted(log.glob("*.txt")) for line in file.read_text().splitlines()]


def _listener(port: int) -> socket.socket:
    """The kernel spreads connections over all that share the port."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    return listener


def _work(script: Script, port: int, counters: Any, number: int, ready: Any) -> None:
    with suppress(ImportError):
        import uvloop  # type: ignore[import-not-found]

        uvloop.install()
    asyncio.run(_serve(script, port, counters, number, ready))


async def _serve(script: Script, port: int, counters: Any, number: int, ready: Any) -> None:
    engine = _Engine(counters, number * _SLOTS, script.log / f"{number}.txt" if script.log else None)
    loop = asyncio.get_running_loop()
    listener = _listener(port)
    server = await loop.create_server(lambda: _Connection(engine), sock=listener, backlog=4096)
    await loop.run_in_executor(None, ready.wait)
    async with server:
        await engine.run(script.step_s)


@lru_cache(maxsize=64)
def _pieces(prompt_tokens: int, output_tokens: int) -> tuple[bytes, ...]:
    """The answer to every request of this size, piece by piece, as vLLM writes it."""
    return tuple(_piece(prompt_tokens, made) for made in range(1, output_tokens + 1))


def _piece(prompt_tokens: int, made: int) -> bytes:
    choice = {"index": 0, "text": " token", "logprobs": None, "finish_reason": None, "stop_reason": None}
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens + made, "completion_tokens": made}
    body = {
        "id": "cmpl-0123456789abcdef0123456789abcdef",
        "object": "text_completion",
        "created": 1700000000,
        "model": MODEL,
        "choices": [choice],
        "usage": usage,
    }
    return _chunk(f"data: {json.dumps(body)}\n\n".encode())


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


_DONE = _chunk(b"data: [DONE]\n\n") + _END


@dataclass(eq=False)
class _Stream:
    transport: asyncio.Transport
    pieces: tuple[bytes, ...]
    beginning: str
    made: int = 0


@dataclass
class _Engine:
    """All streams of one process; `counters` from `base` on are its own."""

    counters: Any
    base: int
    log: Path | None
    running: set[_Stream] = field(default_factory=set)

    async def run(self, step_s: float) -> None:
        due = time.monotonic()
        while True:
            due = max(due + step_s, time.monotonic() - step_s)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self._step()

    def _step(self) -> None:
        ended = []
        for stream in self.running:
            stream.transport.write(stream.pieces[stream.made])
            stream.made += 1
            if stream.made == len(stream.pieces):
                stream.transport.write(_DONE)
                ended.append(stream)
        self.counters[self.base + _GENERATED] += len(self.running)
        self.counters[self.base + _CPU_S] = time.process_time()
        for stream in ended:
            self.counters[self.base + _FINISHED] += 1
            if self.log:
                with self.log.open("a") as lines:
                    lines.write(f"{stream.beginning}\n")
            self.leave(stream)

    def join(self, stream: _Stream, prompt_tokens: int) -> None:
        self.running.add(stream)
        self.counters[self.base + _PROMPTED] += prompt_tokens
        self.counters[self.base + _RUNNING] = len(self.running)

    def leave(self, stream: _Stream) -> None:
        self.running.discard(stream)
        self.counters[self.base + _RUNNING] = len(self.running)

    def each(self, slot: int) -> list[float]:
        """Of every process."""
        return list(self.counters[slot::_SLOTS])

    def total(self, slot: int) -> float:
        return sum(self.each(slot))


class _Connection(asyncio.Protocol):
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._received = b""
        self._stream: _Stream | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        if self._stream is not None:
            self._engine.leave(self._stream)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self._received = rest[length:]
        self._answer(lines[0].split(" ")[1], rest[:length])

    def _answer(self, path: str, body: bytes) -> None:
        match path:
            case "/v1/completions":
                self._complete(json.loads(body))
            case "/metrics":
                self._say(_metrics(self._engine).encode())
            case "/v1/models":
                self._say(json.dumps({"data": [{"id": MODEL, "max_model_len": 32768}]}).encode())
            case _:
                self._say(b"{}")

    def _complete(self, asked: dict[str, Any]) -> None:
        prompt = asked["prompt"]
        pieces = _pieces(len(prompt), asked["max_tokens"])
        self._transport.write(_HEAD)
        self._stream = _Stream(self._transport, pieces, ",".join(map(str, prompt[:9])))
        self._engine.join(self._stream, len(prompt))

    def _say(self, body: bytes) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


def _metrics(engine: _Engine) -> str:
    labels = f'{{engine="0",model_name="{MODEL}"}}'
    lines = {
        "process_start_time_seconds": 1000.0,
        f"vllm:generation_tokens_total{labels}": engine.total(_GENERATED),
        f"vllm:prompt_tokens_total{labels}": engine.total(_PROMPTED),
        f"vllm:num_preemptions_total{labels}": 0.0,
        f"vllm:num_requests_running{labels}": engine.total(_RUNNING),
        f"vllm:num_requests_waiting{labels}": 0.0,
        f"vllm:kv_cache_usage_perc{labels}": 0.25,
        f'vllm:request_success_total{{finished_reason="length",model_name="{MODEL}"}}': engine.total(_FINISHED),
    }
    lines |= {
        f'process_cpu_seconds_total{{process="{number}"}}': used_s for number, used_s in enumerate(engine.each(_CPU_S))
    }
    return "".join(f"{name} {value}\n" for name, value in lines.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step-ms", type=float, default=10.0)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    with streaming_server(Script(given.step_ms / 1000), given.processes) as url:
        print(url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
