"""Whether two checkpoints read text alike, so that what they say of the same tokens can be compared."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from haqa_contract.failures import cause_of

log = logging.getLogger(__name__)

_FILE = "tokenizer.json"
_PARTS = ("model", "normalizer", "pre_tokenizer", "added_tokens")
_SAMPLE = "def größe(x):\n\treturn 3.14 * x  # naïve — 東京 🙂"
"""Spaces, digits and letters that tokenizers treat differently."""


def tokenizers_differ(one: Path, other: Path) -> str | None:
    """How they differ in a few words; None where they do not, or one cannot be loaded.

    Args:
        one, other: Folders of checkpoints.
    """
    if _same_file(one, other):
        return None
    first, second = _tokenizer(one), _tokenizer(other)
    if first is None or second is None:
        return None
    vocabularies = first.get_vocab(), second.get_vocab()
    if vocabularies[0] != vocabularies[1]:
        unlike = len(vocabularies[0].items() ^ vocabularies[1].items())
        return f"{unlike:,} entries of its tokenizer's vocabulary are others"
    if first.encode(_SAMPLE) != second.encode(_SAMPLE):
        return "its tokenizer cuts text differently"
    return None


def _same_file(one: Path, other: Path) -> bool:
    try:
        first, second = (json.loads((folder / _FILE).read_bytes()) for folder in (one, other))
        return all(first.get(part) == second.get(part) for part in _PARTS)
    except (OSError, ValueError, AttributeError):
        return False


def _tokenizer(folder: Path) -> Any:
    try:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever a tokenizer's own code raises: the trial will tell
        log.info("%s: no tokenizer to compare (%s)", folder, cause_of(error))
        return None
