"""The client through the real litellm, against a server that misbehaves."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import llm_server
from tests.fakes.llm_server import Behaviour, LLMServer

from haqa_operator.agent.client import (
    LONGEST_BACKOFF_S,
    LONGEST_RETRY_AFTER_S,
    LLMClient,
    retry_delay_s,
)
from haqa_operator.agent.messages import LLMError, Message
from haqa_operator.agent.quoting import redacted
from haqa_operator.api.search_spec import AgentSpec

KEY = "sk-very-secret-0123456789"
MESSAGES = (Message("system", "static"), Message("user", "dynamic"))
SCHEMA = {"type": "object", "properties": {"candidate": {"type": "integer"}}, "required": ["candidate"]}
REPLY = '{"candidate": 0}'
PROVIDERS = ("openai", "hosted_vllm")
"""litellm serves these two by different code: OpenAI's SDK, and its own HTTP handler."""


@pytest.fixture(scope="module", autouse=True)
def _litellm_is_imported() -> None:
    """The first request of a process imports for seconds; no time-out below is about that."""
    for provider in PROVIDERS:
        with LLMServer() as server:
            client(server, provider=provider, timeout_s=60).complete(MESSAGES)


@pytest.fixture
def serve() -> Iterator[Callable[..., LLMServer]]:
    servers: list[LLMServer] = []

    def start(*script: Behaviour, **options: Any) -> LLMServer:
        servers.append(LLMServer(brain=lambda request: REPLY, script=script, **options).__enter__())
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def client(
    server: LLMServer | str,
    *,
    provider: str = "hosted_vllm",
    timeout_s: float = 5,
    retries: int = 0,
    key: str | None = KEY,
    waits: list[float] | None = None,
    **spec: Any,
) -> LLMClient:
    url = server if isinstance(server, str) else server.url
    agent = AgentSpec(
        model=f"{provider}/rule-of-thumb-1",
        api_base=url,
        timeout=timedelta(seconds=timeout_s),
        retries=retries,
        **spec,
    )
    return LLMClient(agent, api_key=key, seed=7, sleep=(waits if waits is not None else []).append, jitter=lambda: 1.0)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_reply_comes_with_its_tokens_model_and_latency(serve: Callable[..., LLMServer], provider: str) -> None:
    server = serve()
    completion = client(server, provider=provider).complete(MESSAGES, SCHEMA)
    assert completion.text == REPLY
    assert (completion.prompt_tokens, completion.completion_tokens) == (1000, 50)
    assert completion.model.endswith("rule-of-thumb-1")
    assert 0 < completion.latency_s < 5
    assert not completion.truncated


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_request_holds_schema_limits_and_seed_and_the_key_only_in_its_header(
    serve: Callable[..., LLMServer], provider: str
) -> None:
    server = serve()
    client(server, provider=provider, temperature=0.2, max_tokens=900).complete(MESSAGES, SCHEMA, max_tokens=500)
    (request,) = server.requests
    assert request.schema == SCHEMA
    assert request.body["response_format"]["json_schema"]["strict"] is True
    assert (request.body["max_tokens"], request.body["temperature"], request.body["seed"]) == (500, 0.2, 7)
    assert [message["role"] for message in request.messages] == ["system", "user"]
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in json.dumps(request.body)


