"""What counts of a chat completion, read without trust in its shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RawReply:
    """Attributes:
    text: What the model answers.
    truncated: The reply ended because the token limit was reached.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    model: str
    truncated: bool


def read_reply(response: Any) -> RawReply:
    """Reads litellm's response.

    Raises:
        ValueError: where there is no choice in it.
    """
    choices = getattr(response, "choices", None)
    if not choices:
        raise ValueError("the reply has no choices")
    truncated = choices[0].finish_reason == "length"
    usage = getattr(response, "usage", None)
    return RawReply(
        text=_text(choices[0].message, truncated),
        prompt_tokens=_count(getattr(usage, "prompt_tokens", 0)),
        completion_tokens=_count(getattr(usage, "completion_tokens", 0)),
        model=str(getattr(response, "model", "") or ""),
        truncated=truncated,
    )


def _text(message: Any, truncated: bool) -> str:
    """The answer wherever it is: content, a tool call that nobody offered, or reasoning where that is all there is.

    Reasoning that was cut off is marked as such: drafts in it are no answer.
    """
    content = _string(message.content)
    if content.strip():
        return content
    called = _called(message)
    if called:
        return called
    reasoning = _string(getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None))
    if reasoning.strip():
        return f"<think>{reasoning}" if truncated else reasoning
    more = getattr(message, "provider_specific_fields", None)
    return _string(more.get("refusal")) if isinstance(more, Mapping) else ""


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _called(message: Any) -> str:
    calls = getattr(message, "tool_calls", None)
    functions: Iterable[Any] = (getattr(call, "function", None) for call in calls if call) if calls else ()
    for function in (*functions, getattr(message, "function_call", None)):
        arguments = getattr(function, "arguments", None)
        if isinstance(arguments, str) and arguments.strip():
            return arguments
    return ""


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 10**9 else 0
