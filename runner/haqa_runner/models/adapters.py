"""LoRA adapters: whether one can be served with a model, by its configuration and its file's header alone.

What vLLM does not implement is refused here with a sentence (`vllm/lora/peft_helper.py`, 0.32), since an engine that
dies of it minutes later does not say which adapter it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
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
_MATRIX = re.compile(r"^(?:base_model\.model\.)?(?P<path>.+)\.lora_(?P<side>[AB])\.weight$")
_EMBEDDING = re.compile(r"lora_embedding_[AB]$")
_NAME = re.compile(r"^[A-Za-z0-9_]+$")
_PLAIN_STARTS = frozenset({"gaussian", "eva", "orthogonal", "mica", "lora_ga"})
"""Values of `init_lora_weights` that leave the model's own weights as they were."""
_UNSUPPORTED = {
    "use_dora": "it is a DoRA",
    "lora_bias": "it has biases",
    "layer_replication": "it repeats layers",
    "alora_invocation_tokens": "it is an activated LoRA (aLoRA)",
    "use_bdlora": "it is block-diagonal (BD-LoRA)",
    "use_qalora": "it is a QA-LoRA",
    "trainable_token_indices": "it changes single tokens",
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
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower() not in _PLAIN_STARTS:
        reasons.append(f"it changed the model's own weights when it began (init_lora_weights {start})")
    brought = config.get("modules_to_save") or ()
    if more := sorted({str(name) for name in brought} - _KEPT_HEADS):
        reasons.append(f"it brings whole modules ({', '.join(more)})")
    if reasons:
        raise _refused(uri, f"vLLM does not serve it, since {' and '.join(reasons)}; merge it into the model")
    return Adapter(_rank(config, uri), _targets(folder, uri, facts))


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


def _rank(config: Mapping[str, Any], uri: str) -> int:
    """As vLLM reads it: the largest of `r` and its exceptions."""
    pattern = config.get("rank_pattern")
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else ())]
    if not all(isinstance(rank, int) and not isinstance(rank, bool) and rank > 0 for rank in ranks):
        raise _refused(uri, f"adapter_config.json says rank {config.get('r')!r}; a rank is a whole number above 0")
    if max(ranks) > LARGEST_RANK:
        raise _refused(uri, f"its rank is {max(ranks)}, and vLLM serves up to {LARGEST_RANK}; merge it into the model")
    return int(max(ranks))


def _targets(folder: Path, uri: str, facts: ModelFacts) -> tuple[str, ...]:
    """Modules that it changes, by the last part of their names; all experts are one."""
    weights = folder / _WEIGHTS
    if not weights.is_file():
        raise _refused(uri, f"no {_WEIGHTS} in {folder}; save the adapter as safetensors (peft's save_pretrained does)")
    inputs: dict[str, set[int]] = {}
    for matrix in facts.matrices:
        inputs.setdefault(matrix.short_name, set()).add(matrix.columns)
    found: set[str] = set()
    for header in read_header(weights, uri):
        match = _MATRIX.match(header.name)
        if match is None:
            _check_other(header.name, uri)
            continue
        parts = match["path"].split(".")
        name = "experts" if "experts" in parts else parts[-1]
        if not _NAME.match(name):
            raise _refused(uri, f"its tensor {header.name[:100]!r} names no module; fetch the adapter again")
        found.add(name)
        # Experts in one tensor go by other names and shapes; what is not known is left to the engine.
        if match["side"] == "A" and name in inputs and header.shape[-1] not in inputs[name]:
            known = " or ".join(map(str, sorted(inputs[name])))
            own = header.shape[-1]
            raise _refused(uri, f"its {name} takes {own} inputs, and the model's {known}: it is of another model")
    if not found:
        raise _refused(uri, f"{weights} has no LoRA matrices (lora_A); fetch or copy it again")
    if beyond := sorted(found & _BESIDE_LAYERS):
        raise _beside_layers(uri, beyond[0])
    return tuple(sorted(found))


def _check_other(tensor: str, uri: str) -> None:
    """Of what is no LoRA matrix, vLLM reads the heads of classifiers alone."""
    if _EMBEDDING.search(tensor):
        raise _beside_layers(uri, "its embeddings")
    if tensor.split(".")[-2:-1] and tensor.split(".")[-2] in _KEPT_HEADS:
        return
    raise _refused(uri, f"vLLM does not read its tensor {tensor[:100]}; merge it into the model")


def _beside_layers(uri: str, what: str) -> TrialFailure:
    return _refused(
        uri,
        f"it changes {what}, with which vLLM cannot say how likely it finds a prompt, by which accuracy is measured; "
        "merge it into the model, or train it without",
    )


def _refused(uri: str, why: str) -> TrialFailure:
    return TrialFailure(FailureReason.MODEL_FETCH, f"spec.model.adapters: {uri}: {why}")