def test_a_server_of_ones_own_is_not_sent_the_key_of_a_provider(
    serve: Callable[..., LLMServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-belongs-to-somebody-else")
    server = serve()
    client(server, provider="openai", key=None).complete(MESSAGES)
    assert "belongs" not in str(server.requests[0].headers)


def test_reasoning_kept_apart_counts_only_where_it_is_all_there_is(serve: Callable[..., LLMServer]) -> None:
    server = serve(llm_server.text(REPLY, reasoning="hm"), llm_server.text("", reasoning='{"candidate": 1}'))
    assert client(server).complete(MESSAGES).text == REPLY
    assert client(server).complete(MESSAGES).text == '{"candidate": 1}'


def test_a_reply_that_hit_the_token_limit_is_marked(serve: Callable[..., LLMServer]) -> None:
    server = serve(llm_server.text('{"reasoning": "and', finish_reason="length"))
    assert client(server).complete(MESSAGES).truncated


def test_a_server_that_does_not_count_is_counted_for(serve: Callable[..., LLMServer]) -> None:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": REPLY}}
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    completion = client(serve(llm_server.raw(json.dumps(body).encode()))).complete(MESSAGES)
    assert completion.prompt_tokens > 0
    assert completion.completion_tokens > 0


# --- trying again -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_busy_server_is_asked_again_when_it_says(serve: Callable[..., LLMServer], provider: str) -> None:
    waits: list[float] = []
    server = serve(llm_server.status(429, retry_after=7))
    assert client(server, provider=provider, retries=2, waits=waits).complete(MESSAGES).text == REPLY
    assert waits == [7]


@pytest.mark.parametrize("behaviour", [llm_server.status(500), llm_server.status(503), llm_server.reset()])
def test_a_failing_server_is_asked_again_with_back_off(serve: Callable[..., LLMServer], behaviour: Behaviour) -> None:
    waits: list[float] = []
    server = serve(behaviour, behaviour)
    assert client(server, retries=2, waits=waits).complete(MESSAGES).text == REPLY
    assert waits == [1, 2]


def test_retries_are_bounded_and_counted_in_the_sentence(serve: Callable[..., LLMServer]) -> None:
    server = serve(*[llm_server.status(500)] * 5)
    with pytest.raises(LLMError, match=r"failed \(HTTP 500: .*\(3 attempts\)$"):
        client(server, retries=2).complete(MESSAGES)
    assert len(server.requests) == 3


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (400, "refused the request (HTTP 400:"),
        (401, "the API key is missing or refused ("),
        (403, "the API key is missing or refused ("),
        (404, "does not know it (HTTP 404:"),
    ],
)
def test_what_is_the_clients_fault_is_not_tried_again(
    serve: Callable[..., LLMServer], provider: str, code: int, sentence: str
) -> None:
    server = serve(*[llm_server.status(code, message="no such thing")] * 3)
    with pytest.raises(LLMError) as caught:
        client(server, provider=provider, retries=2).complete(MESSAGES)
    assert sentence in str(caught.value)
    assert '"no such thing")' in str(caught.value)
    assert len(server.requests) == 1


def test_a_used_up_quota_is_not_waited_for(serve: Callable[..., LLMServer]) -> None:
    server = serve(llm_server.status(429, message="You exceeded your quota: insufficient_quota"))
    with pytest.raises(LLMError, match="quota is used up"):
        client(server, retries=2).complete(MESSAGES)
    assert len(server.requests) == 1


def test_a_prompt_longer_than_the_context_says_so_and_is_not_sent_again(serve: Callable[..., LLMServer]) -> None:
    message = "This model's maximum context length is 2048 tokens. However, you requested 9000 tokens"
    server = serve(llm_server.status(400, message=message))
    with pytest.raises(LLMError, match="prompt is longer than the model can read"):
        client(server, retries=2).complete(MESSAGES, SCHEMA)
    assert len(server.requests) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_server_without_structured_output_is_asked_without_the_schema(
    serve: Callable[..., LLMServer], provider: str
) -> None:
    server = serve(llm_server.refuses_schema(), llm_server.refuses_schema())
    assert client(server, provider=provider).complete(MESSAGES, SCHEMA).text == REPLY
    assert ["response_format" in request.body for request in server.requests] == [True, False]


