"""Where a reply's thoughts begin and end, by the marks that models and servers leave in it.

A reasoning model drafts answers while it thinks. Servers should keep the thoughts apart, and many do not: no reasoning
parser configured, a chat template that opens the thought in the prompt so that the reply has its end alone, control
tokens taken out of harmony's channels so that `analysis…assistantfinal…` is left.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_NAMES = r"(?:(?:seed|ns|antml):)?(?:think(?:ing)?|thoughts?|reasoning|reflect(?:ion)?|analysis|scratchpad|cot\w*)"
"""Qwen, DeepSeek, GLM, MiniMax: think; Seed: seed:think; Mistral: [THINK]; reflection-tuned Llamas: reflection."""

_OPEN = re.compile(
    rf"<{_NAMES}>|\[THINK\]|◁think▷|<\|(?:begin_of_thought|START_THINKING|think)\|>|<unused94>"
    r"|<\|channel\|?>\s*(?:analysis|thought)",
    re.IGNORECASE,
)
_CLOSE = re.compile(
    rf"</{_NAMES}>|\[/THINK\]|◁/think▷|<\|(?:end_of_thought|END_THINKING|/think)\|>|<unused95>"
    r"|<\|channel\|>\s*final|assistant\s*final(?=\s*\{)"
    # Marks of the answer itself, where one follows.
    r"|(?:<(?:answer|final|final_answer|response|solution|output|result)>|<\|(?:begin_of_solution|START_RESPONSE)\|>)"
    r"(?=\s*(?:```\w*\s*)?[\[{])",
    re.IGNORECASE,
)
_END = re.compile(r"<\|end\|>|<channel\|>")
"""Ends a thought where one is open, and otherwise whatever the model said."""


class Mark(StrEnum):
    OPEN = "open"
    CLOSE = "close"
    END = "end"


@dataclass(frozen=True)
class Boundary:
    """A mark of a thought, from `start` to `end` of the text."""

    mark: Mark
    start: int
    end: int


def boundaries(text: str) -> list[Boundary]:
    """All marks in their order."""
    patterns = ((Mark.OPEN, _OPEN), (Mark.CLOSE, _CLOSE), (Mark.END, _END))
    found = [
        Boundary(mark, match.start(), match.end()) for mark, pattern in patterns for match in pattern.finditer(text)
    ]
    return sorted(found, key=lambda boundary: boundary.start)
