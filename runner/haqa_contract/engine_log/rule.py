"""What a rule is: the text that identifies a known cause, and the sentence to show for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from haqa_contract.engine_log.lines import EngineLog
from haqa_contract.failures import FailureReason

Sentence = Callable[[re.Match[str], EngineLog], str]


@dataclass(frozen=True)
class Rule:
    """A text that identifies a cause. The pattern is matched against a message alone, never the rest of the log.

    Attributes:
        of_configuration: As in `Failure`.
    """

    pattern: re.Pattern[str]
    reason: FailureReason
    sentence: Sentence
    of_configuration: bool = False


def rule(pattern: str, reason: FailureReason, sentence: str | Sentence, *, of_configuration: bool = False) -> Rule:
    """`sentence` may use the pattern's named groups in braces."""
    compiled = re.compile(pattern, re.MULTILINE)
    if callable(sentence):
        return Rule(compiled, reason, sentence, of_configuration)
    template = sentence
    return Rule(compiled, reason, lambda match, log: template.format(**match.groupdict("")), of_configuration)


def excerpt(text: str, limit: int = 300) -> str:
    """A message on one line, without a full stop at its end."""
    return " ".join(text.split())[:limit].rstrip(" .")
