"""Closed-loop traffic: a fixed number of streams, each with one request in flight, sent and timed by guidellm.

guidellm's client (HTTP backend, request handler, timings) runs here in one asyncio loop, in the measuring process or in
several of its own (`shared_traffic`). Its scheduler is not used: it starts worker processes by "spawn" for every
benchmark, each of which imports the whole package (measured on 2 cores: 3.5 s for one worker, 7 s for four, for every
window), and hands every request to them one by one through a queue. A loop that replaces its own requests has no such
cost, and lets a window begin and end at the completion of a request while the load goes on (see `window.py`). The limit
of one loop is one core of Python (docs/figures.md); `clocks` says how near it is.

Prompts are token ids, so that their length is exact for every tokenizer; what this leaves out, the server's
tokenizing, is the same for every configuration. Answers are greedy and run to exactly the length asked for
(`ignore_eos`), as in vLLM's own benchmark.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import httpx
from guidellm.backends.openai.http import OpenAIHTTPBackend
from guidellm.backends.openai.request_handlers import OpenAIRequestHandlerFactory, TextCompletionsRequestHandler
from guidellm.schemas import (
    GenerationRequest,
    GenerationRequestArguments,
    GenerationResponse,
    RequestInfo,
    UsageMetrics,
)
from guidellm.schemas.backends import OpenAIHTTPBackendArgs

from haqa_contract import Workload
from haqa_contract.failures import cause_of
from haqa_runner.measure.aiohttp_transport import AiohttpTransport
from haqa_runner.measure.capacity import CpuClock
from haqa_runner.measure.endpoint import Endpoint
from haqa_runner.measure.placement import own_clock
from haqa_runner.measure.traffic import Arrivals, SentRequest

_FORMAT = "haqa/token-ids"
_PROMPT = "token_ids"
_MODEL = "model"
_ARRIVALS = "arrivals"
_PAUSE_AFTER_ERROR_S = 0.2
"""An engine that is gone refuses thousands of connections a second; nobody needs that many errors."""


@OpenAIRequestHandlerFactory.register(_FORMAT)
class TokenIdsHandler(TextCompletionsRequestHandler):  # type: ignore[misc]
    """/v1/completions with a prompt of token ids, noting when every token came.

    guidellm's own handler counts pieces of text, and a token that is half a character has none. vLLM says with every
    piece how many tokens there are so far (`continuous_usage_stats`); that is counted here.
    """

    def __init__(self) -> None:
        super().__init__()
        self._arrivals = Arrivals()
        self._tokens = 0

    def format(self, data: GenerationRequest, history: Any = None, **kwargs: Any) -> GenerationRequestArguments:
        return GenerationRequestArguments(
            stream=True,
            body={
                "model": data.columns[_MODEL][0],
                "prompt": data.columns[_PROMPT][0],
                "max_tokens": data.output_metrics.text_tokens,
                "ignore_eos": True,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            },
        )

    def add_streaming_line(self, line: str) -> int | None:
        """New tokens in this line of the stream; None at its end."""
        now = time.time()
        pieces = super().add_streaming_line(line)
        if pieces is None:
            return None
        said = (self.streaming_usage or {}).get("completion_tokens")
        new = pieces if said is None else int(said) - self._tokens
        if new > 0:
            self._arrivals.add(now, new)
            self._tokens += new
        return new

    def compile_streaming(
        self, request: GenerationRequest, arguments: GenerationRequestArguments
    ) -> GenerationResponse:
        response = super().compile_streaming(request, arguments)
        return response.model_copy(update={"response_metrics": {_ARRIVALS: self._arrivals}})


class LightBackend(OpenAIHTTPBackend):  # type: ignore[misc]
    """guidellm's backend over a lighter transport."""

    _async_client: httpx.AsyncClient

    async def process_startup(self) -> None:
        await super().process_startup()
        await self._async_client.aclose()
        self._async_client = httpx.AsyncClient(transport=AiohttpTransport(), timeout=self._args.timeout)


