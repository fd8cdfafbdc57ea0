"""The agent's process: asked over a socket, without rights, and nothing of litellm on the asking side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.cluster.waiting import wait_until
from tests.fakes.llm_server import LLMServer

from haqa_operator.agent.apart.remote import RemoteModel
from haqa_operator.agent.apart.wire import PATH, Answer, Question, longest_s
from haqa_operator.agent.messages import LLMError, Message
from haqa_operator.api.search_spec import AgentSpec

ROOT = Path(__file__).parents[3]
KEY = "sk-of-one-tenant"
MESSAGES = (Message("system", "You tune."), Message("user", "Which one next?"))


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of an agent's process."""
    path = tmp_path_factory.mktemp("agent") / "agent.sock"
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'runner'}",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    command = [sys.executable, "-m", "haqa_operator.agent.apart.service", str(path)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(path.exists, 60, "the agent's process")
            yield path
        finally:
            process.terminate()
            _, said = process.communicate(timeout=20)
    assert KEY not in said


def spec(server: LLMServer, **more: object) -> AgentSpec:
    return AgentSpec.model_validate({"model": "openai/rule-of-thumb-1", "apiBase": server.url, "retries": 0, **more})


def test_a_reply_comes_back_whole(socket: Path) -> None:
    with LLMServer(api_key=KEY) as server:
        model = RemoteModel(socket, spec(server), api_key=KEY, seed=7)
        completion = model.complete(MESSAGES, {"type": "object"}, 200)
        assert completion.text
        assert completion.prompt_tokens > 0
        assert completion.latency_s > 0
        (request,) = server.requests
        assert [message["role"] for message in request.body["messages"]] == ["system", "user"]
        assert request.body["seed"] == 7


def test_a_wrong_key_is_the_same_sentence_as_without_a_process_between(socket: Path) -> None:
    with LLMServer(api_key=KEY) as server, pytest.raises(LLMError) as raised:
        RemoteModel(socket, spec(server), api_key="sk-wrong").complete(MESSAGES)
    assert "openai/rule-of-thumb-1" in str(raised.value)
    assert "sk-wrong" not in str(raised.value)


def test_no_variable_of_the_process_is_a_key(socket: Path) -> None:
    with pytest.raises(LLMError, match="secretRef is missing"):
        RemoteModel(socket, AgentSpec(model="openai/gpt-5"))


def test_a_process_that_is_not_there_is_said(tmp_path: Path) -> None:
    with LLMServer() as server, pytest.raises(LLMError, match="the agent's process does not answer"):
        RemoteModel(tmp_path / "none.sock", spec(server), api_key=KEY).complete(MESSAGES)


def test_what_is_no_question_is_refused_without_repeating_it(socket: Path) -> None:
    import httpx

    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket))) as client:
        response = client.post(f"http://agent{PATH}", json={"api_key": KEY, "agent": 1})
    assert response.status_code == 400
    assert KEY not in response.text


def test_a_key_does_not_show_in_what_is_logged() -> None:
    question = Question(agent=AgentSpec(model="openai/x"), api_key=KEY, messages=MESSAGES)
    assert KEY not in repr(question)
    assert json.loads(question.model_dump_json())["api_key"] == KEY


def test_the_operator_waits_longer_than_the_process_may_take() -> None:
    agent = AgentSpec(model="openai/x", timeout=timedelta(seconds=30), retries=2)
    assert longest_s(agent) > 3 * 30 + 2 * 60


def test_an_answer_survives_the_way() -> None:
    answer = Answer(sentence="no", latency_s=1.5)
    assert Answer.model_validate_json(answer.model_dump_json()) == answer


def test_the_operator_imports_no_litellm() -> None:
    program = (
        "import sys; import haqa_operator.handlers.main, haqa_operator.agent.apart.remote; "
        "sys.exit('litellm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 0
