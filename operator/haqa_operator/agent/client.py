"""Talks to a language model through litellm: time-outs that hold, retries with back-off, errors as sentences.

litellm is imported on the first request, since that takes seconds, and is kept from calling home.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import aiohttp

from haqa_operator.agent.completions import RawReply, read_reply
from haqa_operator.agent.dialects import DIALECTS, Dialect, Option, adapted, refused_option
from haqa_operator.agent.failures import CallFailure, Kind, Lengths, failure_of
from haqa_operator.agent.messages import Completion, LLMError, Message, estimated_tokens
from haqa_operator.agent.providers import endpoint_of, provider_of
from haqa_operator.agent.quoting import plain, redacted
from haqa_operator.agent.transport import Call, call
from haqa_operator.api.search_spec import AgentSpec

FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 30.0
LONGEST_RETRY_AFTER_S = 60.0
"""A server that asks for more than this is not waited for longer: the trial has a fallback."""

MOST_ADAPTIONS = 8
"""Times that a request is changed after a refusal: one for each thing that it has, and some for its length."""
SMALLEST_REPLY_TOKENS = 128
"""A reply of one candidate with a sentence on why."""

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

        What a server refuses by name is left out or renamed and the request sent again, at most once for each thing,
        and so it is without the schema where a refusal names nothing: the prompt describes the reply too, and the reply
        is validated in any case. A reply that has no room beside the prompt is asked for in fewer tokens.

        Raises:
            LLMError: a sentence on why there is no reply.
        """
        attempt = _Attempt(
            messages=tuple({"role": message.role, "content": message.content} for message in messages),
            schema=schema,
            max_tokens=min(self._spec.max_tokens, max_tokens or self._spec.max_tokens),
            dialect=DIALECTS.of(self._spec.api_base, self._spec.model),
        )
        started = self._clock()
        failures = adaptions = 0
        while True:
            begun = self._clock()
            outcome = self._attempt(attempt)
            now = self._clock()
            if isinstance(outcome, RawReply):
                DIALECTS.learn(self._spec.api_base, self._spec.model, attempt.dialect)
                return self._completion(outcome, attempt, now - begun)
            again = attempt.after(outcome, self._sent(attempt)) if adaptions < MOST_ADAPTIONS else None
            if again is not None:
                attempt = again
                adaptions += 1
                continue
            failures += 1
            if not outcome.retryable or failures > self._spec.retries:
                raise LLMError(self._sentence(outcome, failures), now - started)
            self._sleep(retry_delay_s(failures, outcome.retry_after_s, self._jitter()))

    def _attempt(self, attempt: _Attempt) -> RawReply | CallFailure:
        litellm = _litellm()
        timeout_s = self._spec.timeout.total_seconds()
        options = self._options(attempt, timeout_s)

        def request(session: aiohttp.ClientSession) -> Coroutine[Any, Any, Any]:
            provider = provider_of(self._spec.model)
            if provider is not None and provider.takes_client:
                options["client"] = _http_client(session)
            coroutine: Coroutine[Any, Any, Any] = litellm.acompletion(**options, shared_session=session)
            return coroutine

        state = Call(self._endpoint, self._api_key)
        try:
            return read_reply(call(request, timeout_s, state))
        except Exception as error:  # litellm's exceptions share no base class, and some are plain KeyErrors
            lengths = Lengths(attempt.limit, estimated_tokens(attempt.prompt_chars))
            return failure_of(error, state, timeout_s=timeout_s, lengths=lengths)

    def _sent(self, attempt: _Attempt) -> set[Option]:
        """What the request has beside model and messages."""
        sent = {Option.MAX_TOKENS}
        sent |= {Option.TEMPERATURE} if self._spec.temperature is not None else set()
        sent |= {Option.SCHEMA} if attempt.schema is not None else set()
        sent |= {Option.SEED} if attempt.schema is not None and self._seed is not None else set()
        sent |= {Option.SYSTEM} if any(message["role"] == "system" for message in attempt.messages) else set()
        return sent - attempt.dialect.without

    def _options(self, attempt: _Attempt, timeout_s: float) -> dict[str, Any]:
        sent = self._sent(attempt)
        options: dict[str, Any] = {
            "model": self._spec.model,
            "messages": list(attempt.messages if Option.SYSTEM in sent else without_system(attempt.messages)),
            "timeout": timeout_s,
            "num_retries": 0,
            "max_retries": 0,
            "drop_params": True,
        }
        if Option.TEMPERATURE in sent:
            options["temperature"] = self._spec.temperature
        if Option.MAX_TOKENS in sent:
            name = "max_completion_tokens" if attempt.dialect.completion_tokens else "max_tokens"
            options[name] = attempt.limit
        if self._endpoint is not None:
            options |= {"api_base": self._endpoint.base, "api_key": self._endpoint.key}
            # litellm has requests to OpenAI's newer API take another way out than the session.
            options["_skip_responses_api_bridge"] = True
        elif self._api_key is not None:
            options["api_key"] = self._api_key
        if Option.SCHEMA in sent and attempt.schema is not None:
            described = {"name": _SCHEMA_NAME, "schema": dict(attempt.schema), "strict": True}
            options["response_format"] = {"type": "json_schema", "json_schema": described}
        if Option.SEED in sent:
            options["seed"] = self._seed
        return options

    def _completion(self, reply: RawReply, attempt: _Attempt, latency_s: float) -> Completion:
        return Completion(
            text=redacted(reply.text, self._api_key) if self._api_key else reply.text,
            prompt_tokens=reply.prompt_tokens or estimated_tokens(attempt.prompt_chars),
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
class _Attempt:
    """A request as it is sent; what a server refuses of it changes the next one."""

    messages: tuple[dict[str, str], ...]
    schema: Mapping[str, Any] | None
    max_tokens: int
    dialect: Dialect

    @property
    def limit(self) -> int:
        """Tokens that the reply may have."""
        return min(self.max_tokens, self.dialect.most_tokens or self.max_tokens)

    @property
    def prompt_chars(self) -> int:
        return sum(len(message["content"]) for message in self.messages)

    def after(self, failure: CallFailure, sent: Collection[Option]) -> _Attempt | None:
        """What to send instead; None where nothing about the request would change."""
        if failure.room is not None:
            fits = SMALLEST_REPLY_TOKENS <= failure.room < self.limit and Option.MAX_TOKENS in sent
            return replace(self, max_tokens=failure.room) if fits else None
        if failure.kind not in (Kind.BAD_REQUEST, Kind.SERVER):
            return None
        option = refused_option(failure.said, failure.parameter, sent)
        if option is None and failure.kind is Kind.BAD_REQUEST and Option.SCHEMA in sent:
            # Of all that is sent, the schema is what most servers cannot do. The seed goes with it.
            return replace(self, dialect=self.dialect.lacking(Option.SCHEMA).lacking(Option.SEED))
        if option is None:
            return None
        return replace(self, dialect=adapted(self.dialect, option, failure.said, self.limit))


def without_system(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """With what the system says at the beginning of the first user's message, for chat templates without a system."""
    said = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    rest = [dict(message) for message in messages if message["role"] != "system"]
    if said and rest:
        rest[0]["content"] = f"{said}\n\n{rest[0]['content']}"
    return rest


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
