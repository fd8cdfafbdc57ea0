"""Windows that are really measured: requests to the stub engine, and its counters at both edges of a window."""

import json
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from typing import Any

WINDOW_S = 4.0
_LIMIT_S = 30.0


@dataclass
class Streams:
    """As many requests in flight as there are streams, one after the other in each, until they are stopped."""

    url: str
    streams: int
    request: dict[str, Any]
    sent: list[tuple[float, float]] = field(default_factory=list)
    """(began, ended) of every answered request"""
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self._threads = [threading.Thread(target=self._send) for _ in range(self.streams)]
        for number, thread in enumerate(self._threads):
            thread.start()
            # Out of step, as requests of real streams are.
            time.sleep(self.request["seconds"] / self.streams if number + 1 < self.streams else 0)

    def stop(self) -> None:
        """Lets the requests in flight end, so that their share of a window is known."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def tokens_between(self, started: float, ended: float) -> float:
        shares = ((min(end, ended) - max(began, started)) / (end - began) for began, end in self.sent)
        return float(self.request["max_tokens"] * sum(share for share in shares if share > 0))

    def _send(self) -> None:
        while not self._over.is_set():
            began = time.time()
            post(f"{self.url}/v1/completions", self.request)
            self.sent.append((began, time.time()))


def post(url: str, body: dict[str, Any]) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=_LIMIT_S) as answer:
        answer.read()


def counters(url: str) -> tuple[float, dict[str, float]]:
    """The engine's counters by name, summed over labels, and when they were read."""
    asked = time.time()
    with urllib.request.urlopen(f"{url}/metrics", timeout=_LIMIT_S) as answer:
        text = answer.read().decode()
    at = (asked + time.time()) / 2
    found: dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        name = name.partition("{")[0]
        found[name] = found.get(name, 0.0) + float(value)
    return at, found


def windows(
    url: str, level: int, repeats: int, request: dict[str, Any], seconds: float, margin_s: float, restart: bool
) -> list[dict[str, Any]]:
    """Windows of one level, one after the other under the same streams.

    `margin_s` of traffic before the first and after the last, so that scrapes on both sides of an edge see the same
    traffic. With `restart` the engine is restarted in the middle of the first.
    """
    streams = Streams(url, level, request)
    streams.start()
    time.sleep(margin_s)
    seen = []
    for repeat in range(repeats):
        started, before = counters(url)
        time.sleep(seconds / 2)
        if restart and repeat == 0:
            post(f"{url}/restart", {})
        time.sleep(max(0.0, started + seconds - time.time()))
        seen.append((repeat, started, before, *counters(url)))
    time.sleep(margin_s)
    streams.stop()
    return [figures(streams, *one) | {"concurrency": level} for one in seen]


def figures(
    streams: Streams, repeat: int, started: float, before: dict[str, float], ended: float, after: dict[str, float]
) -> dict[str, Any]:
    took = ended - started
    client = streams.tokens_between(started, ended) / took
    rate = {name: (value - before.get(name, 0.0)) / took for name, value in after.items()}
    if after["process_start_time_seconds"] != before["process_start_time_seconds"]:
        # The real runner gives up here; this one goes on, to see what is made of it elsewhere.
        wanted = streams.request
        rate["vllm:generation_tokens_total"] = client
        rate["vllm:prompt_tokens_total"] = client * wanted["prompt_tokens"] / wanted["max_tokens"]
        rate["vllm:request_success_total"] = client / wanted["max_tokens"]
    tokens = rate["vllm:generation_tokens_total"]
    return {
        "repeat": repeat,
        "started": started,
        "ended": ended,
        "completed": sum(started < end <= ended for _, end in streams.sent),
        "failed": 0,
        "output_tokens_per_s": tokens,
        "total_tokens_per_s": tokens + rate["vllm:prompt_tokens_total"],
        "requests_per_s": rate["vllm:request_success_total"],
        "client_output_tokens_per_s": client,
        "disagreement": abs(tokens - client) / tokens,
    }
