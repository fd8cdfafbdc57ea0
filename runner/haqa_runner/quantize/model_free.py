"""Plain rounding file by file, for models that fit no memory: llm-compressor's model-free path.

Nothing but the files is looked at, so that what `Linear` would have meant is said by name: every matrix of the files
that is not one of `Matrix.rounded` is left alone, and where names do not account for all of those, nothing is made.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from compressed_tensors.config import CompressionFormat
from compressed_tensors.quantization import QuantizationConfig, QuantizationStatus, preset_name_to_scheme
from llmcompressor.entrypoints.model_free import model_free_ptq

from haqa_contract import FailureReason
from haqa_contract.failures import TrialFailure
from haqa_contract.model_facts import Matrix, ModelFacts
from haqa_runner.bars import Bar, heard_bars
from haqa_runner.models.checkpoint import TensorHeader, read_header, weight_files
from haqa_runner.models.facts import prediction_names
from haqa_runner.progress import ProgressSink
from haqa_runner.quantize.compressor import Job, copy_beside_weights, log_here, regrouped
from haqa_runner.quantize.recipes import PACKED_PRESETS, ModifierPlan

log = logging.getLogger(__name__)

_WEIGHT = ".weight"
_NUMBER = re.compile(r"\.\d+(?=\.|$)")
_EXPERTS = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}
"""What some checkpoints (Mixtral, MiniMax-M2) call the parts of an expert, and transformers' classes."""


def compress(job: Job, facts: ModelFacts, target: Path, progress: ProgressSink) -> None:
    """Rounds `job.source` into the folder `target`; memory holds one file of it at a time, and what becomes of it.

    Raises:
        TrialFailure: QuantizationFailed, where the names in the files are not those of the model's class.
    """
    log_here()
    (plan,) = job.plans
    headers = [header for path in weight_files(job.source, str(job.source)) for header in read_header(path, "")]
    left = left_alone(facts, headers, prediction_names(job.source, str(job.source)))
    with heard_bars(_told(progress)):
        model_free_ptq(job.source, target, config=_config(plan, left), device=_device())
    copy_beside_weights(job, target)


def left_alone(facts: ModelFacts, headers: Iterable[TensorHeader], prediction: Iterable[str]) -> list[str]:
    """Modules of the files that are not rounded, each by its own name.

    Raises:
        TrialFailure: QuantizationFailed, where the files do not hold every matrix that the class has to be rounded.
    """
    wanted = [matrix for matrix in facts.matrices if matrix.rounded]
    found: Counter[Matrix] = Counter()
    left = []
    beside = set(prediction)
    for header in headers:
        if not header.name.endswith(_WEIGHT):
            continue
        module = header.name.removesuffix(_WEIGHT)
        matrix = None if header.name in beside else _matrix_of(module, header.shape, wanted)
        if matrix is None:
            left.append(module)
        else:
            found[matrix] += 1
    missing = next((matrix for matrix in wanted if found[matrix] != matrix.count), None)
    if missing is not None:
        raise TrialFailure(
            FailureReason.QUANTIZATION_FAILED,
            f"this model does not fit into memory, and cannot be rounded file by file either: its class has "
            f"{missing.count} matrices {missing.name} of {missing.rows} x {missing.columns}, of which its files have "
            f"{found[missing]} one by one; quantize where there is more memory",
        )
    return left


def _matrix_of(module: str, shape: Sequence[int], known: Iterable[Matrix]) -> Matrix | None:
    """The matrix of the class that a module of the files is, by the end of its name and its shape."""
    plain = _NUMBER.sub("", module)
    names = [plain, re.sub(r"^.*\bexperts\.", "experts.", plain)]
    names += [f"experts.{_EXPERTS[last]}" for last in [plain.rpartition(".")[2]] if last in _EXPERTS]
    for matrix in known:
        named = f"experts.{matrix.short_name}" if matrix.routed else matrix.name
        if tuple(shape) == (matrix.rows, matrix.columns) and any(_ends_with(name, named) for name in names):
            return matrix
    return None


def _ends_with(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _config(plan: ModifierPlan, left: list[str]) -> QuantizationConfig:
    assert plan.preset is not None
    # What engines read there, and here it means every matrix; which are meant is said by what is left alone.
    targets = list(plan.targets)
    scheme = preset_name_to_scheme(plan.preset, targets)
    if plan.group_size is not None:
        scheme = regrouped(plan.preset, plan.group_size, targets)
    if plan.preset in PACKED_PRESETS:
        scheme = scheme.model_copy(update={"format": CompressionFormat.pack_quantized.value})
    return QuantizationConfig(
        config_groups={"group_0": scheme}, quantization_status=QuantizationStatus.INITIALIZED, ignore=left
    )


def _device() -> str:
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return str(found) if found is not None else "cpu"


def _told(progress: ProgressSink) -> Callable[[Bar], None]:
    def tell(bar: Bar) -> None:
        if bar.total:
            progress(
                "quantize", min(0.99, bar.share), f"{bar.description.lower()}, file {bar.done:.0f} of {bar.total:.0f}"
            )

    return tell