class ClosedLoop:
    """`streams` requests in flight, each replaced as soon as it is answered, for as long as the context lasts.

        async with ClosedLoop(endpoint, workload, prompts, streams=8) as traffic:
            await traffic.until(answered=8, failed=0)

    A `traffic.Traffic`. `prompts` are the token ids of one request after the other, and must not run out.
    """

    def __init__(self, endpoint: Endpoint, workload: Workload, prompts: Iterator[Sequence[int]], streams: int) -> None:
        self.sent: list[SentRequest] = []
        self._prompts = prompts
        self._models = itertools.cycle(endpoint.adapters or (endpoint.model,))
        self._output_tokens = workload.output_tokens
        self._streams = streams
        self._timeout_s = workload.request_timeout_s
        self._tasks: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()
        self._answered = self._failed = 0
        arguments = OpenAIHTTPBackendArgs(
            target=endpoint.base_url,
            model=endpoint.model,
            timeout=self._timeout_s,
            http2=False,
            validate_backend=False,
            follow_redirects=False,
        )
        # The two fields are checked against guidellm's own formats only when they are parsed.
        self._backend = LightBackend(
            arguments.model_copy(update={"request_format": _FORMAT, "api_routes": {_FORMAT: "v1/completions"}})
        )

    async def __aenter__(self) -> Self:
        await self._backend.process_startup()
        self._tasks = [asyncio.create_task(self._stream()) for _ in range(self._streams)]
        for stream in self._tasks:
            stream.add_done_callback(lambda _: self._news.set())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Cancels what is in flight; the engine notices the closed connections and drops those requests."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._backend.process_shutdown()

    @property
    def answered(self) -> int:
        return self._answered

    @property
    def failed(self) -> int:
        return self._failed

    @property
    def processes(self) -> int:
        return 1

    @property
    def clocks(self) -> tuple[CpuClock, ...]:
        """Of this process, whose loop has a thread of its own to wait for."""
        return (own_clock(),)

    async def until(self, answered: int, failed: int) -> None:
        """Waits until that many requests have been answered, or more than `failed` have failed."""
        while self._answered < answered and self._failed <= failed:
            self._news.clear()
            await self._news.wait()
            for stream in self._tasks:
                if stream.done():
                    stream.result()

    async def _stream(self) -> None:
        while True:
            request = await self._send(next(self._prompts))
            self.sent.append(request)
            self._answered += request.answered
            self._failed += request.error is not None
            self._news.set()
            if request.cancelled:
                return
            if request.error is not None:
                await asyncio.sleep(_PAUSE_AFTER_ERROR_S)

    async def _send(self, prompt: Sequence[int]) -> SentRequest:
        request = GenerationRequest(
            columns={_PROMPT: [list(prompt)], _MODEL: [next(self._models)]},
            output_metrics=UsageMetrics(text_tokens=self._output_tokens),
        )
        info = RequestInfo(request_id=request.request_id)
        response: GenerationResponse | None = None
        error: str | None = None
        cancelled = False
        try:
            async with asyncio.timeout(self._timeout_s):
                async for partial, _ in self._backend.resolve(request, info):
                    response = partial or response
        except asyncio.CancelledError:
            cancelled = True
        except TimeoutError:
            error = f"no complete answer within {self._timeout_s:g} s"
        except httpx.HTTPStatusError as refusal:
            error = f"HTTP {refusal.response.status_code} {refusal.response.reason_phrase}"
        except Exception as failure:
            error = cause_of(failure)
        sent = _sent(info, response, error, cancelled)
        if sent.answered and sent.output_tokens != self._output_tokens:
            return _sent(info, response, f"{sent.output_tokens} tokens instead of {self._output_tokens}", cancelled)
        return sent


def _sent(info: RequestInfo, response: GenerationResponse | None, error: str | None, cancelled: bool) -> SentRequest:
    now = time.time()
    metrics = (response.response_metrics or {}) if response is not None else {}
    prompt_tokens = response.input_metrics.text_tokens if response is not None else None
    return SentRequest(
        started=info.timings.request_start or now,
        ended=info.timings.request_end or now,
        arrivals=metrics.get(_ARRIVALS, ()),
        prompt_tokens=prompt_tokens or 0,
        error=error,
        cancelled=cancelled,
    )
