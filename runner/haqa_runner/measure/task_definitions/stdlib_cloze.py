"""Makes the documents of the task `stdlib_cloze` from the standard library's held-out sources."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from haqa_runner.datasets import load_texts

DOCUMENTS = 200
CONTEXT_LINES = 6
CHOICES = 4
_SHORTEST = 12
"""Characters: `else:` and `return` follow anything."""


def build(seed: int = 0, **_: Any) -> dict[str, Any]:
    """The task's splits, as lm-eval's `custom_dataset` wants them; the same for the same seed and Python version."""
    from datasets import Dataset

    documents = cloze_documents(load_texts("builtin://python-stdlib/heldout", seed=seed), seed)
    return {"test": Dataset.from_list(documents[:DOCUMENTS])}


def cloze_documents(texts: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """A document for every few lines of every text, in random order; wrong lines come from the other texts."""
    numbers = random.Random(seed)  # noqa: S311 (reproducible, not secret)
    telling = [[line for line in text.splitlines() if len(line.strip()) >= _SHORTEST] for text in texts]
    documents: list[dict[str, Any]] = []
    for number, text in enumerate(texts):
        lines = text.splitlines()
        own = set(lines)
        foreign = sorted({line for other, found in enumerate(telling) if other != number for line in found} - own)
        for place in range(CONTEXT_LINES, len(lines), CONTEXT_LINES):
            right = lines[place]
            if len(right.strip()) < _SHORTEST or len(foreign) < CHOICES:
                continue
            choices = [right, *numbers.sample(foreign, CHOICES - 1)]
            numbers.shuffle(choices)
            context = "\n".join(lines[place - CONTEXT_LINES : place]) + "\n"
            documents.append({"context": context, "choices": choices, "answer": choices.index(right)})
    numbers.shuffle(documents)
    return documents
