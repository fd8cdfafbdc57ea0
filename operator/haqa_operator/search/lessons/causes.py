"""What a failed trial says of its cause: how far it came, and which parameters its message is about.

The sentences are those of `haqa_contract.engine_log` and of the runner's steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from haqa_contract import FailureReason
from haqa_operator.api.trial import Trial


class Stage(IntEnum):
    """How far a trial came. What failed at one stage has passed all before it."""

    NONE = 0
    """Nothing is known to have worked"""
    QUANTIZE = 1
    LOAD = 2
    """The engine starts, and answers one request"""
    SANITY = 3
    """The answers make sense"""
    ACCURACY = 4
    TRAFFIC = 5
    PASSED = 6


_STAGES = {
    FailureReason.QUANTIZATION_FAILED: Stage.QUANTIZE,
    FailureReason.QUANTIZATION_OOM: Stage.QUANTIZE,
    FailureReason.ENGINE_LOAD_FAILED: Stage.LOAD,
    FailureReason.ENGINE_OOM: Stage.LOAD,
    FailureReason.ACCURACY_GATE: Stage.ACCURACY,
    FailureReason.LOAD_ERRORS: Stage.TRAFFIC,
    FailureReason.LOAD_GENERATOR_LIMIT: Stage.TRAFFIC,
    FailureReason.METRICS_MISSING: Stage.TRAFFIC,
}

_SURROUNDINGS = re.compile(
    # The machine, its network and disks; what a person has to put right.
    r"\bdisk is full|/dev/shm|too little free space|may not be written or read|is read-only \(|network card"
    r"|locked memory"
    r"|\bport\b.* is taken|VLLM_PORT|another process (?:holds|freed|of the engine ended first)|open too few files"
    r"|start no more threads|did not find each other|GPUs cannot talk|GPU stopped answering|GPU of this node is faulty"
    r"|NVLink fabric|NVIDIA driver|GPU driver|cannot use this machine's accelerator|\bRay\b"
    r"|the connector that transfers"
    r"|free at start, less than gpu-memory-utilization asks for|sees \d+; set gpusPer"
    # The model and its files, the same for every configuration.
    r"|damaged or cut short|holds no weights|lacks weight files|no usable tokenizer|does not support the model's arch"
    r"|is unknown to this vLLM and its transformers|trustRemoteCode|the model's processor|there is no model in"
    # The image.
    r"|was built for a newer system|built for different versions of PyTorch|lacks the library|do not fit together"
    r"|command not found|another CPU architecture|this CPU lacks|needs a newer CPU|has a value that it cannot read"
    r"|no kernels for this GPU's architecture|the beginning of its log"
    # Quantizing.
    r"|\bdataset\b|artifact store|is not installed in this environment|is in the way of the link|could not build its"
)
"""A message that blames nothing of the configuration: nothing is concluded from it."""

_SILENT = re.compile(r"has no measurement of this configuration|^\S+ has \w+ in place of|without saying why")
"""A message that says no more than that there is no result."""

_GATE = re.compile(r"\b(?:above|below) its limit\b")
_GARBAGE = re.compile(r"are broken for this configuration on this device")
_QUANTIZING = re.compile(r"^quantize was still working")


@dataclass(frozen=True)
class _Clue:
    """A sentence of the engine's that names what is at fault.

    Attributes:
        parameters: Patterns of parameter names; together they are at fault, with their values, the default included.
        where_set: The same, for parameters that only count where the configuration sets them.
    """

    pattern: re.Pattern[str]
    parameters: tuple[str, ...]
    where_set: tuple[str, ...] = ()


def _clue(pattern: str, *parameters: str, where_set: tuple[str, ...] = ()) -> _Clue:
    return _Clue(re.compile(pattern), parameters, where_set)


_KERNEL_CHOICES = ("linear-backend", "moe-backend", "VLLM_USE_.*", "VLLM_ROCM_USE_.*")

_CLUES = (
    _clue("cannot be split so among the GPUs", "scheme", "group-size", "tensor-parallel-size"),
    _clue("does not divide the model's .* attention heads", "(tensor|pipeline|data)-parallel-size"),
    _clue("^vLLM's own all-reduce kernel", "(tensor|pipeline|data)-parallel-size", "disable-custom-all-reduce"),
    _clue("^this kv-cache-dtype does not work here", "kv-cache-dtype", "attention-backend"),
    _clue(
        "^the attention backend .* does not work here|^no attention backend of this vLLM works",
        "attention-backend",
        "kv-cache-dtype",
        "block-size",
        "dtype",
    ),
    _clue("quantization does not work with dtype", "scheme", "dtype"),
    _clue("set dtype to", "dtype"),
    _clue("^CUDA graphs do not work", "compilation-config", "cudagraph-.*", "optimization-level", "attention-backend"),
    _clue("refuses the speculative decoding settings", "spec.*"),
    _clue("suits none of the attention backends", "block-size", "attention-backend"),
    _clue("threads cannot be bound|cannot bind its threads", "VLLM_CPU_OMP_THREADS_BIND", "tensor-parallel-size"),
    _clue("^max-model-len .* is beyond what the model", "max-model-len"),
    _clue("no kernel for the scheme.*group[_ ]size", "scheme", "group-size", where_set=_KERNEL_CHOICES),
    _clue(
        "no kernel for the scheme|no kernel for mixture-of-experts layers|DeepGEMM kernels for FP8"
        "|the quantization (?:method|scheme) .*needs compute capability|cannot serve \\S+ quantization",
        "scheme",
        where_set=_KERNEL_CHOICES,
    ),
)
"""The first that is found counts."""

_WORD = r"(?<!\w)(?<!\w-){}(?![\w-])"

_REFUSAL = re.compile(r"^vLLM refuses (?:the|its) (?:argument|setting)s?\b")
"""The engine's command line or configuration refuses a value: at fault is what the sentence names."""


