"""Talks to a language model through litellm: time-outs that hold, retries with back-off, errors as sentences.

litellm is imported on the first request, since that takes seconds, and is kept from calling home.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import aiohttp

from haqa_operator.agent.failures import CallFailure, Kind, failure_of
from haqa_operator.agent.messages import Completion, LLMError, Message, estimated_tokens
from haqa_operator.agent.providers import endpoint_of, provider_of
from haqa_operator.agent.quoting import plain, redacted
from haqa_operator.agent.transport import Call, call
from haqa_operator.api.search_spec import AgentSpec

FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 30.0
LONGEST_RETRY_AFTER_S = 60.0
"""A server that asks for more than this is not waited for longer: the trial has a fallback."""

_SCHEMA_NAME = "next_trial"


class LLMClient:
    """A `LanguageModel` behind litellm: any OpenAI-compatible endpoint or commercial provider."""

    def __init__(
        self,
        spec: AgentSpec,
        *,
        api_key: str | None = None,
        confined: bool = False,
        seed: int | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            api_key: Without one, a provider's own environment variable counts (OPENAI_API_KEY…), except where the
                request is confined or `apiBase` names another server: that one is sent no key.
            confined: Nothing but the key may be used to authenticate: for an operator, whose environment is not the
                tenant's.
            seed: For servers that sample reproducibly.
            jitter: A number in [0, 1) for the back-off.

        Raises:
            LLMError: the provider cannot be confined, or something to confine it to is missing.
        """
        self._endpoint = endpoint_of(spec, api_key, confined=confined)
        self._spec = spec
        self._api_key = api_key
        self._seed = seed
        self._sleep = sleep
        self._clock = clock
        self._jitter = jitter

    @property
    def name(self) -> str:
        return self._spec.model

    @property
    def max_tokens(self) -> int:
        return self._spec.max_tokens

    def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None, max_tokens: int | None = None
    ) -> Completion:
        """The model's reply. Waits at most `timeout` for each attempt, of which there are 1 + `retries`.

        A server that refuses the request with the schema is asked once more without: the prompt describes the reply
        too, and the reply is validated in any case.

        Raises:
            LLMError: a sentence on why there is no reply.
        """
        asked = [{"role": message.role, "content": message.content} for message in messages]
        limit = min(self._spec.max_tokens, max_tokens or self._spec.max_tokens)
        started = self._clock()
        failures = 0
        while True:
            begun = self._clock()
            outcome = self._attempt(asked, schema, limit)
            now = self._clock()
            if isinstance(outcome, _Reply):
                return self._completion(outcome, asked, now - begun)
            if outcome.kind is Kind.BAD_REQUEST and schema is not None:
                schema = None
                continue
            failures += 1
            if not outcome.retryable or failures > self._spec.retries:
                raise LLMError(self._sentence(outcome, failures), now - started)
            self._sleep(retry_delay_s(failures, outcome.retry_after_s, self._jitter()))

    def _attempt(
        self, messages: list[dict[str, str]], schema: Mapping[str, Any] | None, max_tokens: int
    ) -> _Reply | CallFailure:
        litellm = _litellm()
        timeout_s = self._spec.timeout.total_seconds()
        options = self._options(messages, schema, max_tokens, timeout_s)

        def request(session: aiohttp.ClientSession) -> Coroutine[Any, Any, Any]:
            provider = provider_of(self._spec.model)
            if provider is not None and provider.takes_client:
                options["client"] = _http_client(session)
            coroutine: Coroutine[Any, Any, Any] = litellm.acompletion(**options, shared_session=session)
            return coroutine

        state = Call(self._endpoint, self._api_key)
        try:
            return _Reply.of(call(request, timeout_s, state))
        except Exception as error:  # litellm's exceptions share no base class, and some are plain KeyErrors
            return failure_of(error, timeout_s=timeout_s, secret=self._api_key, answered=state.status, said=state.error)

    def _options(
        self, messages: list[dict[str, str]], schema: Mapping[str, Any] | None, max_tokens: int, timeout_s: float
    ) -> dict[str, Any]:
        options: dict[str, Any] = {
            "model": self._spec.model,
            "messages": messages,
            "temperature": self._spec.temperature,
            "max_tokens": max_tokens,
            "timeout": timeout_s,
            "num_retries": 0,
            "max_retries": 0,
            "drop_params": True,
        }
        if self._endpoint is not None:
            options |= {"api_base": self._endpoint.base, "api_key": self._endpoint.key}
            # litellm has requests to OpenAI's newer API take another way out than the session.
            options["_skip_responses_api_bridge"] = True
        elif self._api_key is not None:
            options["api_key"] = self._api_key
        if schema is not None:
            described = {"name": _SCHEMA_NAME, "schema": dict(schema), "strict": True}
            options["response_format"] = {"type": "json_schema", "json_schema": described}
            if self._seed is not None:
                options["seed"] = self._seed
        return options

    def _completion(self, reply: _Reply, asked: list[dict[str, str]], latency_s: float) -> Completion:
        prompt_chars = sum(len(message["content"]) for message in asked)
        return Completion(
            text=redacted(reply.text, self._api_key) if self._api_key else reply.text,
            prompt_tokens=reply.prompt_tokens or estimated_tokens(prompt_chars),
            completion_tokens=reply.completion_tokens or estimated_tokens(len(reply.text)),
            latency_s=latency_s,
            model=plain(reply.model or self._spec.model, 120),
            truncated=reply.truncated,
        )

    def _sentence(self, failure: CallFailure, attempts: int) -> str:
        where = f" at {plain(self._spec.api_base, 300)}" if self._spec.api_base else ""
        tried = f" ({attempts} attempts)" if attempts > 1 else ""
        return f"{self._spec.model}{where}: {failure.sentence}{tried}"


