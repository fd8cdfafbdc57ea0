"""Text from outside (model names, failure messages, log lines, replies) on its way into a prompt or a record.

A model's log can say "ignore your instructions". What reaches the prompt is one short quoted line without control
characters or chat-template tokens; and since a reply can only name an enumerated candidate, even an obeyed instruction
picks nothing that a person has not allowed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

from haqa_contract import Scalar

ELLIPSIS = "…"
MAX_VALUE_CHARS = 60
ABSENT = "default"
"""How a setting that a candidate leaves to the engine is written in prompts and replies."""

_PROMPT_SAFE = str.maketrans({"<": "‹", ">": "›", "|": "¦", "`": "'"})
"""Angle brackets and bars make chat-template tokens (`<|im_end|>`) and break tables; backticks end code spans."""

_REDACTED = "(key removed)"
_CREDENTIAL = re.compile(r"(?i)\b(bearer\s+|basic\s+)[\w.~+/=-]{4,}|\b(?:sk|pk|key|hf|xai|gsk)[-_][\w-]{8,}")

_TERMINAL_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
"""Colours and cursor movements, which logs are full of."""


def plain(text: str, limit: int, *, keep_newlines: bool = False) -> str:
    """`text` without control, formatting and unassigned characters, runs of blanks made one, cut to `limit`."""
    head = _TERMINAL_SEQUENCE.sub(
        "", text[: 8 * limit + 64]
    )  # a megabyte of log is not worth looking through for 300 characters
    lines = ["".join(map(_visible, line)) for line in head.splitlines()]
    joined = ("\n" if keep_newlines else " ").join(" ".join(line.split()) for line in lines).strip()
    cut = joined if len(joined) <= limit else joined[: limit - 1].rstrip() + ELLIPSIS
    return cut if cut or not text.strip() else ELLIPSIS


def _visible(character: str) -> str:
    if character.isspace():
        return " "
    return "" if unicodedata.category(character).startswith("C") else character


def redacted(text: str, secret: str | None) -> str:
    """`text` without the secret and without anything that looks like one."""
    if secret:
        text = text.replace(secret, _REDACTED)
    return _CREDENTIAL.sub(_REDACTED, text)


def prompt_line(text: str, limit: int = MAX_VALUE_CHARS) -> str:
    """One line that can stand in a table or a sentence of a prompt."""
    return plain(text, limit).translate(_PROMPT_SAFE)


def quoted(text: str, limit: int = 300) -> str:
    """One line in double quotes, which the static prompt declares to be data."""
    return '"' + prompt_line(text, limit).replace('"', "'") + '"'


@lru_cache(4096, typed=True)
def value_text(value: Scalar | None) -> str:
    """A parameter's value as prompts show it and as a reply has to give it."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.12g}"
    return prompt_line(str(value))


def labelled(parameters: Mapping[str, Scalar]) -> dict[str, str]:
    """Names and values of parameters as prompts show them; a replayed table may have any text as either."""
    return {_name(name): value_text(value) for name, value in parameters.items()}


@lru_cache(1024)
def _name(name: str) -> str:
    return prompt_line(name)
