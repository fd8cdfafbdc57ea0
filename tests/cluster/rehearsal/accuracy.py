"""How much worse a model of 70 billion parameters guesses text, by how its weights were rounded.

Ratios to the unquantized model's perplexity, of the size that is published for Llama 3 70B:
- FP8: within a few tenths of a per cent (arXiv 2411.02355, "Give Me BF16 or Give Me Death?").
- INT8 for every channel: this family's outliers break it unless they are smoothed first (arXiv 2408.15301, "The
  Uniqueness of LLaMA3-70B Series with Per-Channel Quantization").
- 4-bit weights: some 10 % by rounding, some 3 % with GPTQ, in groups of 128 (arXiv 2404.14047).
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.cluster.rehearsal.checkpoints import Checkpoint

PERPLEXITY = 5.21
"""Of the unquantized model; which text that is, nobody needs to know."""
_GPTQ, _SMOOTHQUANT = "GPTQModifier", "SmoothQuantModifier"
_FP8_CACHE = 1.002


def perplexity(checkpoint: Checkpoint, cache_dtype: str) -> float:
    """Of a checkpoint, by its number format and what llm-compressor wrote of the recipe."""
    cache = _FP8_CACHE if cache_dtype.startswith("fp8") else 1.0
    return PERPLEXITY * cache * _ratio(checkpoint, checkpoint.recipe)


def _ratio(checkpoint: Checkpoint, recipe: Sequence[str]) -> float:
    found = checkpoint.format
    if found.weight_bits >= 16:
        return 1.0
    if found.weight_bits <= 4:
        return 1.031 if _GPTQ in recipe else 1.104
    if found.activations == "int8":
        if _SMOOTHQUANT in recipe:
            return 1.018
        return 1.37 if _GPTQ in recipe else 1.62
    return 1.004
