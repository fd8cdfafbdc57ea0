"""A server that speaks as much of vLLM's HTTP interface as measuring uses, and misbehaves on demand.

It holds no model: every answer is the same made-up tokens at a fixed pace, and its counters count them truly unless
told to lie.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "tiny"


@dataclass
class Behaviour:
    """What the server does; may be changed while it runs.

    Attributes:
        model: Name it serves.
        token_s: Time it takes for one output token.
        answer: Token ids of the nth answer (from 0) to a plain completion.
        logprob: Of every token in answers, and of the token that stood there in prompts.
        refuse: Status and message instead of the nth completion's answer, or None.
        counted: Factor between tokens sent and tokens counted.
        started: process_start_time_seconds of the nth look at /metrics.
        exported: Whether /metrics has vLLM's counters at all.
        max_model_len: As /v1/models says.
    """

    model: str = MODEL
    token_s: float = 0.002
    answer: Callable[[int], list[int]] = lambda n: [n + 5, 6, 7, 8]
    logprob: float = -1.5
    refuse: Callable[[int], tuple[int, str] | None] = lambda n: None
    counted: float = 1.0
    started: Callable[[int], float] = lambda n: 1000.0
    exported: bool = True
    max_model_len: int = 1024


@dataclass
class State:
    """What the server has seen."""

    completions: int = 0
    scrapes: int = 0
    generated: float = 0
    prompted: float = 0
    finished: int = 0
    running: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class FakeVllm:
    base_url: str
    behaviour: Behaviour
    state: State


@contextmanager
def fake_vllm(behaviour: Behaviour | None = None, port: int = 0) -> Iterator[FakeVllm]:
    """Serves inside the block, on a free port unless one is given."""
    script, state = behaviour or Behaviour(), State()
    handler = type("Handler", (_Handler,), {"script": script, "state": state})
    server = _Server(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield FakeVllm(f"http://127.0.0.1:{server.server_address[1]}", script, state)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no event."""


class _Handler(BaseHTTPRequestHandler):
    script: Behaviour
    state: State
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        match self.path:
            case "/health":
                self._say(200, b"")
            case "/version":
                self._say(200, b'{"version": "0.0.fake"}')
            case "/v1/models":
                entry = {"id": self.script.model, "max_model_len": self.script.max_model_len}
                self._say(200, json.dumps({"data": [entry]}).encode())
            case "/metrics":
                self._say(200, self._metrics().encode())
            case _:
                self._say(404, b"{}")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.state.lock:
            number = self.state.completions
            self.state.completions += 1
            self.state.requests.append(body)
        refusal = self.script.refuse(number)
        if refusal is not None:
            self._say(refusal[0], json.dumps({"error": {"message": refusal[1]}}).encode())
        elif body.get("stream"):
            self._stream(body)
        elif body.get("prompt_logprobs") is not None:
            self._say(200, json.dumps({"choices": [{"text": "", "prompt_logprobs": self._scores(body)}]}).encode())
        else:
            tokens = self.script.answer(number)
            logprobs = {
                "tokens": [f"token_id:{token}" for token in tokens],
                "token_logprobs": [self.script.logprob] * len(tokens),
            }
            self._say(200, json.dumps({"choices": [{"text": "x" * len(tokens), "logprobs": logprobs}]}).encode())

    def _scores(self, body: dict[str, Any]) -> list[Any]:
        entries: list[Any] = [None]
        for token in body["prompt"][1:]:
            entry = {str(token): {"logprob": self.script.logprob, "rank": 2}}
            entries.append({"3": {"logprob": -0.5, "rank": 1}, **entry})
        return entries

    def _stream(self, body: dict[str, Any]) -> None:
        state = self.state
        with state.lock:
            state.running += 1
            state.prompted += len(body["prompt"]) * self.script.counted
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for made in range(1, body["max_tokens"] + 1):
                time.sleep(self.script.token_s)
                with state.lock:
                    state.generated += self.script.counted
                usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": made}
                self._chunk({"choices": [{"text": "" if made % 3 else "x"}], "usage": usage})
            self._chunk(None)
            self.wfile.write(b"0\r\n\r\n")
            with state.lock:
                state.finished += 1
        except OSError:
            self.close_connection = True
        finally:
            with state.lock:
                state.running -= 1

    def _chunk(self, piece: dict[str, Any] | None) -> None:
        line = f"data: {'[DONE]' if piece is None else json.dumps(piece)}\n\n".encode()
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.flush()

    def _metrics(self) -> str:
        state = self.state
        with state.lock:
            started = self.script.started(state.scrapes)
            state.scrapes += 1
            labels = f'{{engine="0",model_name="{self.script.model}"}}'
            lines = [f"process_start_time_seconds {started}"]
            if self.script.exported:
                lines += [
                    f"vllm:generation_tokens_total{labels} {state.generated}",
                    f"vllm:prompt_tokens_total{labels} {state.prompted}",
                    f"vllm:num_preemptions_total{labels} 0",
                    f"vllm:num_requests_running{labels} {state.running}",
                    f"vllm:num_requests_waiting{labels} 0",
                    f"vllm:kv_cache_usage_perc{labels} 0.25",
                    f'vllm:request_success_total{{finished_reason="length",model_name="{self.script.model}"}} '
                    f"{state.finished}",
                ]
        return "\n".join(lines) + "\n"

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
