"""Rounds a model as a whole and file by file, and says where the two differ: run by the runner's Python.

    python -m tests.integration.rounded_by_file MODEL OUT SCHEME[:GROUP] ...

Prints one JSON object: scheme -> names of tensors that are not the same, or `refused: …`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from haqa_contract import Calibration, Configuration
from haqa_contract.failures import TrialFailure
from haqa_runner.models.facts import model_facts
from haqa_runner.quantize import compressor, model_free
from haqa_runner.quantize.recipes import recipe


def main() -> None:
    model, out, *schemes = sys.argv[1:]
    print(json.dumps({scheme: _differences(Path(model), Path(out) / scheme, scheme) for scheme in schemes}))


def _differences(model: Path, out: Path, scheme: str) -> list[str] | str:
    name, _, group = scheme.partition(":")
    facts = model_facts(model, f"file://{model}")
    plans = recipe(Configuration.of(name, "rtn", int(group) if group else None), facts, accelerator=False)
    job = compressor.Job(model, plans, Calibration(), [])
    whole, by_file = out / "whole", out / "by-file"
    for folder in (whole, by_file):
        folder.mkdir(parents=True)
    compressor.compress(job, whole, _silent)
    try:
        model_free.compress(job, facts, by_file, _silent)
    except TrialFailure as error:
        return f"refused: {error.message}"
    one, other = _tensors(whole), _tensors(by_file)
    known = set(one) & set(other)
    return sorted({*one, *other} - known) + sorted(name for name in known if not _same(one[name], other[name]))


def _tensors(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
    return found


def _same(one: Any, other: Any) -> bool:
    if one.dtype != other.dtype:
        return False
    one, other = (tensor.contiguous().view(torch.uint8) for tensor in (one, other))
    return bool(torch.equal(one, other))


def _silent(phase: str, done: float, message: str = "") -> None:
    return


if __name__ == "__main__":
    main()
