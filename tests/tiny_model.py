"""Makes a small Llama with random weights and a real tokenizer: something for engines to load in a second.

Needs torch and transformers: run by the runner's Python (`python tests/tiny_model.py PATH --hidden 256`), or imported
by code that runs there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SIZES = {"hidden": 256, "layers": 2, "intermediate": 512, "vocab": 1024, "heads": 4, "seed": 0}
TRAINING_TEXT = "builtin://python-stdlib/calibration"


def make_tiny_llama(
    path: Path,
    *,
    hidden: int = 256,
    layers: int = 2,
    intermediate: int = 512,
    vocab: int = 1024,
    heads: int = 4,
    positions: int = 2048,
    seed: int = 0,
) -> Path:
    """Writes a Llama checkpoint in bfloat16 to `path`; the same arguments make the same bytes.

    The weights are random, so the model's text is noise, but its shapes, files and tokenizer are those of a real one.
    """
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizer_of(vocab)
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        intermediate_size=intermediate,
        vocab_size=vocab,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=positions,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, temperature=0.7, do_sample=True
    )
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def tokenizer_of(vocab: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<pad>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(_text(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def _text() -> Iterator[str]:
    from haqa_runner.datasets import load_texts

    yield from load_texts(TRAINING_TEXT, limit=6)


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes a small random Llama for tests.")
    parser.add_argument("path", type=Path)
    for name, default in _SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    given = vars(parser.parse_args())
    make_tiny_llama(given.pop("path"), **given)


if __name__ == "__main__":
    main()
