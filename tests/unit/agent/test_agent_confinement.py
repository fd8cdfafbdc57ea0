"""What a tenant's `apiBase` and `model` can get at: one endpoint, the tenant's own key, and an error's message."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from tests.fakes.recording_server import RawServer, RecordingServer
from tests.unit.agent import asking_models

from haqa_operator.agent.client import LLMClient
from haqa_operator.agent.messages import LLMError, Message
from haqa_operator.agent.providers import PROVIDERS, Endpoint
from haqa_operator.agent.transport import USER_AGENT, Call, RequestRefused, call
from haqa_operator.api.search_spec import AgentSpec

CANARY = "operator-secret"
KEY = "tenants-own-key"
MESSAGES = (Message("system", "static"), Message("user", "dynamic"))

ASKED = {
    **{f"{provider}/some-model": KEY for provider in PROVIDERS},
    # No key of the tenant's.
    "openai/gpt-5": None,
    "hosted_vllm/gpt-5": None,
    "anthropic/claude-sonnet-4-5": None,
    "gemini/gemini-2.5-pro": None,
    # Names and keys that litellm has a meaning of its own for.
    "openai/responses/gpt-5": KEY,
    "openai/gpt-5.2-pro": KEY,
    "xai/grok-4.20-multi-agent": KEY,
    "openai/os.environ/OPENAI_API_KEY": "os.environ/OPENAI_API_KEY",
    "hosted_vllm/azure/gpt-5": "os.environ/AZURE_API_KEY",
    "anthropic/claude-2": "oidc/env/OPENAI_API_KEY",
    "mistral/ft:open-mistral-7b:x": "oidc/env_path/OPENAI_API_KEY",
    "together_ai/meta-llama/Llama-3-8b": KEY,
    "openrouter/auto": KEY,
}
REFUSED = (
    *("azure/gpt-5", "azure_ai/x", "bedrock/anthropic.claude-3", "bedrock/converse/x", "sagemaker/x"),
    *(
        "vertex_ai/gemini-pro",
        "ollama/llama3",
        "ollama_chat/llama3",
        "github_copilot/gpt-5",
        "litellm_proxy/x",
        "databricks/x",
        "watsonx/x",
    ),
    *("huggingface/org/model", "oci/x", "snowflake/x", "custom_openai/x", "gpt-5", "claude-sonnet-4-5", "openai", "/x"),
)

_READ = re.compile(
    r"""(?:environ(?:\.get)?|getenv|get_secret(?:_str|_bool)?)\s*[(\[]\s*(?:secret_name=)?["']([A-Za-z]\w+)["']"""
)
_NUMBER = re.compile(r"""(?:int|float)\(\s*(?:os\.)?(?:getenv|environ\.get)?\(?\s*["']([A-Za-z]\w+)["']""")
_CREDENTIAL = re.compile(
    r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?|HEADERS|ORG|ORGANIZATION|PROJECT|PROFILE|ACCOUNT|URL|APP_NAME)(_ID)?$"
)
_NEEDED = {"PATH", "HOME", "PYTHONPATH"}
_SWITCHES = {
    "DISABLE_AIOHTTP_TRANSPORT": "True",
    "LITELLM_HTTP2": "True",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
}
"""The first two would let requests past the session; the others keep litellm from looking for lists in the web."""
_CONNECTING = re.compile(r"(?i)_proxy$|^SSL_|_cache_dir$")
"""With a wrong proxy, wrong certificates or without litellm's own token tables nothing is sent at all."""


def variables_that_libraries_read() -> set[str]:
    """Names of all variables that litellm and what it sends requests with look at."""
    numbers: set[str] = set()
    found: set[str] = {"HAQA_PROMETHEUS_PASSWORD", "AWS_SESSION_TOKEN", "HF_TOKEN"}
    for package in ("litellm", "openai", "httpx", "aiohttp"):
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        for path in Path(spec.origin).parent.rglob("*.py"):
            text = path.read_text("utf-8")
            found.update(_READ.findall(text))
            numbers.update(_NUMBER.findall(text))
    return {name for name in found - numbers - _NEEDED - set(_SWITCHES) if not _CONNECTING.search(name)}


@pytest.fixture(scope="module")
def outcomes() -> Iterator[tuple[dict[str, str], list[str]]]:
    """What came of asking each model, and all requests that arrived; each model has a path of its own."""
    names = variables_that_libraries_read()
    secrets = {name if _CREDENTIAL.search(name) else f"AFTER_{name}": f"{CANARY}-{name}" for name in names}
    env = {name: os.environ[name] for name in _NEEDED & set(os.environ)} | _SWITCHES | secrets
    env["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    with RecordingServer() as server:
        models = [*ASKED, *REFUSED]
        questions = {
            model: {"api_base": f"{server.url}/{number}", "key": ASKED.get(model, KEY)}
            for number, model in enumerate(models)
        }
        asking = subprocess.run(
            [sys.executable, asking_models.__file__],
            input=json.dumps(questions),
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert asking.returncode == 0, asking.stderr[-2000:]
        yield json.loads(asking.stdout), server.requests


def requests_for(model: str, requests: list[str]) -> list[str]:
    number = [*ASKED, *REFUSED].index(model)
    return [request for request in requests if request.split(" ", 2)[1].startswith(f"/{number}/")]


def test_the_environment_is_full_of_what_must_not_get_out() -> None:
    names = variables_that_libraries_read()
    assert len(names) > 900
    assert names >= {
        "OPENAI_API_KEY",
        "OPENAI_ORG_ID",
        "ANTHROPIC_API_KEY",
        "GEMINI_API_KEY",
        "OR_SITE_URL",
        "AZURE_API_KEY",
    }


@pytest.mark.parametrize("model", ASKED)
def test_no_variable_of_the_operator_is_in_any_request(model: str, outcomes: tuple[dict[str, str], list[str]]) -> None:
    requests = requests_for(model, outcomes[1])
    assert requests, outcomes[0][model]
    for request in requests:
        assert CANARY not in request
        assert f"user-agent: {USER_AGENT}\n" in request.lower(), "a request that did not pass the session"
        assert (ASKED[model] or "no-key") in request
    assert CANARY not in outcomes[0][model]


@pytest.mark.parametrize("model", REFUSED)
def test_a_provider_that_cannot_be_confined_is_not_asked(
    model: str, outcomes: tuple[dict[str, str], list[str]]
) -> None:
    assert requests_for(model, outcomes[1]) == []
    assert outcomes[0][model].startswith(f"search.agent.model {model}: in a cluster the provider is one of openai,")
    assert "write openai/NAME and give its OpenAI-compatible endpoint as apiBase" in outcomes[0][model]


def test_nothing_else_is_asked(outcomes: tuple[dict[str, str], list[str]]) -> None:
    assert sum(len(requests_for(model, outcomes[1])) for model in ASKED) == len(outcomes[1])


# --- addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", ["x?delete=", "../../admin/delete?x=", "x#y", "x/../y", "x%3Fy", "x\\y", "x\nX-A: b"])
def test_a_models_name_becomes_no_other_part_of_the_address(provider: str, name: str) -> None:
    with RecordingServer() as server:
        spec = AgentSpec(model=f"{provider}/{name}", api_base=server.url, timeout=timedelta(seconds=20), retries=0)
        with pytest.raises(LLMError, match="some providers put the name into the address") as caught:
            LLMClient(spec, api_key=KEY, confined=True).complete(MESSAGES)
        assert server.requests == []
        assert str(caught.value).isprintable()


def test_a_request_with_a_query_does_not_leave() -> None:
    with RecordingServer() as server:
        state = Call(Endpoint(server.url, KEY))

        async def ask(session: aiohttp.ClientSession) -> None:
            await session.post(f"{server.url}/x?delete=1")

        with pytest.raises(RequestRefused, match="a query"):
            call(ask, 20, state)
        assert server.requests == []


@pytest.mark.parametrize(
    "base", ["http://a\u200bb:9", "http://a\x00b:9", "http://[", "http://localhost:99999", "http://localhost:9:9"]
)
def test_an_address_that_is_none_is_a_printable_sentence(base: str) -> None:
    assert refusal("openai", base).isprintable()


# --- redirects ----------------------------------------------------------------------------------------------------


def refusal(provider: str, url: str, *, confined: bool = True) -> str:
    spec = AgentSpec(model=f"{provider}/some-model", api_base=url, timeout=timedelta(seconds=20), retries=0)
    with pytest.raises(LLMError) as caught:
        LLMClient(spec, api_key=KEY, confined=confined).complete(MESSAGES)
    return str(caught.value)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(provider: str, status: int) -> None:
    with RecordingServer() as elsewhere, RecordingServer(status, headers={"Location": f"{elsewhere.url}/x"}) as server:
        sentence = refusal(provider, server.url, confined=status != 302)
        assert f"a redirect (HTTP {status}), and none is followed" in sentence
        assert elsewhere.url not in sentence
        assert elsewhere.requests == []
        assert len(server.requests) == 1


# --- errors -------------------------------------------------------------------------------------------------------

HIDDEN = "internal-only-7f3a"
HEADERS = {"X-Internal": HIDDEN, "Set-Cookie": f"session={HIDDEN}", "WWW-Authenticate": f'Basic realm="{HIDDEN}"'}
BODIES = {
    "html": f"<html><body>{HIDDEN}</body></html>".encode(),
    "text": HIDDEN.encode(),
    "json": json.dumps({"user": HIDDEN}).encode(),
    "error-text": json.dumps({"error": HIDDEN}).encode(),
    "detail": json.dumps({"detail": HIDDEN, "message": HIDDEN}).encode(),
    "beside": json.dumps({"error": {"message": "no", "type": f"{HIDDEN} {HIDDEN}"}, "x": HIDDEN}).encode(),
    "list": json.dumps([HIDDEN]).encode(),
    "huge": json.dumps({"error": {"message": HIDDEN, "padding": "x" * 2**17}}).encode(),
    "not-text": b"\xff\xfe\x00" + HIDDEN.encode(),
}


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "anthropic", "gemini"])
@pytest.mark.parametrize("body", BODIES)
def test_nothing_but_an_errors_message_is_repeated(provider: str, body: str, caplog: pytest.LogCaptureFixture) -> None:
    for status in (200, 400, 401, 404, 429, 500, 503):
        with RecordingServer(status, BODIES[body], HEADERS) as server:
            assert HIDDEN not in refusal(provider, server.url)
    assert HIDDEN not in caplog.text


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "anthropic"])
@pytest.mark.parametrize(
    "answer",
    [
        f"SSH-2.0-{HIDDEN}\r\n",
        f"HTTP/1.1 200 {HIDDEN}\r\nContent-Length: 100\r\n\r\n{HIDDEN}",
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{HIDDEN}\r\n\r\n",
        f"HTTP/1.1 200 OK\r\nno header {HIDDEN}\r\n\r\n",
        f"HTTP/1.1 500 {HIDDEN}\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["ssh", "short", "chunks", "header", "reason"],
)
def test_nothing_of_an_answer_that_is_no_http_is_repeated(provider: str, answer: str) -> None:
    with RawServer(answer.encode()) as server:
        assert HIDDEN not in refusal(provider, server.url)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
def test_an_errors_message_is_repeated_short_without_the_key(provider: str, status: int) -> None:
    message = f"the model is \x1b[31mbusy\x00 with {KEY}, bearer {KEY} \u202eand so on " + "x" * 1000
    body = json.dumps({"error": {"message": message, "type": "overloaded_error"}}).encode()
    with RecordingServer(status, body) as server:
        sentence = refusal(provider, server.url)
    assert '("the model is busy with (key removed)' in sentence.replace(f"HTTP {status}: ", "")
    assert KEY not in sentence
    assert sentence.isprintable()
    assert len(sentence) < 500