@given(st.integers(1, 30), st.none() | st.floats(0, 1e6), st.floats(0, 0.999))
def test_waiting_grows_is_capped_and_honours_the_server(failures: int, asked: float | None, jitter: float) -> None:
    delay = retry_delay_s(failures, asked, jitter)
    assert 0 < delay <= max(LONGEST_BACKOFF_S, LONGEST_RETRY_AFTER_S)
    if asked is None:
        assert min(LONGEST_BACKOFF_S, 2.0 ** (failures - 1)) / 2 <= delay <= LONGEST_BACKOFF_S
    else:
        assert delay >= min(asked, LONGEST_RETRY_AFTER_S)


# --- bad servers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("behaviour", [llm_server.hang(), llm_server.drip()], ids=["hangs", "drips"])
def test_a_time_out_holds_whatever_the_server_does(
    serve: Callable[..., LLMServer], provider: str, behaviour: Behaviour
) -> None:
    server = serve(behaviour)
    begun = time.monotonic()
    with pytest.raises(LLMError, match=r"no complete answer within 0\.4 s"):
        client(server, provider=provider, timeout_s=0.4).complete(MESSAGES)
    assert time.monotonic() - begun < 2
    assert client(server, provider=provider).complete(MESSAGES).text == REPLY


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("behaviour", "sentence"),
    [
        (llm_server.huge(), "is larger than 4 MiB"),
        (llm_server.raw(gzip.compress(b" " * 10**8), Content_Encoding="gzip"), "is compressed (gzip)"),
        (llm_server.raw(b"<html>hello</html>", "text/html"), "gave no chat completion"),
        (llm_server.raw(b'{"id": '), "gave no chat completion"),
        (llm_server.raw(b"[1, 2]"), "gave no chat completion"),
        (llm_server.raw(b'{"object": "error"}'), "gave no chat completion"),
        (llm_server.empty_choices(), "gave no chat completion"),
        (llm_server.reset(), "cannot be reached"),
    ],
    ids=["huge", "gzip-bomb", "html", "half-json", "list", "other-object", "empty-choices", "reset"],
)
def test_nonsense_is_an_error_in_one_sentence(
    serve: Callable[..., LLMServer], provider: str, behaviour: Behaviour, sentence: str
) -> None:
    server = serve(behaviour)
    with pytest.raises(LLMError) as caught:
        client(server, provider=provider).complete(MESSAGES)
    text = str(caught.value)
    assert sentence in text
    assert text.startswith(f"{provider}/rule-of-thumb-1 at {server.url}: ")
    assert "Traceback" not in text
    assert len(text) < 500


def test_a_server_that_is_not_there_cannot_be_reached() -> None:
    with LLMServer() as gone:
        url = gone.url
    with pytest.raises(LLMError, match=r"cannot be reached .*check search\.agent\.apiBase"):
        client(url).complete(MESSAGES)


def test_a_provider_without_a_key_is_told_apart_from_a_broken_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(LLMError, match="the API key is missing or refused"):
        LLMClient(AgentSpec(model="openai/gpt-5", retries=0)).complete(MESSAGES)


def test_a_model_name_without_a_provider_is_an_error_in_one_sentence() -> None:
    with pytest.raises(LLMError, match=r"^just-a-name: .*LLM Provider"):
        LLMClient(AgentSpec(model="just-a-name", retries=0)).complete(MESSAGES)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_server_that_repeats_the_key_does_not_put_it_into_the_record(
    serve: Callable[..., LLMServer], provider: str
) -> None:
    server = serve(llm_server.repeats_the_key(401), llm_server.around(f"your key is {KEY} ", ""))
    with pytest.raises(LLMError) as caught:
        client(server, provider=provider).complete(MESSAGES)
    assert KEY not in str(caught.value)
    assert "(key removed)" in str(caught.value)
    assert KEY not in client(server, provider=provider).complete(MESSAGES).text


@pytest.mark.parametrize("text", ["Bearer abcd1234", "key sk-proj-abc123456", "hf_abcdefghijkl", f"x{KEY}y"])
def test_what_looks_like_a_credential_is_removed(text: str) -> None:
    assert "(key removed)" in redacted(text, KEY)