@dataclass(frozen=True)
class Cause:
    """What one failed trial says.

    Attributes:
        stage: Where it failed.
        teaches: Whether something of the configuration is at fault.
        at_fault: Parameters that the engine itself holds to be at fault, together; empty where it does not say.
        key: Equal for failures that are alike; one cause is assumed behind those.
        silent: The message says no more than that there is no result.
    """

    stage: Stage
    teaches: bool
    at_fault: tuple[str, ...] = ()
    key: str = ""
    silent: bool = False

    @property
    def passed(self) -> Stage:
        """The last stage that the trial got past."""
        return Stage(max(self.stage - 1, Stage.NONE))


def cause_of(trial: Trial, parameters: Iterable[str] = ()) -> Cause:
    """What a failed trial says.

    Args:
        parameters: Names of the search's parameters, which the message may mention.
    """
    failure = trial.status.failure
    if failure is None:
        return Cause(Stage.NONE, teaches=False)
    reason, message = failure.reason, failure.message
    stage = _STAGES.get(reason, Stage.NONE)
    if reason is FailureReason.ACCURACY_GATE:
        garbage = _GARBAGE.search(message) is not None
        return Cause(Stage.SANITY if garbage else Stage.ACCURACY, teaches=garbage, key="garbage")
    if reason is FailureReason.TIMEOUT:
        return Cause(Stage.QUANTIZE if _QUANTIZING.search(message) else Stage.NONE, teaches=False)
    of_engine = reason is FailureReason.ENGINE_LOAD_FAILED
    of_quantizing = stage is Stage.QUANTIZE
    if not failure.of_configuration and (_blames_nothing(message) or not (of_engine or of_quantizing)):
        return Cause(stage, teaches=False)
    at_fault = () if of_quantizing else _at_fault(trial, message, tuple(parameters))
    return Cause(stage, True, at_fault, f"{reason.value}: {_likeness(message)}", _SILENT.search(message) is not None)


def named_in(message: str, parameters: Iterable[str]) -> tuple[str, ...]:
    """Parameters that a message mentions, as they are written on the command line or in Python."""
    return tuple(name for name in parameters if _mentions(message, name))


@lru_cache(8192)
def _mentions(message: str, name: str) -> bool:
    word = re.escape(name.replace("_", "-").lower())
    return re.search(_WORD.format(word), message.replace("_", "-").lower()) is not None


@lru_cache(1024)
def _blames_nothing(message: str) -> bool:
    return _SURROUNDINGS.search(message) is not None


def _at_fault(trial: Trial, message: str, parameters: tuple[str, ...]) -> tuple[str, ...]:
    if _REFUSAL.search(message):
        return named_in(message.partition("; fix ")[0], parameters)
    clue = next((clue for clue in _CLUES if clue.pattern.search(message)), None)
    if clue is None:
        return ()
    own = trial.configuration.parameters
    always = [p for p in parameters if any(re.fullmatch(name, p) for name in clue.parameters)]
    where_set = [p for p in parameters if p in own and any(re.fullmatch(name, p) for name in clue.where_set)]
    return (*always, *where_set)


def _likeness(message: str) -> str:
    """The message without what differs from one trial to the next: numbers, addresses, paths, the configuration."""
    text = message.partition("could not make it (")[2] or message.partition("; ")[0]
    words = re.sub(r"0x[0-9a-f]+|/\S+|\d+(?:\.\d+)?|\[[^\]]*\]", "#", text)
    return re.sub(r"^(?:\S+ g)?[^:]{0,200}?: (?=group size|\S+ needs|out of memory)", "", words)[:80]
