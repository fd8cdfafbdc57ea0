"""`model_facts`: what a fetched model is made of, and what keeps it from being tuned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from haqa_contract.model_facts import ModelFacts
from haqa_runner.models.architecture.facts import facts_of, prediction_layers
from haqa_runner.models.checkpoint import TensorHeader, read_config, read_header, weight_files
from haqa_runner.models.formats import BESIDE_CONFIG, quantization


def model_facts(folder: Path, uri: str, *, trust_remote_code: bool = False) -> ModelFacts:
    """Asks the model's class, its configuration and the headers of its files; nothing is loaded.

    Args:
        folder: Holds config.json and safetensors weights.
        uri: How the user calls it.
        trust_remote_code: Whether code in the folder may run.

    Raises:
        TrialFailure: ModelFetch, where config or weights cannot be read.
    """
    config = read_config(folder, uri)
    headers = [header for path in weight_files(folder, uri) for header in read_header(path, uri)]
    found = quantization(config, beside_config(folder), {header.name: header.dtype for header in headers})
    # Packed numbers have other shapes than the matrices that they stand for.
    plain: list[TensorHeader] = headers if found is None else []
    facts = facts_of(config, plain, folder, trust_remote_code=trust_remote_code)
    size = sum(header.size_bytes for header in headers)
    # Whoever saves a checkpoint anew may leave such layers out, and the config as it was.
    predicted = facts.predicted_tokens if prediction_layers(config, headers) else 0
    return facts.model_copy(update={"quantization": found, "weight_bytes": size, "predicted_tokens": predicted})


def prediction_names(folder: Path, uri: str) -> set[str]:
    """Tensors of layers that guess further tokens, which transformers does not load."""
    headers = [header for path in weight_files(folder, uri) for header in read_header(path, uri)]
    return prediction_layers(read_config(folder, uri), headers)


def beside_config(folder: Path) -> dict[str, Any] | None:
    """What a file beside config.json says of how the checkpoint is quantized."""
    for name in BESIDE_CONFIG:
        try:
            found = json.loads((folder / name).read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and found:
            return found
    return None
