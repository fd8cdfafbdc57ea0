"""In place of llm-compressor: writes what it would, without a number. The recipe is the runner's own."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.cluster.rehearsal.checkpoints import Checkpoint, Tensor, write

MADE = "made"
"""File of the store with a line for everything that was quantized, a `Making` as JSON."""
_UNFINISHED = "partial"
"""Folder of the store in which artifacts are made."""
_GROUP = 128
_FORMATS: dict[str, tuple[str, int, str | None]] = {
    "W8A8": ("int-quantized", 8, "int"),
    "FP8_DYNAMIC": ("float-quantized", 8, "float"),
    "W4A16": ("pack-quantized", 4, None),
    "W8A16": ("pack-quantized", 8, None),
}
"""compressed-tensors' format, bits of a weight, kind of the activations' numbers, by preset."""
_LAYER = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Making:
    """That an artifact was made.

    Attributes:
        gpus: That the container saw; NVIDIA's alone are seen.
    """

    digest: str
    pod: str
    gpus: int

    @classmethod
    def of(cls, target: Path) -> Making:
        names = os.environ.get("NVIDIA_VISIBLE_DEVICES", "")
        return cls(target.parent.name.partition(".")[0], socket.gethostname(), len(names.split(",")) if names else 0)

    @classmethod
    def all(cls, store: Path) -> list[Making]:
        return [cls(**json.loads(line)) for line in (store / MADE).read_text().splitlines()]


class CannotPlay(Exception):
    """A preset that the rehearsal has no tensors for."""


def job(source: Path, plans: Sequence[Any], *_: object, **__: object) -> SimpleNamespace:
    """As `compressor.Job`."""
    return SimpleNamespace(source=source, plans=tuple(plans))


def compress(job: SimpleNamespace, target: Path, progress: object) -> None:
    """As `compressor.compress`."""
    model = Checkpoint.read(job.source)
    rounding = next(plan for plan in job.plans if plan.preset)
    if rounding.preset not in _FORMATS:
        raise CannotPlay(f"{rounding.preset} is none of {', '.join(_FORMATS)}")
    name, bits, kind = _FORMATS[rounding.preset]
    group = rounding.group_size or _GROUP
    weights = {
        "num_bits": bits,
        "type": "float" if kind == "float" else "int",
        "group_size": group if bits == 4 else None,
    }
    activations = {"num_bits": 8, "type": kind, "dynamic": True} if kind else None
    groups = {"group_0": {"weights": weights, "input_activations": activations, "targets": list(rounding.targets)}}
    found = {
        "quant_method": "compressed-tensors",
        "format": name,
        "config_groups": groups,
        "ignore": list(rounding.ignore),
    }
    tensors = [made for tensor in model.tensors for made in _rounded(tensor, name, group)]
    write(target, {**model.config, "quantization_config": found}, tensors)
    (target / "recipe.yaml").write_text("".join(f"{plan.modifier}:\n" for plan in job.plans))
    if target.parents[1].name == _UNFINISHED:
        with (target.parents[2] / MADE).open("a") as made:
            made.write(json.dumps(asdict(Making.of(target))) + "\n")


def _rounded(tensor: Tensor, kind: str, group: int) -> Iterator[Tensor]:
    """What becomes of one tensor; the decoder's matrices alone are rounded."""
    owner, _, leaf = tensor.name.rpartition(".")
    if leaf != "weight" or owner.rpartition(".")[2] not in _LAYER:
        yield tensor
        return
    rows, columns = tensor.shape
    match kind:
        case "pack-quantized":
            yield Tensor(f"{owner}.weight_packed", "I32", (rows, columns // 8))
            yield Tensor(f"{owner}.weight_scale", "BF16", (rows, columns // group if group > 0 else 1))
            yield Tensor(f"{owner}.weight_shape", "I64", (2,))
        case "int-quantized":
            yield Tensor(f"{owner}.weight", "I8", tensor.shape)
            yield Tensor(f"{owner}.weight_scale", "BF16", (rows, 1))
        case _:
            yield Tensor(f"{owner}.weight", "F8_E4M3", tensor.shape)
            yield Tensor(f"{owner}.weight_scale", "BF16", (rows, 1))
