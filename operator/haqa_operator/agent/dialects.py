"""What an endpoint takes of a chat completion, as far as its refusals have shown.

OpenAI's format is spoken in many dialects: some models refuse any temperature, some call the limit of a reply
`max_completion_tokens`, some know neither schema nor seed, some chat templates no system message. What a refusal names
is left out or renamed, and the request is sent again; what helped is kept for the next requests of this process.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from threading import Lock

from cachetools import LRUCache

from haqa_operator.agent.lengths import largest_reply


class Option(StrEnum):
    """What a request has beside model and messages."""

    TEMPERATURE = "temperature"
    MAX_TOKENS = "max_tokens"
    SCHEMA = "response_format"
    SEED = "seed"
    SYSTEM = "system"


_NAMES = {
    Option.TEMPERATURE: r"temperature",
    Option.MAX_TOKENS: r"max_(?:completion_|output_|new_)?tokens|maxOutputTokens",
    Option.SCHEMA: (
        r"response_format|json_schema|json_object|structured.outputs?|guided\w*|grammar|schema|requested parameters"
    ),
    Option.SEED: r"(?:random_)?seed",
    Option.SYSTEM: r"system[\s_'\"`]*(?:role|message|prompt|instruction)|role[\s'\"`:]*system|'system'",
}
_PATTERNS = {
    option: re.compile(rf"(?<![A-Za-z])(?:{pattern})(?![A-Za-z])", re.IGNORECASE) for option, pattern in _NAMES.items()
}
_TOO_LARGE = re.compile(r"(?i)too large|at most|maximum|range|exceed|less than|<=|>")
_FEWEST_TOKENS = 64


@dataclass(frozen=True)
class Dialect:
    """Attributes:
    without: What is not sent.
    completion_tokens: The limit of a reply is called `max_completion_tokens`.
    most_tokens: Longest reply that the server writes, where it has said so.
    """

    without: frozenset[Option] = frozenset()
    completion_tokens: bool = False
    most_tokens: int | None = None

    def lacking(self, option: Option) -> Dialect:
        return replace(self, without=self.without | {option})


def refused_option(said: str, parameter: str | None, sent: Collection[Option]) -> Option | None:
    """What a refusal is about, of what was sent: what its `param` names, else what its message names first."""
    for text in (parameter or "", said):
        found = {option: match.start() for option in sent if (match := _PATTERNS[option].search(text))}
        if found:
            return min(found, key=lambda option: found[option])
    return None


def adapted(dialect: Dialect, option: Option, said: str, asked: int) -> Dialect:
    """The dialect of a server that refused an option.

    Args:
        asked: Tokens that the reply was allowed.
    """
    if option is not Option.MAX_TOKENS:
        return dialect.lacking(option)
    most = largest_reply(said, asked) if _TOO_LARGE.search(said) and "completion_tokens' instead" not in said else None
    if most is not None and most >= _FEWEST_TOKENS:
        return replace(dialect, most_tokens=most)
    if not dialect.completion_tokens:
        return replace(dialect, completion_tokens=True)
    return dialect.lacking(option)


class Dialects:
    """Those of the endpoints that this process has asked."""

    def __init__(self, most: int = 256) -> None:
        self._known: LRUCache[tuple[str | None, str], Dialect] = LRUCache(most)
        self._lock = Lock()

    def of(self, api_base: str | None, model: str) -> Dialect:
        with self._lock:
            return self._known.get((api_base, model), Dialect())

    def learn(self, api_base: str | None, model: str, dialect: Dialect) -> None:
        with self._lock:
            self._known[api_base, model] = dialect


DIALECTS = Dialects()
