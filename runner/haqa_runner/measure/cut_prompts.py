"""Prompts of tasks that are longer than the engine takes, so that an accuracy from shortened questions says so.

lm-eval cuts such prompts from the left, few-shot examples and instructions first, and goes on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class CutPrompts:
    """What was cut, task by task.

    Attributes:
        limit: Tokens that the engine takes, prompt and answer.
    """

    limit: int
    _documents: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    _cut: defaultdict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))

    def asked(self, task: str, document: int, prompt: str, room: int, count: Callable[[str], int]) -> None:
        """Notes one prompt.

        Args:
            document: Number in the task; a document may make several prompts.
            room: Tokens that lm-eval leaves for the prompt.
            count: Tokens of a text. Called where the text may be too long: a token is at least one byte.
        """
        self._documents[task].add(document)
        if len(prompt.encode()) < room:
            return
        tokens = count(prompt)
        if tokens > room:
            self._cut[task][document] = max(tokens, self._cut[task].get(document, 0))

    def warnings(self) -> tuple[str, ...]:
        """One sentence for each task with prompts that were cut."""
        return tuple(
            f"evaluation.tasks {task}: prompts of {len(cut)} of {len(self._documents[task])} documents were cut from "
            f"the left, the longest has {max(cut.values())} tokens and the engine's max-model-len is {self.limit}, so "
            "the accuracy is not that of the task; raise serving.maxModelLen, or choose a task with shorter prompts"
            for task, cut in sorted(self._cut.items())
        )
