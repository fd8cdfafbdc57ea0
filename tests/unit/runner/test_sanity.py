"""What passes for a working model, and what does not."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from tests.fakes.vllm_server import MODEL, Behaviour, fake_vllm

from haqa_contract import FailureReason
from haqa_contract.failures import TrialFailure
from haqa_runner.measure.endpoint import Endpoint, connect
from haqa_runner.measure.sanity import check_sanity

PROMPTS = ((1, 2, 3), (4, 5, 6), (7, 8, 9))
AGAIN = len(PROMPTS)
"""The number of the question that repeats the first one."""


def same_again(tokens: Callable[[int], list[int]]) -> Callable[[int], list[int]]:
    return lambda n: tokens(n % AGAIN)


def check(behaviour: Behaviour) -> tuple[str, ...]:
    with fake_vllm(behaviour) as server:
        return check_sanity(Endpoint(server.base_url, MODEL), PROMPTS)


def test_a_model_that_answers_differently_to_different_prompts_and_the_same_to_the_same_is_sane() -> None:
    assert check(Behaviour(answer=same_again(lambda n: [n + 5, 6, 7]))) == ()


def test_a_small_model_may_repeat_itself_as_long_as_prompts_matter() -> None:
    assert check(Behaviour(answer=same_again(lambda n: [n + 5] * 16))) == ()


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        (Behaviour(answer=lambda n: [0] * 16), "one token over and over (token_id:0)"),
        (Behaviour(answer=lambda n: []), "answers a prompt with nothing"),
        (
            Behaviour(answer=same_again(lambda n: [n, 2]), logprob=math.nan),
            "log-probability nan, which is not a number",
        ),
        (Behaviour(answer=same_again(lambda n: [n, 2]), logprob=-math.inf), "log-probability -inf"),
        (Behaviour(refuse=lambda n: (500, "Out of range float values are not JSON compliant: nan")), "not numbers"),
    ],
)
def test_garbage_ends_the_trial_before_the_load_test(behaviour: Behaviour, says: str) -> None:
    with pytest.raises(TrialFailure) as caught:
        check(behaviour)
    assert says in caught.value.message
    assert caught.value.reason is FailureReason.ACCURACY_GATE


def test_an_engine_that_refuses_a_plain_request_has_not_loaded() -> None:
    with pytest.raises(TrialFailure, match=r"cannot answer a plain request \(HTTP 500: boom\)") as caught:
        check(Behaviour(refuse=lambda n: (500, "boom")))
    assert caught.value.reason is FailureReason.ENGINE_LOAD_FAILED


def test_two_answers_to_one_prompt_that_differ_at_a_near_tie_are_worth_a_warning() -> None:
    warnings = check(Behaviour(answer=lambda n: [5, 9 if n == AGAIN else 6, n]))
    assert warnings == (
        "greedy answers to one prompt differ from token 2 on, at a near tie: kernels that add in any order",
    )


def test_two_answers_to_one_prompt_that_differ_for_no_reason_are_garbage() -> None:
    behaviour = Behaviour()

    def answer(n: int) -> list[int]:
        behaviour.logprob = -0.1 if n < AGAIN else -3.0
        return [5, n + 6]

    behaviour.answer = answer
    with pytest.raises(TrialFailure, match="answers one prompt in two ways, differing at token 2"):
        check(behaviour)


def test_the_repeated_question_does_not_read_the_first_one_s_cache() -> None:
    with fake_vllm(Behaviour(answer=same_again(lambda n: [n + 5, 6]))) as server:
        check_sanity(Endpoint(server.base_url, MODEL), PROMPTS)
        salts = [request["cache_salt"] for request in server.state.requests]
    assert len(set(salts)) == len(salts) == AGAIN + 1


def test_connecting_finds_out_how_long_a_request_may_be() -> None:
    with fake_vllm(Behaviour(max_model_len=77)) as server:
        assert connect(server.base_url, MODEL).max_model_len == 77


def test_somebody_else_s_server_on_the_port_is_noticed() -> None:
    with fake_vllm(Behaviour(model="other")) as server, pytest.raises(TrialFailure, match="serves other, not tiny"):
        connect(server.base_url, MODEL)


def test_an_engine_that_is_gone_is_a_sentence() -> None:
    with pytest.raises(TrialFailure, match=r"no engine answers at http://127\.0\.0\.1:9"):
        connect("http://127.0.0.1:9", MODEL)
