"""In place of vLLM in a trial's pod: /health, /v1/models, completions at the pace that is asked for, and /metrics.

Its counters have vLLM's names and move as vLLM's do, token by token while an answer is being made. Standard library
only: it runs in an image that has nothing but Python.
"""

import http.server
import json
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import behaviour

MISBEHAVIOUR = Path("/haqa/engine-misbehaviour")
"""Left by the stub runner, since an engine does not know its scheme; a winner's pod has no such file."""

arguments = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[1:])
MODEL = arguments["served-model-name"]


@dataclass(frozen=True)
class Answer:
    """One that is being made: `tokens` of them, evenly."""

    began: float
    prompt: int
    tokens: int
    seconds: float

    def made(self, now: float) -> int:
        return int(self.tokens * min(1.0, (now - self.began) / self.seconds))


@dataclass
class Counters:
    """What /metrics shows. Tokens are counted when somebody looks, so that counting costs nothing."""

    started: float = field(default_factory=time.time)
    prompt: int = 0
    tokens: int = 0
    finished: int = 0
    gaps: float = 0.0
    """Of all finished answers together, in seconds: between tokens, up to the first one, and from end to end."""
    first: float = 0.0
    whole: float = 0.0
    active: list[Answer] = field(default_factory=list)

    def begin(self, answer: Answer) -> None:
        self.prompt += answer.prompt
        self.active.append(answer)

    def end(self, answer: Answer) -> None:
        if answer not in self.active:  # the engine was restarted meanwhile
            return
        self.active.remove(answer)
        self.tokens += answer.tokens
        self.finished += 1
        took = time.time() - answer.began
        self.first += took / answer.tokens
        self.gaps += took * (answer.tokens - 1) / answer.tokens
        self.whole += took

    def text(self) -> str:
        now = time.time()
        engine = f'{{engine="0",model_name="{MODEL}"}}'
        values = {
            "process_start_time_seconds": self.started,
            f"vllm:prompt_tokens_total{engine}": self.prompt,
            f"vllm:generation_tokens_total{engine}": self.tokens + sum(answer.made(now) for answer in self.active),
            f"vllm:num_preemptions_total{engine}": 0,
            f"vllm:num_requests_running{engine}": len(self.active),
            f"vllm:num_requests_waiting{engine}": 0,
        }
        for reason, count in (("stop", 0), ("length", self.finished), ("abort", 0)):
            labels = f'{{engine="0",finished_reason="{reason}",model_name="{MODEL}"}}'
            values[f"vllm:request_success_total{labels}"] = count
        gaps = self.tokens - self.finished
        for name, total, count in (
            ("time_to_first_token", self.first, self.finished),
            ("inter_token_latency", self.gaps, gaps),
            ("e2e_request_latency", self.whole, self.finished),
            ("request_queue_time", 0.0, self.finished),
        ):
            values[f"vllm:{name}_seconds_sum{engine}"] = total
            values[f"vllm:{name}_seconds_count{engine}"] = count
        return "".join(f"{name} {value}\n" for name, value in values.items())


lock = threading.Lock()
counters = Counters()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/metrics":
            with lock:
                text = counters.text()
            self.say(text, "text/plain; version=0.0.4; charset=utf-8")
        else:
            self.say(json.dumps({"object": "list", "data": [{"id": MODEL}]}))

    def do_POST(self) -> None:
        """A completion whose length in time the stub runner asks for; or, at /restart, counters from zero."""
        global counters
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/restart":
            with lock:
                counters = Counters()
            self.say("{}")
            return
        answer = Answer(time.time(), asked["prompt_tokens"], asked["max_tokens"], asked["seconds"])
        with lock:
            counters.begin(answer)
        time.sleep(answer.seconds)
        with lock:
            counters.end(answer)
        self.say(json.dumps({"usage": {"completion_tokens": answer.tokens}}))

    def say(self, text: str, kind: str = "application/json") -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Probes are no news."""


def misbehave() -> None:
    what, _, log = (MISBEHAVIOUR.read_text() if MISBEHAVIOUR.exists() else "").partition(":")
    match what:
        case "oom":
            behaviour.run_out_of_memory()
        case "silent":
            behaviour.hang()
        case "log":
            behaviour.end_like(log)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if MISBEHAVIOUR.exists():
    behaviour.hold("engine")
misbehave()
server = http.server.ThreadingHTTPServer((arguments["host"], int(arguments["port"])), Handler)
server.daemon_threads = True
server.serve_forever()
