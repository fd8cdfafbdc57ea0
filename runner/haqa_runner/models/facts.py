"""`model_facts`: what a fetched model is made of, and what keeps it from being tuned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from haqa_contract.model_facts import ModelFacts
from haqa_runner.models.architecture.facts import facts_of
from haqa_runner.models.checkpoint import TensorHeader, read_config, read_header, weight_files
from haqa_runner.models.formats import quantized_by

_MODELOPT = "hf_quant_config.json"


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
    method = quantized_by(config, _modelopt(folder), {header.name: header.dtype for header in headers})
    # Packed numbers have other shapes than the matrices that they stand for.
    plain: list[TensorHeader] = headers if method is None else []
    facts = facts_of(config, plain, folder, trust_remote_code=trust_remote_code)
    size = sum(header.size_bytes for header in headers)
    return facts.model_copy(update={"quantized_by": method, "weight_bytes": size})


def _modelopt(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / _MODELOPT).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
