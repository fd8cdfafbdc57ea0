"""Makes the documents of the task `stdlib_cloze` from the standard library's held-out sources."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from haqa_runner.datasets import load_texts

DOCUMENTS = 200
CONTEXT_LINES = 6
CHOICES = 4
_SHORTEST = 12
"""Characters: `else:` and `return` follow anything."""
_LENGTHS_APART = 2.0
"""A wrong line is at most this many times as long or as short as the right one."""


def build(seed: int = 0, **_: Any) -> dict[str, Any]:
    """The task's splits, as lm-eval's `custom_dataset` wants them; the same for the same seed and Python version."""
    from datasets import Dataset

    numbers = random.Random(seed)  # noqa: S311 (reproducible, not secret)
    texts = load_texts("builtin://python-stdlib/heldout", seed=seed)
    documents = [document for text in texts for document in cloze_documents(text, numbers)]
    numbers.shuffle(documents)
    return {"test": Dataset.from_list(documents[:DOCUMENTS])}


def cloze_documents(text: str, numbers: random.Random) -> Iterator[dict[str, Any]]:
    """One document for each place in the text that has three lines which could stand there as well."""
    lines = text.splitlines()
    candidates = sorted({line for line in lines if len(line.strip()) >= _SHORTEST})
    for place in range(CONTEXT_LINES, len(lines), CONTEXT_LINES):
        right = lines[place]
        if len(right.strip()) < _SHORTEST:
            continue
        wrong = [line for line in candidates if line != right and _could_stand_for(line, right)]
        if len(wrong) < CHOICES - 1:
            continue
        choices = [right, *numbers.sample(wrong, CHOICES - 1)]
        numbers.shuffle(choices)
        context = "\n".join(lines[place - CONTEXT_LINES : place]) + "\n"
        yield {"context": context, "choices": choices, "answer": choices.index(right)}


def _could_stand_for(line: str, right: str) -> bool:
    ratio = len(line.strip()) / len(right.strip())
    return _indent(line) == _indent(right) and 1 / _LENGTHS_APART <= ratio <= _LENGTHS_APART


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
