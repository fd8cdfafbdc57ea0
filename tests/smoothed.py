"""How much smoothing alone changes what models compute, in float32: run by the runner's Python.

.venvs/runner/bin/python -m tests.smoothed FOLDER...

Prints a line of JSON: name of the folder -> `smoothquant`, the change of its logits, none where smoothing is right; for
some families `awq` and `rtn`, the change by 8-bit weights with and without AWQ before it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

_TOKENS = 128
_WEIGHTS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
_WITH_AWQ = ("llama", "qwen3-moe", "mixtral", "gpt-oss")


def changed(folder: Path, recipe: list[Any]) -> float:
    """How far logits move, as a share of what they were; norms are uneven, so that there is something to smooth."""
    import torch
    from llmcompressor import oneshot
    from llmcompressor.core import reset_session
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer

    from haqa_runner.models.architecture.building import loading_class

    torch.manual_seed(0)
    model = loading_class(folder, False).from_pretrained(folder, dtype=torch.float32)
    for name, parameter in model.named_parameters():
        if "norm" in name and parameter.ndim == 1:
            parameter.data.mul_(0.1 + 4 * torch.rand_like(parameter)).add_(torch.rand_like(parameter))
        elif parameter.ndim > 1:
            parameter.data.mul_(2)
    tokens = torch.randint(30, 300, (1, _TOKENS))
    samples = [{"input_ids": torch.randint(30, 300, (_TOKENS,))} for _ in range(4)]
    with torch.no_grad():
        before = model(input_ids=tokens).logits.clone()
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
            # AWQ pins memory for an accelerator, which is not to be had here.
            with patch.object(torch.Tensor, "pin_memory", lambda tensor, *_: tensor):
                oneshot(model=model, processor=tokenizer, recipe=recipe, dataset=DataLoader(samples, batch_size=1))
        finally:
            reset_session()
        after = model(input_ids=tokens).logits
    return float((after - before).norm() / before.norm())


def changes(folder: Path) -> dict[str, float]:
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

    from haqa_runner.models.facts import model_facts
    from haqa_runner.quantize.recipes import left_alone

    def rounding() -> Any:
        ignore = list(left_alone(model_facts(folder, str(folder))))
        groups = {"all": {"targets": ["Linear"], "weights": _WEIGHTS}}
        return QuantizationModifier(config_groups=groups, ignore=ignore)

    found = {"smoothquant": changed(folder, [SmoothQuantModifier(smoothing_strength=0.8)])}
    if folder.name in _WITH_AWQ:
        found |= {"rtn": changed(folder, [rounding()]), "awq": changed(folder, [AWQModifier(), rounding()])}
    return found


def main() -> int:
    print(json.dumps({Path(folder).name: changes(Path(folder)) for folder in sys.argv[1:]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
