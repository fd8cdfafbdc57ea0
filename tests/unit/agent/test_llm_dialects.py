"""Endpoints with ideas of their own, asked by the real client: what they refuse is left out, and asked once for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.utils import formatdate
from itertools import count
from typing import Any

import pytest
from tests.fakes import llm_server
from tests.fakes.llm_server import Behaviour, ChatRequest, Handler, LLMServer

from haqa_operator.agent.client import MOST_ADAPTIONS, LLMClient, without_system
from haqa_operator.agent.dialects import Dialect, Dialects
from haqa_operator.agent.messages import LLMError, Message
from haqa_operator.api.search_spec import AgentSpec

MESSAGES = (Message("system", "static"), Message("user", "dynamic"))
SCHEMA = {"type": "object", "properties": {"candidate": {"type": "integer"}}, "required": ["candidate"]}
REPLY = '{"candidate": 0}'
PROVIDERS = ("openai", "hosted_vllm")
_MODELS = count()


@pytest.fixture
def serve() -> Iterator[Callable[..., LLMServer]]:
    servers: list[LLMServer] = []

    def start(*script: Behaviour) -> LLMServer:
        servers.append(LLMServer(brain=lambda request: REPLY, script=script).__enter__())
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def spec(server: LLMServer, provider: str = "hosted_vllm", **fields: Any) -> AgentSpec:
    values: dict[str, Any] = {"temperature": 0.2, "retries": 0, "timeout": timedelta(seconds=20), **fields}
    return AgentSpec(model=f"{provider}/odd-{next(_MODELS)}", api_base=server.url, **values)


def client(agent: AgentSpec, waits: list[float] | None = None) -> LLMClient:
    return LLMClient(
        agent,
        api_key="sk-of-a-test-0123456789",
        seed=7,
        sleep=(waits if waits is not None else []).append,
        jitter=lambda: 1.0,
    )


def always(option: str, message: str, code: int = 400, **error: Any) -> list[Behaviour]:
    return [llm_server.refuses(option, message, code, **error)] * 10


TEMPERATURE = "temperature"
REFUSALS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "R16": (TEMPERATURE, "Unsupported parameter: 'temperature' is not supported with this model.", {}),
    "only the default": (
        TEMPERATURE,
        "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) is supported.",
        {"param": TEMPERATURE},
    ),
    "Anthropic's": (TEMPERATURE, "`temperature` may only be set to 1 when thinking is enabled.", {}),
    "TGI's": (TEMPERATURE, "Input validation error: `temperature` must be strictly positive", {"code": 422}),
    "named apart alone": (TEMPERATURE, "Invalid request.", {"param": TEMPERATURE}),
    "Groq's seed": ("seed", "property 'seed' is unsupported, did you mean 'send'?", {}),
    "Azure's seed": ("seed", "Unrecognized request argument supplied: seed", {}),
    "Gemini's seed": ("seed", 'Invalid JSON payload received. Unknown name "seed": Cannot find field.', {}),
    "DeepSeek's format": ("response_format", "This response_format type is unavailable now", {}),
    "a schema": ("response_format", "Structured outputs are not supported by this model", {}),
    "a grammar": ("response_format", "The request contains unsupported json schema features", {}),
    "llama.cpp's grammar": ("response_format", "Failed to parse grammar", {"code": 500}),
    "OpenRouter's": (
        "response_format",
        "No endpoints found that can handle the requested parameters.",
        {"code": 404},
    ),
    "nothing named": ("response_format", "Bad request", {}),
}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(("option", "message", "error"), REFUSALS.values(), ids=REFUSALS.keys())
def test_what_is_refused_by_name_is_left_out_from_then_on(
    serve: Callable[..., LLMServer], provider: str, option: str, message: str, error: dict[str, Any]
) -> None:
    server = serve(*always(option, message, **error))
    agent = spec(server, provider)
    assert client(agent).complete(MESSAGES, SCHEMA).text == REPLY
    assert client(agent).complete(MESSAGES, SCHEMA).text == REPLY
    assert [option in request.body for request in server.requests] == [True, False, False]
    kept = {"temperature", "seed", "response_format", "max_tokens"} - {option}
    if "named" in message or message == "Bad request":
        kept -= {"seed"}
    assert kept <= server.requests[-1].body.keys()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_limit_of_another_name_is_renamed(serve: Callable[..., LLMServer], provider: str) -> None:
    message = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    )
    server = serve(*always("max_tokens", message, param="max_tokens"))
    agent = spec(server, provider, max_tokens=900)
    client(agent).complete(MESSAGES)
    client(agent).complete(MESSAGES, max_tokens=500)
    assert [request.body.get("max_tokens") for request in server.requests] == [900, None, None]
    assert [request.body.get("max_completion_tokens") for request in server.requests] == [None, 900, 500]


def test_a_limit_that_is_refused_by_both_names_is_left_out(serve: Callable[..., LLMServer]) -> None:
    server = serve(
        llm_server.refuses("max_tokens", "unknown field max_tokens"),
        llm_server.refuses("max_completion_tokens", "unknown field max_completion_tokens"),
    )
    assert client(spec(server)).complete(MESSAGES).text == REPLY
    assert not {"max_tokens", "max_completion_tokens"} & server.requests[-1].body.keys()


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens is too large: 2048. This model supports at most 1024 completion tokens, whereas you provided 2048.",
        "Invalid max_tokens value, the valid range of max_tokens is [1, 1024]",
        "max_tokens: 2048 > 1024, which is the maximum allowed number of output tokens for claude-3-5-haiku",
    ],
)
def test_a_reply_that_is_longer_than_a_server_writes_is_asked_for_in_fewer_tokens_from_then_on(
    serve: Callable[..., LLMServer], message: str
) -> None:
    server = serve(llm_server.status(400, message=message))
    agent = spec(server, max_tokens=2048)
    client(agent).complete(MESSAGES)
    client(agent).complete(MESSAGES)
    assert [request.body["max_tokens"] for request in server.requests] == [2048, 1024, 1024]


@pytest.mark.parametrize(
    "message",
    [
        "System role not supported",
        "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
        "Developer instruction is not enabled: system instruction",
    ],
)
def test_a_chat_template_without_a_system_has_it_before_the_first_question(
    serve: Callable[..., LLMServer], message: str
) -> None:
    def behave(handler: Handler, request: ChatRequest) -> None:
        system = any(one["role"] == "system" for one in request.messages)
        (llm_server.status(400, message=message) if system else llm_server.ok())(handler, request)

    server = serve(*[behave] * 5)
    agent = spec(server)
    for _ in range(2):
        client(agent).complete(MESSAGES)
    assert [len(request.messages) for request in server.requests] == [2, 1, 1]
    assert server.requests[-1].messages[0] == {"role": "user", "content": "static\n\ndynamic"}


def test_turns_stay_alternate_without_a_system() -> None:
    turns = [{"role": role, "content": role} for role in ("system", "user", "assistant", "user")]
    assert [turn["role"] for turn in without_system(turns)] == ["user", "assistant", "user"]
    assert without_system([turns[0]]) == []


def test_one_refusal_after_the_other_is_answered_until_the_server_is_content(serve: Callable[..., LLMServer]) -> None:
    server = serve(
        llm_server.status(400, message="Unsupported parameter: 'temperature'"),
        llm_server.status(400, message="Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
        llm_server.status(400, message="seed: extra inputs are not permitted"),
        llm_server.status(400, message="json_schema is not supported"),
    )
    client(spec(server)).complete(MESSAGES, SCHEMA)
    assert server.requests[-1].body.keys() - {"stream"} == {"model", "messages", "max_completion_tokens"}


def test_a_server_that_is_never_content_is_given_up(serve: Callable[..., LLMServer]) -> None:
    server = serve(*[llm_server.status(400, message="temperature, seed, max_tokens, schema, system role: no")] * 30)
    with pytest.raises(LLMError, match=r"refused the request \(HTTP 400"):
        client(spec(server, retries=2)).complete(MESSAGES, SCHEMA)
    assert len(server.requests) <= MOST_ADAPTIONS + 1


def test_what_did_not_help_is_not_kept(serve: Callable[..., LLMServer]) -> None:
    server = serve(*[llm_server.status(400, message="no such thing")] * 2)
    agent = spec(server)
    with pytest.raises(LLMError):
        client(agent).complete(MESSAGES, SCHEMA)
    client(agent).complete(MESSAGES, SCHEMA)
    assert ["response_format" in request.body for request in server.requests] == [True, False, True]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_temperature_is_sent_only_where_the_tuning_gives_one(serve: Callable[..., LLMServer], provider: str) -> None:
    server = serve()
    client(spec(server, provider, temperature=None)).complete(MESSAGES)
    client(spec(server, provider, temperature=0)).complete(MESSAGES)
    assert [request.body.get("temperature") for request in server.requests] == [None, 0]


# --- validation errors --------------------------------------------------------------------------------------------

EXTRA = {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": 7}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    "body",
    [{"detail": [EXTRA]}, {"object": "error", "message": {"detail": [EXTRA]}, "type": "invalid_request_error"}],
    ids=["FastAPI", "Mistral"],
)
def test_a_validation_error_names_the_option_that_is_too_much(
    serve: Callable[..., LLMServer], provider: str, body: dict[str, Any]
) -> None:
    server = serve(llm_server.plain_error(422, json.dumps(body).encode(), "application/json"))
    assert client(spec(server, provider)).complete(MESSAGES, SCHEMA).text == REPLY
    assert ["seed" in request.body for request in server.requests] == [True, False]
    assert "response_format" in server.requests[-1].body


def test_nothing_else_of_a_validation_error_is_repeated(serve: Callable[..., LLMServer]) -> None:
    detail = [{"loc": ["body", "password"], "msg": "secret-of-another-service", "type": "x"}]
    server = serve(llm_server.plain_error(422, json.dumps({"detail": detail}).encode(), "application/json"))
    with pytest.raises(LLMError) as caught:
        client(spec(server)).complete(MESSAGES)
    assert "secret" not in str(caught.value)
    assert "password" not in str(caught.value)


# --- lengths ------------------------------------------------------------------------------------------------------

TOO_LONG = (
    "This model's maximum context length is {limit} tokens. However, you requested {total} tokens ({prompt} in the "
    "messages, 2048 in the completion). Please reduce the length of the messages or completion."
)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_r17_a_reply_without_room_is_asked_for_in_fewer_tokens(serve: Callable[..., LLMServer], provider: str) -> None:
    server = serve(llm_server.status(400, message=TOO_LONG.format(limit=4096, total=6000, prompt=3952)))
    assert client(spec(server, provider)).complete(MESSAGES, SCHEMA).text == REPLY
    assert [request.body["max_tokens"] for request in server.requests] == [2048, 144]
    assert "response_format" in server.requests[-1].body


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (TOO_LONG.format(limit=4000, total=6000, prompt=3952), "lower search.agent.maxTokens or use a model with"),
        ("the request exceeds the available context size", "lower search.agent.maxTokens or use a model with"),
        (TOO_LONG.format(limit=4096, total=7048, prompt=5000), "the prompt is longer than the model can read"),
    ],
    ids=["too little is left", "no figures", "the prompt alone"],
)
def test_where_there_is_no_room_at_all_the_sentence_says_what_to_change(
    serve: Callable[..., LLMServer], message: str, sentence: str
) -> None:
    server = serve(*[llm_server.status(400, message=message)] * 3)
    with pytest.raises(LLMError) as caught:
        client(spec(server, retries=2)).complete(MESSAGES, SCHEMA)
    assert sentence in str(caught.value)
    assert len(server.requests) == 1


def test_a_page_too_large_for_a_proxy_is_too_long_a_prompt(serve: Callable[..., LLMServer]) -> None:
    server = serve(llm_server.plain_error(413, b"<html><h1>413 Request Entity Too Large</h1></html>"))
    with pytest.raises(LLMError, match="the prompt is longer than the model can read"):
        client(spec(server, retries=2)).complete(MESSAGES, SCHEMA)


# --- waiting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("code", [429, 503])
def test_a_time_to_come_back_at_is_waited_for(serve: Callable[..., LLMServer], provider: str, code: int) -> None:
    waits: list[float] = []
    when = formatdate(time.time() + 20, usegmt=True)
    body = b'{"error": {"message": "slow down"}}'
    server = serve(llm_server.plain_error(code, body, "application/json", Retry_After=when))
    client(spec(server, provider, retries=1), waits).complete(MESSAGES)
    assert len(waits) == 1
    assert 15 < waits[0] <= 20


@pytest.mark.parametrize("code", [408, 409, 425, 500, 502, 503, 504, 529])
def test_what_is_none_of_the_requests_fault_is_tried_again(serve: Callable[..., LLMServer], code: int) -> None:
    server = serve(llm_server.plain_error(code, b"<html><title>nginx</title></html>"))
    assert client(spec(server, retries=1)).complete(MESSAGES, SCHEMA).text == REPLY
    assert len(server.requests) == 2
    assert "response_format" in server.requests[-1].body


def test_an_account_without_money_is_not_asked_again(serve: Callable[..., LLMServer]) -> None:
    server = serve(*[llm_server.status(402, message="Insufficient Balance")] * 2)
    with pytest.raises(LLMError, match=r"quota is used up \(.Insufficient Balance"):
        client(spec(server, retries=1)).complete(MESSAGES)
    assert len(server.requests) == 1


# --- shapes of a reply --------------------------------------------------------------------------------------------

CALL = {"id": "1", "type": "function", "function": {"name": "next_trial", "arguments": REPLY}}
SHAPES: dict[str, tuple[dict[str, Any], str]] = {
    "reasoning alone": ({"content": None, "reasoning_content": REPLY}, REPLY),
    "reasoning by its other name": ({"content": None, "reasoning": REPLY}, REPLY),
    "blanks beside reasoning": ({"content": "\n\n", "reasoning_content": REPLY}, REPLY),
    "a tool call": ({"content": None, "tool_calls": [CALL]}, REPLY),
    "a tool call beside reasoning": ({"content": "", "reasoning_content": "hm", "tool_calls": [CALL]}, REPLY),
    "a function call": ({"content": None, "function_call": {"name": "x", "arguments": REPLY}}, REPLY),
    "a refusal": ({"content": None, "refusal": "I cannot help with that"}, "I cannot help with that"),
    "nothing": ({"content": None}, ""),
}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(("message", "text"), SHAPES.values(), ids=SHAPES.keys())
def test_the_answer_is_read_wherever_a_server_puts_it(
    serve: Callable[..., LLMServer], provider: str, message: dict[str, Any], text: str
) -> None:
    server = serve(llm_server.message(**message))
    assert client(spec(server, provider)).complete(MESSAGES).text == text


def test_a_message_of_parts_is_its_text_without_its_thoughts(serve: Callable[..., LLMServer]) -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": '{"candidate": 3}'}]},
        {"type": "text", "text": REPLY},
    ]
    server = serve(llm_server.message(content=parts))
    assert client(spec(server, "mistral")).complete(MESSAGES).text == REPLY


@pytest.mark.parametrize("provider", PROVIDERS)
def test_thoughts_that_were_cut_off_are_no_answer(serve: Callable[..., LLMServer], provider: str) -> None:
    thoughts = 'maybe {"candidate": 3}, or'
    server = serve(llm_server.message("length", content=None, reasoning_content=thoughts))
    completion = client(spec(server, provider)).complete(MESSAGES)
    assert completion.truncated
    assert completion.text == f"<think>{thoughts}"


def test_dialects_are_kept_for_each_endpoint_and_model_and_not_without_end() -> None:
    dialects = Dialects(most=2)
    odd = Dialect(completion_tokens=True)
    dialects.learn("http://a", "m", odd)
    assert dialects.of("http://a", "m") == odd
    assert dialects.of("http://a", "other") == dialects.of("http://b", "m") == Dialect()
    for number in range(2):
        dialects.learn("http://b", str(number), odd)
    assert dialects.of("http://a", "m") == Dialect()