@dataclass(frozen=True)
class _Reply:
    """The parts of a chat completion that count, read without trust in its shape."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    model: str
    truncated: bool

    @classmethod
    def of(cls, response: Any) -> _Reply:
        """Reads litellm's response; reasoning that the server keeps apart counts only where it is all there is.

        Raises:
            ValueError: where there is no choice in it.
        """
        choices = getattr(response, "choices", None)
        if not choices:
            raise ValueError("the reply has no choices")
        message = choices[0].message
        text = message.content or getattr(message, "reasoning_content", None) or ""
        usage = getattr(response, "usage", None)
        return cls(
            text=text if isinstance(text, str) else str(text),
            prompt_tokens=_count(getattr(usage, "prompt_tokens", 0)),
            completion_tokens=_count(getattr(usage, "completion_tokens", 0)),
            model=str(getattr(response, "model", "") or ""),
            truncated=choices[0].finish_reason == "length",
        )


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 10**9 else 0


def retry_delay_s(failures: int, retry_after_s: float | None, jitter: float) -> float:
    """Seconds to wait after the n-th failure: what the server asks for, else doubling, both capped.

    Between half and all of the back-off, by `jitter` in [0, 1), so that many tunings do not come back at once.
    """
    backoff = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (failures - 1)) * (0.5 + jitter / 2)
    if retry_after_s is None:
        return float(backoff)
    return float(min(LONGEST_RETRY_AFTER_S, max(retry_after_s, backoff)))


@cache
def _litellm() -> Any:
    """litellm, without its price list and header list from the web and its advertisements on errors."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
    # Either would have it take a way past the session, and with it past what `transport` holds.
    os.environ |= {"DISABLE_AIOHTTP_TRANSPORT": "False", "LITELLM_HTTP2": "False"}
    import litellm

    litellm.suppress_debug_info = True
    logging.getLogger("LiteLLM").setLevel(logging.ERROR)
    return litellm


@cache
def _http_client(session: aiohttp.ClientSession) -> Any:
    """For the providers that litellm gives no session."""
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

    return AsyncHTTPHandler(shared_session=session, follow_redirects=False)
