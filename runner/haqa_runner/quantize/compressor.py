"""The only module that calls llm-compressor: carries out a recipe on a model folder.

Importing it takes long (torch, transformers, llm-compressor); whoever does not quantize does not import it.
"""

from __future__ import annotations

import logging
import os
import random
import re
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from compressed_tensors.config import CompressionFormat
from compressed_tensors.quantization import (
    QuantizationArgs,
    QuantizationScheme,
    QuantizationStrategy,
    preset_name_to_scheme,
)
from llmcompressor import oneshot
from llmcompressor.core import reset_session
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from llmcompressor.modifiers.transform.awq.dynamic_mappings import get_layer_mappings_from_model as awq_mappings
from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier
from loguru import logger as loguru_logger
from torch.utils.data import DataLoader
from transformers import AutoTokenizer

from haqa_contract import Calibration
from haqa_contract.failures import cause_of
from haqa_runner.bars import Bar, heard_bars
from haqa_runner.datasets import token_windows
from haqa_runner.models.architecture.building import loading_class
from haqa_runner.models.checkpoint import model_files
from haqa_runner.progress import ProgressSink
from haqa_runner.quantize.consumers import Smoothing, what_smoothing_changes
from haqa_runner.quantize.experts import keep_expert_names, unjoin_without_weights
from haqa_runner.quantize.ignored import leave_unquantized, plain_linears
from haqa_runner.quantize.machine import multiplies_bfloat16, usable_cores
from haqa_runner.quantize.on_cpu import linear_in_float32
from haqa_runner.quantize.prediction import keep_prediction_layers
from haqa_runner.quantize.recipes import CHANNELWISE, PACKED_PRESETS, Modifier, ModifierPlan, is_artifacts_own

log = logging.getLogger(__name__)

_CLASSES: dict[Modifier, Any] = {
    Modifier.QUANTIZATION: QuantizationModifier,
    Modifier.GPTQ: GPTQModifier,
    Modifier.AWQ: AWQModifier,
    Modifier.SMOOTHQUANT: SmoothQuantModifier,
}
_FP8_KV_CACHE = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False, "symmetric": True}
_AUTOROUND_BATCH = 8
_SHARED = "shared_kv_states"
"""What transformers calls the dictionary in which one layer leaves its keys and values for others (Gemma 3n and 4)."""
_LAYER_BAR = re.compile(r"^\((\d+)/(\d+)\): (Calibrating|Propagating)$")
_LOADED, _ROUNDED = 0.05, 0.9
"""Shares of the work after which the weights are there, and after which they only have to be packed and saved."""


@dataclass(frozen=True)
class Job:
    """One quantization: a model folder, what to do to it, and what to look at meanwhile."""

    source: Path
    plans: tuple[ModifierPlan, ...]
    calibration: Calibration
    texts: Sequence[str]
    """Calibration text; empty if nothing calibrates"""
    trust_remote_code: bool = False
    at_least: int | None = None
    """Fewer samples than `calibration` asks for will do, down to this many; None = they will not"""


def compress(job: Job, target: Path, progress: ProgressSink) -> None:
    """Quantizes `job.source` into the folder `target`, tokenizer and generation settings included.

    Memory: the model is loaded in its checkpoint's type; samples pass one by one, layer by layer, and only their hidden
    states between two layers are kept (`sizes.plan_samples` bounds those). An accelerator holds one layer at a time.
    """
    _prepare(job.calibration.seed)
    passes = sum(plan.calibrates for plan in job.plans)
    with heard_bars(_Stages(passes, progress)), _fast_products():
        options = {"trust_remote_code": job.trust_remote_code, "local_files_only": True}
        tokenizer = AutoTokenizer.from_pretrained(job.source, **options)
        model = loading_class(job.source, job.trust_remote_code).from_pretrained(job.source, dtype="auto", **options)
        try:
            oneshot(
                model=model,
                processor=tokenizer,
                recipe=[_modifier(plan, job.calibration) for plan in job.plans],
                dataset=_samples(job, tokenizer) if passes else None,
                trust_remote_code_model=job.trust_remote_code,
            )
            keep_expert_names(model)
            packed = any(plan.preset in PACKED_PRESETS for plan in job.plans)
            layout = CompressionFormat.pack_quantized.value if packed else None
            plain = plain_linears(model)
            model.save_pretrained(target, save_compressed=True, quantization_format=layout)
        finally:
            reset_session()
    leave_unquantized(target, plain)
    if kept := keep_prediction_layers(job.source, target):
        log.info("%d tensors of prediction layers are kept as they are", kept)
    copy_beside_weights(job, target)


def copy_beside_weights(job: Job, target: Path) -> None:
    """As they are: transformers would write the tokenizer in its own newest form, which other readers may not know."""
    for path in model_files(job.source, code=job.trust_remote_code):
        if not is_artifacts_own(path.name):
            shutil.copyfile(path, target / path.name)


def unsuited_modifiers(model: Any) -> dict[Modifier, str]:
    """Modifiers that would fail on a model, or change what it computes, and a clause that says why.

    Args:
        model: On the meta device; its experts are unjoined.
    """
    unjoin_without_weights(model)
    found = {}
    kinds: set[Any] = {type(module) for module in model.modules()}
    if any(_SHARED in signature(kind.forward).parameters for kind in kinds):
        name = type(model).__name__
        found[Modifier.AUTOROUND] = f"AutoRound tunes layers alone, and those of {name} hand keys and values on"
    for modifier, smoothings in ((Modifier.SMOOTHQUANT, _smoothquant), (Modifier.AWQ, _awq)):
        try:
            resolved = smoothings(model)
        except (RuntimeError, ValueError) as error:  # Their ways of saying no.
            log.info("%s: %s", modifier, error.__cause__ or error)
            resolved = []
        if not resolved:
            found[modifier] = f"llm-compressor finds no layers to smooth in {type(model).__name__}"
        elif changed := _changed(model, resolved):
            found[modifier] = f"llm-compressor would change what {type(model).__name__} computes: {changed}"
    return found


