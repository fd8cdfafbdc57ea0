"""Layers that guess further tokens (MTP), which transformers does not load: copied from the checkpoint as they are.

They are small beside the model, decide how many guesses are taken, and stay in 16 bit. The artifact's config names them
among what is not quantized, so that an engine which loads them looks for plain weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from haqa_runner.models.checkpoint import INDEX, TensorHeader, read_header, weight_files
from haqa_runner.models.facts import prediction_names
from haqa_runner.quantize.ignored import leave_unquantized
from haqa_runner.quantize.layer_patterns import patterns_of

_SCALES = (".weight_scale", ".weight_packed")
"""What every quantized matrix has one of."""

FILE = "model-prediction-layers.safetensors"


def keep_prediction_layers(source: Path, target: Path) -> int:
    """Copies what `source` has of such layers and `target`, a saved artifact, lacks; returns how many tensors."""
    wanted = prediction_names(source, str(source))
    missing = wanted - {header.name for _, header in _headers(target)}
    if not missing:
        return 0
    where = {header.name: path for path, header in _headers(source)}
    tensors: dict[str, Any] = {}
    for path in sorted({where[name] for name in missing}):
        with safe_open(path, framework="pt") as file:
            tensors |= {name: file.get_tensor(name) for name in sorted(missing) if where[name] == path}
    save_file(tensors, target / FILE, metadata={"format": "pt"})
    _write_index(target)
    quantized = {name.rpartition(".")[0] for _, header in _headers(target) if (name := header.name).endswith(_SCALES)}
    leave_unquantized(target, patterns_of(missing, quantized))
    return len(missing)


def _headers(folder: Path) -> Iterator[tuple[Path, TensorHeader]]:
    for path in weight_files(folder, str(folder)):
        for header in read_header(path, str(folder)):
            yield path, header


def _write_index(folder: Path) -> None:
    """Says in which file each tensor is, as a checkpoint of several files does."""
    files = sorted(path for path in folder.glob("*.safetensors"))
    found = [(path.name, header) for path in files for header in read_header(path, str(folder))]
    index = {
        "metadata": {"total_size": sum(header.size_bytes for _, header in found)},
        "weight_map": {header.name: name for name, header in sorted(found, key=lambda one: one[1].name)},
    }
    (folder / INDEX).write_text(json.dumps(index, indent=2))
