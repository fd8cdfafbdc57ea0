"""A model in transformers, as much of it on the device as fits, then in host memory, and the rest on disk.

Layers come one after the other, so that a pass over the text reads the whole model once, however little memory there
is (accelerate's big model inference). Text goes through in batches of as many windows as the logits leave room for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from haqa_contract import FailureReason
from haqa_contract.failures import TrialFailure
from haqa_runner.measure.scoring import Scores, ScoringWindows
from haqa_runner.models.architecture.building import loading_class
from haqa_runner.progress import ProgressSink
from haqa_runner.quantize.machine import memory_limit_bytes

_DEVICE_SHARE = 0.7
"""Of the device's free memory, for weights; the rest is activations' and logits'."""
_HOST_SHARE = 0.6
_LOGITS_BYTES = 2**30
_BYTES_PER_LOGIT = 4 * 3
"""In 32 bit, once as they are, once as probabilities, and what sorting them takes."""


@contextmanager
def loaded(
    folder: Path, scratch: Path, *, trust_remote_code: bool = False, most_host_bytes: int | None = None
) -> Iterator[Any]:
    """The model in its checkpoint's type, inside the block.

    Args:
        scratch: Where what has to be kept on disk may lie.
        most_host_bytes: Of weights in host memory; None: by what this process may use.
    """
    options = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    with TemporaryDirectory(dir=scratch, prefix="offloaded-") as offload:
        yield (
            loading_class(folder, trust_remote_code)
            .from_pretrained(
                folder,
                dtype="auto",
                device_map="auto",
                max_memory=_budget(most_host_bytes),
                offload_folder=offload,
                **options,
            )
            .eval()
        )


def score(model: Any, windows: ScoringWindows, top: int, progress: ProgressSink) -> Scores:
    """Scores every window as `measure.scoring.score` does through an engine.

    Raises:
        TrialFailure: AccuracyGate, for probabilities that are no numbers.
    """
    found = []
    count = len(windows.tokens)
    size = _batch(windows, int(model.get_output_embeddings().weight.shape[0]))
    for start in range(0, count, size):
        batch = windows.tokens[start : start + size]
        found.append(_scored(model, batch, windows.context, top))
        progress("accuracy", min(1.0, (start + len(batch)) / count), f"{start + len(batch)} of {count} windows")
    ids, logprobs, actual = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if not np.isfinite(actual).all():
        raise TrialFailure(
            FailureReason.ACCURACY_GATE,
            "the unquantized model gives held-out text a probability that is not a number; its weights are broken",
        )
    return Scores(ids, logprobs, actual)


def _scored(model: Any, batch: Sequence[Sequence[int]], context: int, top: int) -> tuple[Any, Any, Any]:
    tokens = torch.tensor(batch)
    with torch.inference_mode():
        logits = model(input_ids=tokens.to(_entrance(model)), use_cache=False).logits[:, context - 1 : -1]
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        targets = tokens[:, context:, None].to(logprobs.device)
        best = logprobs.topk(top, dim=-1)
        actual = logprobs.gather(-1, targets)
        listed = (best.indices == targets).any(-1, keepdim=True)
        ids = torch.cat([best.indices, torch.where(listed, -1, targets)], dim=-1)
        values = torch.cat([best.values, torch.where(listed, -torch.inf, actual)], dim=-1)
    return (
        ids.cpu().numpy().astype(np.int32),
        values.cpu().numpy().astype(np.float32),
        actual[..., 0].cpu().numpy().astype(np.float32),
    )


def _entrance(model: Any) -> torch.device:
    """Where its input goes; from there on accelerate's hooks take it along. What lies on disk is on no device."""
    devices = (parameter.device for parameter in model.parameters())
    return next((device for device in devices if device.type != "meta"), torch.device("cpu"))


def _batch(windows: ScoringWindows, vocabulary: int) -> int:
    return max(1, _LOGITS_BYTES // (len(windows.tokens[0]) * vocabulary * _BYTES_PER_LOGIT))


def _budget(most_host_bytes: int | None) -> dict[int | str, int]:
    """Bytes of weights by device, as accelerate wants them."""
    host = int(memory_limit_bytes() * _HOST_SHARE) if most_host_bytes is None else most_host_bytes
    budget: dict[int | str, int] = {"cpu": host}
    if torch.accelerator.is_available():
        free, _ = torch.accelerator.get_memory_info(0)
        budget[0] = int(free * _DEVICE_SHARE)
    return budget
