"""What the operator and the agent's process say to each other, as JSON over a Unix socket."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, SecretStr, field_serializer

from haqa_operator.agent.client import LONGEST_BACKOFF_S, LONGEST_RETRY_AFTER_S
from haqa_operator.agent.messages import Completion, Message
from haqa_operator.api.search_spec import AgentSpec

PATH: Final = "/v1/complete"
MAX_REQUEST_BYTES: Final = 8 * 2**20
_MARGIN_S: Final = 15.0


class Question(BaseModel):
    """One conversation that a model is to go on with, and how it is reached."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    agent: AgentSpec
    api_key: SecretStr | None = None
    seed: int | None = None
    messages: tuple[Message, ...]
    response_schema: dict[str, Any] | None = None
    max_tokens: int | None = None

    @field_serializer("api_key", when_used="json")
    def _told(self, key: SecretStr | None) -> str | None:
        return key.get_secret_value() if key is not None else None


class Answer(BaseModel):
    """The reply, or a sentence on why there is none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    completion: Completion | None = None
    sentence: str = ""
    latency_s: float = 0.0


def longest_s(agent: AgentSpec) -> float:
    """How long the agent's process may take over one question, with everything that it tries."""
    pauses = max(LONGEST_BACKOFF_S, LONGEST_RETRY_AFTER_S)
    attempts = 1 + agent.retries
    return attempts * agent.timeout.total_seconds() + agent.retries * pauses + _MARGIN_S
