"""Prompts for the load test, as token ids.

Synthetic prompts are real text of exactly the length asked for, behind a few random tokens of their own: no two begin
alike, so prefix caching cannot serve one from another, which is what traffic without shared prefixes looks like. The
random numbers come from the workload's seed, the level and the window, so every configuration sees the same prompts in
the same windows, and no window sees those of another.

A dataset's prompts are taken as they are, and prefix caching with them.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

from haqa_contract import FailureReason, Workload
from haqa_contract.failures import TrialFailure
from haqa_runner.datasets import load_texts
from haqa_runner.measure.tokens import ModelTokenizer

_TEXT = "builtin://python-stdlib/heldout"
_POOL_TOKENS = 200_000
"""As much text as prompts are cut from."""
_OWN_TOKENS = 8
"""Random tokens in front of a synthetic prompt: 1e4 to 1e5 choices each, so two prompts never begin alike."""


@dataclass(frozen=True)
class PromptSource:
    """Where prompts come from.

    Attributes:
        pool: Synthetic: tokens of real text. Empty with a dataset.
        dataset: The dataset's prompts. Empty without one.
        prefix: Beginning-of-sequence token, where the model wants one.
        ordinary: Token ids that are text.
        length: Tokens of a synthetic prompt; the most of a dataset's.
    """

    pool: Sequence[int]
    dataset: Sequence[Sequence[int]]
    prefix: tuple[int, ...]
    ordinary: tuple[int, ...]
    length: int
    seed: int

    @property
    def cacheable(self) -> bool:
        """Whether prompts may share beginnings, by the user's choice of dataset."""
        return bool(self.dataset)

    def window(self, *place: int | str) -> Prompts:
        """Prompts without end; the same for the same place (level, repeat, attempt), others for another."""
        return Prompts(self, place)

    def share(self, place: tuple[int | str, ...], index: int, of: int) -> Iterator[Sequence[int]]:
        """Every `of`-th prompt of a place from `index` on: what the shares have together is the whole, once."""
        numbers = random.Random(repr((self.seed, *place)))  # noqa: S311 (reproducible, not secret)
        if self.dataset:
            return islice(self._from_dataset(numbers), index, None, of)
        return self._synthetic(numbers, index, of)

    def _synthetic(self, numbers: random.Random, index: int, of: int) -> Iterator[Sequence[int]]:
        wanted = self.length - len(self.prefix)
        for number in count():
            own = numbers.choices(self.ordinary, k=min(_OWN_TOKENS, wanted))
            text = wanted - len(own)
            start = numbers.randrange(max(1, len(self.pool) - text))
            if number % of == index:
                yield (*self.prefix, *own, *self.pool[start : start + text])

    def _from_dataset(self, numbers: random.Random) -> Iterator[Sequence[int]]:
        while True:
            yield from map(tuple, numbers.sample(self.dataset, len(self.dataset)))


@dataclass(frozen=True)
class Prompts:
    """The prompts of one window, for one process or for several."""

    source: PromptSource
    place: tuple[int | str, ...]

    def share(self, index: int, of: int) -> Iterator[Sequence[int]]:
        """One of `of` shares, which have no prompt in common."""
        return self.source.share(self.place, index, of)

    def __iter__(self) -> Iterator[Sequence[int]]:
        return self.share(0, 1)


def prompt_source(workload: Workload, tokenizer: ModelTokenizer, max_model_len: int | None) -> PromptSource:
    """Loads what prompts are made of.

    Raises:
        TrialFailure: the dataset cannot be used, or prompt and answer are longer than the engine takes (LoadErrors).
    """
    whole = workload.input_tokens + workload.output_tokens
    if max_model_len is not None and whole > max_model_len:
        raise TrialFailure(
            FailureReason.LOAD_ERRORS,
            f"workload.inputTokens {workload.input_tokens} and outputTokens {workload.output_tokens} are together more "
            f"than the engine's max-model-len {max_model_len}; lower them, raise serving.maxModelLen, or give the "
            "engine's KV cache more memory",
        )
    encoded = _encoded(workload, tokenizer)
    return PromptSource(
        pool=() if workload.dataset else _pool(encoded, workload.input_tokens),
        dataset=encoded if workload.dataset else (),
        prefix=tokenizer.prefix[: workload.input_tokens - 1],
        ordinary=tuple(sorted(set(range(tokenizer.size)) - tokenizer.special)),
        length=workload.input_tokens,
        seed=workload.seed,
    )


def _encoded(workload: Workload, tokenizer: ModelTokenizer) -> list[Sequence[int]]:
    """The dataset's prompts cut to length, or texts enough for a pool; four bytes a token, since every process of the
    load generator has them."""
    own = workload.dataset is not None
    texts = load_texts(workload.dataset or _TEXT, seed=workload.seed, reason=FailureReason.LOAD_ERRORS)
    encoded: list[Sequence[int]] = []
    tokens = 0
    for text in texts:
        ids = array("i", tokenizer.encode(text, own))
        encoded.append(ids[: workload.input_tokens] if own else ids)
        tokens += len(ids)
        if not own and tokens > _POOL_TOKENS:
            break
    return [ids for ids in encoded if ids]


def _pool(encoded: Sequence[Sequence[int]], length: int) -> Sequence[int]:
    pool = array("i", (token for ids in encoded for token in ids))
    while len(pool) < 2 * length:
        pool += pool
    return pool