def _smoothquant(model: Any) -> list[Smoothing]:
    modifier = SmoothQuantModifier()
    modifier.mappings = modifier._infer_mappings_from_model(model)
    return [Smoothing(one.smooth_layer, one.balance_layers) for one in modifier._resolve_mappings(model)]


def _awq(model: Any) -> list[Smoothing]:
    modifier = AWQModifier(mappings=awq_mappings(model))
    # It looks at the layers that shall be rounded.
    marked = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    for module in marked:
        module.quantization_scheme = None
    try:
        modifier._set_resolved_mappings(model)
    finally:
        for module in marked:
            del module.quantization_scheme
    return [Smoothing(one.smooth_layer, one.balance_layers) for one in modifier._resolved_mappings]


def _changed(model: Any, smoothings: Sequence[Smoothing]) -> str | None:
    try:
        return what_smoothing_changes(model, smoothings)
    except Exception as error:  # Whatever a model's own code raises where there are no numbers: its trial will tell.
        log.info("%s cannot be run without weights: %s", type(model).__name__, cause_of(error))
        return None


def _fast_products() -> AbstractContextManager[None]:
    slow = not torch.accelerator.is_available() and not multiplies_bfloat16()
    return linear_in_float32() if slow else nullcontext()


def _prepare(seed: int) -> None:
    """Same seed, same artifact; as many threads as the container has cores; llm-compressor's log into ours."""
    random.seed(seed)
    torch.manual_seed(seed)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(usable_cores())
    log_here()


def log_here() -> None:
    """Has llm-compressor log through this module: by default it prints to standard output, which is for progress."""
    loguru_logger.remove()
    loguru_logger.add(lambda line: log.info("%s", line.rstrip()), format="{message}", level="INFO")


def _modifier(plan: ModifierPlan, calibration: Calibration) -> Any:
    options = dict(plan.options)
    if plan.modifier is Modifier.AUTOROUND:
        options["batch_size"] = min(_AUTOROUND_BATCH, calibration.samples)
    if plan.ignore:
        options["ignore"] = list(plan.ignore)
    if plan.kv_cache:
        options["kv_cache_scheme"] = dict(_FP8_KV_CACHE)
    if plan.preset is not None and plan.group_size is not None:
        options["config_groups"] = {"group_0": regrouped(plan.preset, plan.group_size, plan.targets)}
    elif plan.preset is not None:
        options |= {"scheme": plan.preset, "targets": list(plan.targets)}
    return _class_of(plan.modifier)(**options)


def _class_of(modifier: Modifier) -> Any:
    if modifier is Modifier.AUTOROUND:
        from llmcompressor.modifiers.autoround import AutoRoundModifier

        return AutoRoundModifier
    return _CLASSES[modifier]


def regrouped(preset: str, group_size: int, targets: Sequence[str]) -> QuantizationScheme:
    """The preset with another group size for its weights."""
    scheme = preset_name_to_scheme(preset, list(targets))
    if group_size == CHANNELWISE:
        update: dict[str, Any] = {"strategy": QuantizationStrategy.CHANNEL, "group_size": None}
    else:
        update = {"strategy": QuantizationStrategy.GROUP, "group_size": group_size}
    weights = QuantizationArgs.model_validate(scheme.weights.model_dump() | update)
    return scheme.model_copy(update={"weights": weights})


def _samples(job: Job, tokenizer: Any) -> DataLoader[Any]:
    calibration = job.calibration
    windows = token_windows(
        job.texts,
        tokenizer,
        calibration.sequence_length,
        calibration.samples,
        calibration.seed,
        at_least=job.at_least,
        name=f"calibration dataset {calibration.dataset}",
    )
    if len(windows) < calibration.samples:
        log.warning("%s: text for %d of %d samples, all taken", calibration.dataset, len(windows), calibration.samples)
    return DataLoader([{"input_ids": torch.tensor(window)} for window in windows], batch_size=1)


class _Stages:
    """Makes one rising figure of the many bars of a quantization."""

    def __init__(self, passes: int, progress: ProgressSink) -> None:
        self._passes = max(1, passes)
        self._progress = progress
        self._finished = 0
        self._pass_so_far = 0.0
        self._highest = 0.0

    def __call__(self, bar: Bar) -> None:
        done, message = self._place(bar)
        self._highest = max(self._highest, min(done, 0.99))
        self._progress("quantize", self._highest, message)

    def _place(self, bar: Bar) -> tuple[float, str]:
        layer = _LAYER_BAR.match(bar.description)
        if layer is None:
            if bar.description == "Loading weights":
                return bar.share * _LOADED, "loading weights"
            if bar.description == "Compressing model":
                return _ROUNDED + bar.share * (1 - _ROUNDED), "packing weights"
            return self._highest, bar.description.lower()
        number, count, activity = int(layer[1]), int(layer[2]), layer[3]
        half = 0.0 if activity == "Calibrating" else 0.5
        within = (number - 1 + half + bar.share / 2) / count
        if within + self._finished < self._pass_so_far:
            self._finished += 1
        self._pass_so_far = within + self._finished
        share = min(1.0, self._pass_so_far / self._passes)
        return _LOADED + share * (_ROUNDED - _LOADED), f"layer {number} of {count}"
