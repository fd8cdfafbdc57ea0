"""The model's tokenizer, as far as measuring needs it.

`tokenizers` alone where the model has a tokenizer.json, which nearly all have: it loads in milliseconds, and importing
transformers takes longer than many a load test.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from haqa_contract import FailureReason
from haqa_contract.failures import TrialFailure, cause_of


@dataclass
class ModelTokenizer:
    """Callable as `datasets.token_windows` wants it.

    Attributes:
        encode: Text and whether to add special tokens -> token ids.
        eos_token_id: None where the model names no end-of-sequence token.
        special: Ids that are no text: beginning and end of sequence, padding, roles of a chat.
        size: Ids run from 0 to one less than this.
    """

    encode: Callable[[str, bool], list[int]]
    eos_token_id: int | None
    special: frozenset[int]
    size: int

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": self.encode(text, add_special_tokens)}

    @cached_property
    def prefix(self) -> tuple[int, ...]:
        """What the tokenizer puts in front of every text: the beginning-of-sequence token, for models that want one.

        Some models are useless without theirs (Gemma), so windows of token ids have to begin with it.
        """
        bare, framed = self.encode("a", False), self.encode("a", True)
        for length in range(len(framed)):
            if framed[length : length + len(bare)] == bare:
                return tuple(framed[:length])
        return ()


def load_tokenizer(folder: Path) -> ModelTokenizer:
    """The tokenizer in a model's folder.

    Raises:
        TrialFailure: there is none, or it cannot be read.
    """
    try:
        return _from_file(folder) if (folder / "tokenizer.json").is_file() else _from_transformers(folder)
    except Exception as error:
        raise TrialFailure(
            FailureReason.ENGINE_LOAD_FAILED,
            f"the tokenizer in {folder} cannot be read ({cause_of(error)}); copy tokenizer.json and "
            "tokenizer_config.json of the original model there",
        ) from error


def _from_file(folder: Path) -> ModelTokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    eos = _eos_token(folder)
    return ModelTokenizer(
        encode=lambda text, special: tokenizer.encode(text, add_special_tokens=special).ids,
        eos_token_id=tokenizer.token_to_id(eos) if eos is not None else None,
        special=frozenset(i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special),
        size=tokenizer.get_vocab_size(with_added_tokens=True),
    )


def _eos_token(folder: Path) -> str | None:
    config = folder / "tokenizer_config.json"
    if not config.is_file():
        return None
    token = json.loads(config.read_text(encoding="utf-8")).get("eos_token")
    return token.get("content") if isinstance(token, dict) else token


def _from_transformers(folder: Path) -> ModelTokenizer:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return ModelTokenizer(
        encode=lambda text, special: list(tokenizer(text, add_special_tokens=special)["input_ids"]),
        eos_token_id=tokenizer.eos_token_id,
        special=frozenset(tokenizer.all_special_ids),
        size=len(tokenizer),
    )
