"""What goes to a language model and what comes back, whoever serves it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from haqa_operator.api.search_spec import AgentSpec


@dataclass(frozen=True)
class Message:
    """One turn: role `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True)
class Prompt:
    """What is sent to the model."""

    messages: tuple[Message, ...]

    @property
    def hash(self) -> str:
        """sha256 of the messages, by which a trial names the prompt that led to it."""
        return hashlib.sha256(json.dumps([asdict(message) for message in self.messages]).encode()).hexdigest()

    @property
    def text(self) -> str:
        """For people: the messages one after the other."""
        return "\n\n".join(f"=== {message.role} ===\n{message.content}" for message in self.messages) + "\n"


@dataclass(frozen=True)
class Completion:
    """A reply as it came.

    Attributes:
        model: Name of the model by the server's account.
        truncated: The reply ended because the token limit was reached.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    latency_s: float
    model: str
    truncated: bool = False


class LLMError(Exception):
    """No reply could be had. The text is a sentence for people; it holds no credential."""

    def __init__(self, sentence: str, latency_s: float = 0.0) -> None:
        super().__init__(sentence)
        self.latency_s = latency_s


class LanguageModel(Protocol):
    """Something that answers a conversation."""

    @property
    def name(self) -> str:
        """The model that is asked for."""

    @property
    def max_tokens(self) -> int:
        """Longest reply, in tokens."""

    def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None, max_tokens: int | None = None
    ) -> Completion:
        """The model's reply, by the JSON schema where the server can be held to one.

        Args:
            max_tokens: A lower limit for this one reply.

        Raises:
            LLMError: when there is none.
        """


class OpenModel(Protocol):
    """How an agent's model is reached."""

    def __call__(self, spec: AgentSpec, *, api_key: str | None, confined: bool, seed: int | None) -> LanguageModel:
        """Raises LLMError: it cannot be asked in this way."""


_CHARS_PER_TOKEN = 3.0
"""English prose has about 4 characters a token; tables of numbers and names have fewer."""


def estimated_tokens(text_chars: int) -> int:
    """Rather too many than too few, for budgets and for servers that do not count."""
    return int(text_chars / _CHARS_PER_TOKEN) + 1
