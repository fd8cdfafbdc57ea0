"""What a rule is: the words by which a known cause gives itself away, and what to tell the person."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from haqa_contract.engine_log.lines import EngineLog
from haqa_contract.failures import FailureReason

Sentence = Callable[[re.Match[str], EngineLog], str]


@dataclass(frozen=True)
class Rule:
    """A text that gives a cause away. The pattern is matched with a message alone, never with the rest of the log."""

    pattern: re.Pattern[str]
    reason: FailureReason
    sentence: Sentence


def rule(pattern: str, reason: FailureReason, sentence: str | Sentence) -> Rule:
    """`sentence` may use the pattern's named groups in braces."""
    compiled = re.compile(pattern, re.MULTILINE)
    if callable(sentence):
        return Rule(compiled, reason, sentence)
    template = sentence
    return Rule(compiled, reason, lambda match, log: template.format(**match.groupdict("")))


def excerpt(text: str, limit: int = 300) -> str:
    """A message on one line, without a full stop at its end."""
    return " ".join(text.split())[:limit].rstrip(" .")
