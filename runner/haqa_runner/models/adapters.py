"""LoRA adapters: whether one can be served with a model, by its configuration and its file's header alone.

What vLLM does not implement is refused here with a sentence (`vllm/lora/peft_helper.py`, 0.32), since an engine that
dies of it minutes later does not say which adapter it was.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haqa_contract import FailureReason
from haqa_contract.failures import TrialFailure, cause_of
from haqa_contract.model_facts import ModelFacts
from haqa_runner.models.checkpoint import ADAPTER_FILES, read_header

LARGEST_RANK = 512
"""vLLM's `--max-lora-rank`."""
_WEIGHTS = "adapter_model.safetensors"
_INPUTS = re.compile(r"^(?:base_model\.model\.)?(?P<path>.+)\.lora_A(?:\.\w+)?(?:\.weight)?$")
_UNSUPPORTED = {
    "use_dora": "it is a DoRA",
    "lora_bias": "it has biases",
    "layer_replication": "it repeats layers",
    "alora_invocation_tokens": "it is an activated LoRA (aLoRA)",
    "use_bdlora": "it is block-diagonal (BD-LoRA)",
    "use_qalora": "it is a QA-LoRA",
}
_BESIDE_LAYERS = frozenset({"lm_head", "embed_tokens"})
"""`LogitsProcessorWithLoRA` takes a row for each sampled token; for log-probabilities of a prompt there are more."""
_KEPT_HEADS = frozenset({"classifier", "score"})


@dataclass(frozen=True)
class Adapter:
    """Attributes:
    rank: Largest of its matrices'.
    targets: Modules that it changes, by the last part of their names.
    """

    rank: int
    targets: tuple[str, ...]


def check_adapter(folder: Path, uri: str, facts: ModelFacts) -> Adapter:
    """What the adapter is, where it can be served with the model.

    Args:
        folder: Holds adapter_config.json and adapter_model.safetensors.
        uri: How the user calls it.
        facts: Of the model that it is served with.

    Raises:
        TrialFailure: ModelFetch, with what is missing, not supported by vLLM, or does not fit the model.
    """
    config = _config(folder, uri)
    kind = str(config.get("peft_type", "")).upper()
    if kind != "LORA":
        raise _refused(
            uri, f"it is a {kind or 'nameless'} adapter, and vLLM serves LoRA alone; merge it into the model"
        )
    reasons = [reason for name, reason in _UNSUPPORTED.items() if config.get(name)]
    if config.get("bias", "none") != "none":
        reasons.append("it has biases")
    if more := sorted(set(config.get("modules_to_save") or ()) - _KEPT_HEADS):
        reasons.append(f"it brings whole modules ({', '.join(more)})")
    if reasons:
        raise _refused(uri, f"vLLM does not serve it, since {' and '.join(reasons)}; merge it into the model")
    return _matrices(folder, uri, facts)


def _config(folder: Path, uri: str) -> dict[str, Any]:
    path = folder / ADAPTER_FILES.needed
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        what = (
            "it holds a whole model; name that in model.uri" if (folder / "config.json").is_file() else "it is not one"
        )
        raise _refused(uri, f"no {path.name} in {folder}: {what}") from None
    except (OSError, ValueError) as error:
        raise _refused(uri, f"{path} cannot be read ({cause_of(error)}); fetch or copy it again") from error
    if not isinstance(found, dict):
        raise _refused(uri, f"{path} is not a JSON object; fetch or copy it again")
    return found


def _matrices(folder: Path, uri: str, facts: ModelFacts) -> Adapter:
    weights = folder / _WEIGHTS
    if not weights.is_file():
        raise _refused(uri, f"no {_WEIGHTS} in {folder}; save the adapter as safetensors (peft's save_pretrained does)")
    inputs: dict[str, set[int]] = {}
    for matrix in facts.matrices:
        inputs.setdefault(matrix.short_name, set()).add(matrix.columns)
    ranks: dict[str, int] = {}
    for header in read_header(weights, uri):
        match = _INPUTS.match(header.name)
        if match is None or len(header.shape) != 2:
            continue
        name, (own, columns) = match["path"].rpartition(".")[2], header.shape
        ranks[name] = max(own, ranks.get(name, 0))
        # Experts in one tensor go by other names; what is not known is left to the engine.
        if name in inputs and columns not in inputs[name]:
            known = " or ".join(map(str, sorted(inputs[name])))
            raise _refused(uri, f"its {name} takes {columns} inputs, and the model's {known}: it is of another model")
    if not ranks:
        raise _refused(uri, f"{weights} has no LoRA matrices (lora_A); fetch or copy it again")
    if beyond := sorted(ranks.keys() & _BESIDE_LAYERS):
        raise _refused(
            uri,
            f"it changes {beyond[0]}, with which vLLM cannot say how likely it finds a prompt, by which accuracy is "
            "measured; merge it into the model, or train it without",
        )
    if max(ranks.values()) > LARGEST_RANK:
        raise _refused(
            uri, f"its rank is {max(ranks.values())}, and vLLM serves up to {LARGEST_RANK}; merge it into the model"
        )
    return Adapter(max(ranks.values()), tuple(sorted(ranks)))


def _refused(uri: str, why: str) -> TrialFailure:
    return TrialFailure(FailureReason.MODEL_FETCH, f"spec.model.adapters: {uri}: {why}")
