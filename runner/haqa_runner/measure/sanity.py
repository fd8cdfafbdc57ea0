"""Does the engine answer like a language model at all? Seconds spent here save the minutes of a load test on noise.

A broken kernel or a botched quantization typically shows in one of three ways: logits that are not numbers (a server
error, or token 0 for ever, which many vocabularies print as `!!!!`), the same token whatever was asked, or answers that
differ from one time to the next. How *good* the answers are is the accuracy measurement's business.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from haqa_contract import FailureReason
from haqa_contract.failures import TrialFailure
from haqa_runner.measure.endpoint import Endpoint, EngineRefused

ANSWER_TOKENS = 16
_TIMEOUT_S = 300.0
"""The first request with log-probabilities may compile a kernel (half a minute on two cores)."""
_NEAR_TIE = 0.05
"""Nats. Some GPU kernels add in any order; where that alone changes the answer, the two tokens were this close."""


@dataclass(frozen=True)
class Answer:
    """A greedy completion: what each step chose, as text and token id, and its log-probability."""

    tokens: tuple[str, ...]
    logprobs: tuple[float | None, ...]

    @classmethod
    def of(cls, body: dict[str, Any]) -> Answer:
        logprobs = body["choices"][0].get("logprobs") or {}
        return cls(tuple(logprobs.get("tokens") or ()), tuple(logprobs.get("token_logprobs") or ()))


def check_sanity(endpoint: Endpoint, prompts: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Asks each prompt (token ids; at least two that differ), the first one twice; returns warnings.

    Raises:
        TrialFailure: the answers are not those of a working model (AccuracyGate), or there are none (EngineLoadFailed).
    """
    with endpoint.client(_TIMEOUT_S) as client:
        answers = [_ask(endpoint, client, prompt) for prompt in prompts]
        again = _ask(endpoint, client, prompts[0])
    for answer in answers:
        _require_numbers(answer)
    _require_different_answers(answers)
    return _compare(answers[0], again)


def _ask(endpoint: Endpoint, client: httpx.Client, prompt: Sequence[int]) -> Answer:
    try:
        body = endpoint.complete(
            client,
            prompt=list(prompt),
            max_tokens=ANSWER_TOKENS,
            ignore_eos=True,
            temperature=0,
            logprobs=1,
            return_tokens_as_token_ids=True,
            # A salt of its own keeps the second time from reading the first one's prefix out of the cache: it would
            # compute something else.
            cache_salt=secrets.token_hex(8),
        )
    except EngineRefused as refused:
        if "not JSON compliant" in str(refused) or "nan" in str(refused).lower():
            raise _garbage("the engine computes log-probabilities that are not numbers") from refused
        raise TrialFailure(
            FailureReason.ENGINE_LOAD_FAILED, f"the engine started but cannot answer a plain request ({refused})"
        ) from refused
    return Answer.of(body)


def _require_numbers(answer: Answer) -> None:
    if not answer.tokens:
        raise _garbage("the engine answers a prompt with nothing")
    for token, logprob in zip(answer.tokens, answer.logprobs, strict=False):
        if logprob is None or not math.isfinite(logprob):
            raise _garbage(f"the engine gives {token} the log-probability {logprob}, which is not a number")


def _require_different_answers(answers: Sequence[Answer]) -> None:
    """One token for ever is not broken by itself, a small model does that; the same one whatever was asked is."""
    said = {token for answer in answers for token in answer.tokens}
    if len(said) == 1 and len(answers) > 1:
        raise _garbage(
            f"the engine answers {len(answers)} different prompts with one token over and over ({said.pop()})"
        )


def _compare(first: Answer, second: Answer) -> tuple[str, ...]:
    if first.tokens == second.tokens:
        return ()
    pairs = zip(first.tokens, second.tokens, strict=False)
    at = next((i for i, (one, other) in enumerate(pairs) if one != other), 0)
    one, other = first.logprobs[at], second.logprobs[at] if at < len(second.logprobs) else None
    if one is not None and other is not None and abs(one - other) < _NEAR_TIE:
        return (
            f"greedy answers to one prompt differ from token {at + 1} on, at a near tie: kernels that add in any order",
        )
    raise _garbage(f"the engine answers one prompt in two ways, differing at token {at + 1} by more than a near tie")


def _garbage(what: str) -> TrialFailure:
    return TrialFailure(
        FailureReason.ACCURACY_GATE,
        f"{what}: the weights or a kernel are broken for this configuration on this device; take it out of the search",
    )
