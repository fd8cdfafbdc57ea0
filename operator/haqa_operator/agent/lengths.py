"""How much room a server leaves for a reply, by what it says when prompt and reply together are too long for it.

Each server words it in its own way; what they share are the figures: the limit, and either the prompt's tokens or the
sum of both. The wordings are a table in the tests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ABOUT_LENGTH = re.compile(
    r"(?i)context.{0,12}(?:length|limit|window|size)|maximum model length|max_model_len|max_new_tokens. must be"
    r"|input tokens exceed|prompt is too long|while limit is|maximum number of tokens|too many tokens"
)
_NUMBER = r"(\d[\d,]*)"
_LIMIT = tuple(
    re.compile(f"(?i){pattern}")
    for pattern in (
        rf"maximum (?:context|model) (?:length|limit|size)(?: is| of|:)? {_NUMBER}",
        rf"context (?:length|window|size|limit)(?: is| of)?:? \(?{_NUMBER} tokens",
        rf"{_NUMBER} maximum context",
        rf"(?:<=|limit is|limit of|allowed is|allowed) \(?{_NUMBER}",
        rf"> ?{_NUMBER}",
    )
)
_PROMPT = tuple(
    re.compile(f"(?i){pattern}")
    for pattern in (
        rf"{_NUMBER} (?:tokens )?(?:in the messages|from the input|of text input|.inputs. tokens|input tokens)",
        rf"(?:prompt|request|input) (?:contains|has|length|is too long:|token count)(?: at least)? ?\(?{_NUMBER}",
        rf"(?:messages resulted in|prompt \(length|request \(|current length is|context limit:) ?{_NUMBER}",
    )
)
_TOTAL = re.compile(rf"(?i)requested (?:about |a total of )?{_NUMBER} tokens|total of (?:at least )?{_NUMBER}")


@dataclass(frozen=True)
class TooLong:
    """Prompt and reply do not fit into the model's context together.

    Attributes:
        room: Tokens that the prompt leaves for a reply, 0 or less where the prompt alone is too long; None where the
            server gives no figures.
    """

    room: int | None


def too_long(said: str, asked: int, prompt_estimate: int) -> TooLong | None:
    """What an error says of the length; None where it speaks of something else.

    Args:
        asked: Tokens that the reply was allowed.
        prompt_estimate: For servers that stop counting the prompt once it is too long ("at least 2049").
    """
    if not _ABOUT_LENGTH.search(said):
        return None
    limit = _first(_LIMIT, said)
    if limit is None:
        return TooLong(None)
    prompt = _first(_PROMPT, said)
    if prompt is None:
        total = _first((_TOTAL,), said)
        prompt = None if total is None else total - asked
    elif "at least" in said and prompt < limit:
        prompt = max(prompt, prompt_estimate)
    return TooLong(None if prompt is None else limit - prompt)


def largest_reply(said: str, asked: int) -> int | None:
    """The longest reply that a server writes, by an error which says that fewer tokens are allowed than were asked."""
    numbers = (int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", said))
    return max((number for number in numbers if 1 < number < asked), default=None)


def _first(patterns: tuple[re.Pattern[str], ...], said: str) -> int | None:
    for pattern in patterns:
        match = pattern.search(said)
        if match:
            number = next(group for group in match.groups() if group is not None)
            return int(number.replace(",", ""))
    return None
