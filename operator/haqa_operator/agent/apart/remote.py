"""The operator's side: a language model that somebody else talks to."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr, ValidationError

from haqa_operator.agent.apart.wire import PATH, Answer, Question, longest_s
from haqa_operator.agent.messages import Completion, LLMError, Message
from haqa_operator.agent.providers import endpoint_of
from haqa_operator.api.search_spec import AgentSpec

_CONNECT_S = 5.0


class RemoteModel:
    """A `LanguageModel` that the agent's process asks."""

    def __init__(
        self,
        socket: Path,
        spec: AgentSpec,
        *,
        api_key: str | None = None,
        confined: bool = True,
        seed: int | None = None,
    ) -> None:
        """
        Args:
            socket: Where the agent's process listens.
            confined: As in `LLMClient`; everything that goes this way is.

        Raises:
            LLMError: the provider cannot be confined, or something to confine it to is missing.
        """
        endpoint_of(spec, api_key, confined=True)
        self._socket = socket
        self._spec = spec
        self._api_key = api_key
        self._seed = seed

    @property
    def name(self) -> str:
        return self._spec.model

    @property
    def max_tokens(self) -> int:
        return self._spec.max_tokens

    def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None, max_tokens: int | None = None
    ) -> Completion:
        """As `LLMClient.complete`."""
        question = Question(
            agent=self._spec,
            api_key=SecretStr(self._api_key) if self._api_key is not None else None,
            seed=self._seed,
            messages=tuple(messages),
            response_schema=dict(schema) if schema is not None else None,
            max_tokens=max_tokens,
        )
        begun = time.monotonic()
        try:
            answer = self._asked(question)
        except (httpx.HTTPError, ValidationError) as error:
            sentence = f"{self._spec.model}: the agent's process does not answer ({type(error).__name__})"
            raise LLMError(f"{sentence}; the log of its container says why", time.monotonic() - begun) from None
        if answer.completion is None:
            raise LLMError(answer.sentence, answer.latency_s)
        return answer.completion

    def _asked(self, question: Question) -> Answer:
        timeout = httpx.Timeout(longest_s(self._spec), connect=_CONNECT_S)
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self._socket)), timeout=timeout) as client:
            body = question.model_dump_json(by_alias=True)
            response = client.post(f"http://agent{PATH}", content=body, headers={"Content-Type": "application/json"})
            response.raise_for_status()
            return Answer.model_validate_json(response.content)
