"""What transformers says about the model that the engine serves: run by the runner's Python.

    transformers_reference.py make MODEL            a tiny Llama whose next-token distributions are sharp, not flat
    transformers_reference.py judge REQUEST OUT     perplexity, and true KL divergence from a disturbed copy of it

`judge` scores the windows of a TrialRequest's evaluation with the model, and with a copy whose output layer is
disturbed. The copy plays the baseline: its top-k log-probabilities are saved as the request's reference, as if an
engine had served it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from haqa_contract import TrialRequest
from haqa_runner.measure.reference import save_reference
from haqa_runner.measure.scoring import Scores, scoring_windows
from haqa_runner.measure.tokens import load_tokenizer

SHARPNESS = 12.0
DISTURBANCE = 0.3


def make(folder: Path) -> None:
    from tests.tiny_model import make_tiny_llama

    make_tiny_llama(folder, hidden=256, layers=2, vocab=1024)
    file = folder / "model.safetensors"
    weights = load_file(file)
    weights["lm_head.weight"] *= SHARPNESS
    save_file(weights, file, metadata={"format": "pt"})


def judge(request_file: Path, out: Path) -> None:
    request = TrialRequest.model_validate_json(request_file.read_bytes())
    folder = Path(request.directory) / "model"
    windows = scoring_windows(request.evaluation, load_tokenizer(folder), None)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    ours = _log_probabilities(model, windows)
    torch.manual_seed(0)
    with torch.no_grad():
        head = model.lm_head.weight
        head += DISTURBANCE * head.float().std() * torch.randn(head.shape).to(head.dtype)
    theirs = _log_probabilities(model, windows)
    targets = torch.tensor([window[windows.context :] for window in windows.tokens])
    actual = ours.gather(-1, targets[..., None])[..., 0]
    kl = (theirs.exp() * (theirs - ours)).sum(-1)
    assert request.reference is not None
    save_reference(request.reference, _top(theirs, targets, request.evaluation.top_logprobs), windows.digest)
    agreement = (theirs.argmax(-1) == ours.argmax(-1)).double().mean().item()
    figures = {
        "perplexity": (-actual).mean().exp().item(),
        "klDivergence": kl.mean().item(),
        "topTokenAgreement": agreement,
    }
    out.write_text(json.dumps(figures))


def _log_probabilities(model: Any, windows: Any) -> torch.Tensor:
    """[window, position, token], in double precision."""
    with torch.inference_mode():
        logits = torch.cat([model(torch.tensor([window])).logits for window in windows.tokens])
    return torch.log_softmax(logits[:, windows.context - 1 : -1].double(), dim=-1)


def _top(logprobs: torch.Tensor, targets: torch.Tensor, count: int) -> Scores:
    best = logprobs.topk(count, dim=-1)
    actual = logprobs.gather(-1, targets[..., None])
    listed = (best.indices == targets[..., None]).any(-1, keepdim=True)
    ids = torch.cat([best.indices, torch.where(listed, -1, targets[..., None])], dim=-1)
    values = torch.cat([best.values, torch.where(listed, -torch.inf, actual)], dim=-1)
    return Scores(ids.numpy().astype(np.int32), values.numpy().astype(np.float32), actual[..., 0].numpy())


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        judge(Path(sys.argv[2]), Path(sys.argv[3]))
