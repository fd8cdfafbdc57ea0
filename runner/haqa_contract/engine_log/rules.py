"""The texts by which known failures of a vLLM start give themselves away, and what to tell the person.

The texts are those of vLLM 0.32; each rule is tested on a real log where a CPU can produce one. First match wins, so
what is more specific stands above.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile

from haqa_contract.engine_log.lines import EngineLog
from haqa_contract.failures import FailureReason

_KERNEL_REASON = re.compile(r"\bcannot implement\b|\brequires\b|\bdisabled\b|\bnot supported\b")
_SHOWN_REASONS = 3


@dataclass(frozen=True)
class Rule:
    """A text that gives a failure away, and what to tell the person."""

    pattern: re.Pattern[str]
    reason: FailureReason
    sentence: Callable[[re.Match[str], EngineLog], str]


def _rule(pattern: str, reason: FailureReason, sentence: str | Callable[[re.Match[str], EngineLog], str]) -> Rule:
    """`sentence` may use the pattern's named groups in braces."""
    if isinstance(sentence, str):
        template = sentence
        return Rule(
            re.compile(pattern, re.MULTILINE), reason, lambda match, log: template.format(**match.groupdict(""))
        )
    return Rule(re.compile(pattern, re.MULTILINE), reason, sentence)


def _no_kernel(match: re.Match[str], log: EngineLog) -> str:
    following = log.bare[match.end() :].splitlines()[1:]
    reasons = [line.strip(" .") for line in takewhile(_KERNEL_REASON.search, following)]
    more = "; …" if len(reasons) > _SHOWN_REASONS else ""
    why = f" ({'; '.join(reasons[:_SHOWN_REASONS])}{more})" if reasons else ""
    return (
        f"this device has no kernel for the scheme: {match['layer']} linear layers cannot run here{why}; "
        "take the scheme out of the search for this pool"
    )


def _kv_cache_too_small(match: re.Match[str], log: EngineLog) -> str:
    fits = re.search(r"estimated maximum model length is (\d+)", log.bare)
    longest = f"; {fits[1]} would fit" if fits else ""
    return (
        f"the KV cache is too small: one request of max-model-len {match['length']} needs {match['needed']} GiB, "
        f"{match['available']} GiB are left{longest}. Lower max-model-len, or give the cache more "
        "(VLLM_CPU_KVCACHE_SPACE on CPU, gpu-memory-utilization or a smaller model on a GPU)"
    )


def _too_long(match: re.Match[str], log: EngineLog) -> str:
    return (
        f"max-model-len {match['asked']} is beyond what the model was made for ({match['longest']} tokens); "
        f"set it to at most {match['longest']}"
    )


def _capability_too_low(match: re.Match[str], log: EngineLog) -> str:
    needed, present = (f"{number[:-1]}.{number[-1]}" for number in (match["needed"], match["present"]))
    scheme = f"the quantization method {match['method']}" if match["method"] else "the quantization scheme"
    return (
        f"{scheme} needs compute capability {needed}, this GPU has {present}; take it out of the search for this pool"
    )


def _gated(match: re.Match[str], log: EngineLog) -> str:
    return (
        f"the model {log.setting('model') or ''} is gated or private and the hub refused it; accept its licence there "
        "and name a token (model.tokenSecretRef)"
    )


def _not_on_hub(match: re.Match[str], log: EngineLog) -> str:
    return (
        f"the model {log.setting('model') or ''} was found neither as a folder nor on the hub "
        f"({match[0].strip()[:200]}); check model.uri, and HF_HUB_OFFLINE and the network if it is to be fetched"
    )


def _missing_tokenizer(match: re.Match[str], log: EngineLog) -> str:
    where = log.setting("tokenizer") or log.setting("model") or "the model's folder"
    return (
        f"there is no usable tokenizer in {where}; copy tokenizer.json and tokenizer_config.json of the original model "
        "there"
    )


_GB = r"(?P<{}>[\d.]+)"
_MEMORY = FailureReason.ENGINE_OOM
_LOAD = FailureReason.ENGINE_LOAD_FAILED

RULES: tuple[Rule, ...] = (
    _rule(
        r"^OSError: \[Errno 98\] .*[Aa]ddress already in use.*$|error while attempting to bind on address",
        _LOAD,
        lambda match, log: (
            f"port {log.setting('port') or ''} is taken by another process; stop that, or name another port"
        ),
    ),
    _rule(
        r"error: unrecognized arguments: (?P<given>.+)$",
        _LOAD,
        "this vLLM does not know the argument {given}; fix its name in search.engine or search.fixedEngine, or take "
        "it out",
    ),
    _rule(
        r"error: argument (?P<name>[^:]+): (?P<what>.+)$",
        _LOAD,
        "vLLM refuses the argument {name}: {what}; fix its value in search.engine or search.fixedEngine",
    ),
    _rule(
        r"(?:OutOfMemoryError: )?(?:CUDA|HIP|XPU) out of memory\.(?: Tried to allocate (?P<wanted>[\d.]+ \w+))?",
        _MEMORY,
        "the accelerator ran out of memory while the engine started (it asked for {wanted} more); lower "
        "gpu-memory-utilization, max-num-seqs or max-model-len, or use more accelerators or a smaller scheme",
    ),
    _rule(
        rf"Free memory on device \S+ \({_GB.format('free')}/{_GB.format('total')} GiB\) on startup is less than.*",
        _MEMORY,
        "only {free} of the accelerator's {total} GiB are free at start, less than gpu-memory-utilization asks for; "
        "stop what else runs on it or lower gpu-memory-utilization",
    ),
    _rule(
        rf"Available memory on node \d+ \({_GB.format('free')}/{_GB.format('total')} GiB\) on kv cache allocation is "
        rf"less than requested memory for kv \({_GB.format('asked')}",
        _MEMORY,
        "the KV cache is to have {asked} GiB but only {free} of the machine's {total} GiB are available; lower "
        "VLLM_CPU_KVCACHE_SPACE or gpu-memory-utilization, or free memory",
    ),
    _rule(
        rf"Available memory on node \d+ \({_GB.format('free')}/{_GB.format('total')} GiB\) on startup is less than "
        rf"desired CPU memory utilization \({_GB.format('share')}, {_GB.format('asked')} GiB\)",
        _MEMORY,
        "vLLM wants {asked} GiB of memory (gpu-memory-utilization {share} of the machine) but only {free} of {total} "
        "GiB are available; set VLLM_CPU_KVCACHE_SPACE (GiB) or a lower gpu-memory-utilization, or free memory",
    ),
    _rule(
        r"To serve at least one request with the model's max seq len \((?P<length>\d+)\), "
        r"\((?P<needed>[\d.]+) GiB KV cache is needed, which is larger than the available KV cache memory "
        r"\((?P<available>[\d.]+) GiB\)",
        _MEMORY,
        _kv_cache_too_small,
    ),
    _rule(
        r"No available memory for the cache blocks",
        _MEMORY,
        "no memory is left for the KV cache once the weights are loaded; raise gpu-memory-utilization, use more "
        "accelerators, or quantize further",
    ),
    _rule(
        r"DefaultCPUAllocator: (?:can't allocate memory|not enough memory)[^\n]*|std::bad_alloc|^MemoryError\b"
        r"|Cannot allocate memory",
        _MEMORY,
        "the engine could not allocate memory on the host; give it more, or lower VLLM_CPU_KVCACHE_SPACE or "
        "max-model-len",
    ),
    _rule(
        r"Failed core proc\(s\): \{[^}]*: -9\b|died unexpectedly \(exit code: -9\)",
        _MEMORY,
        "a process of the engine was killed (SIGKILL), most likely because the machine or its container ran out of "
        "memory; give it more memory, or lower VLLM_CPU_KVCACHE_SPACE or max-model-len",
    ),
    _rule(
        r"Worker proc \S+ died unexpectedly \(exit code: (?P<code>-?\d+)\)",
        _LOAD,
        "a worker of the engine died (exit code {code}; below 0 it is a signal's number); a kernel crashed: leave this "
        "configuration out, or use another vLLM version",
    ),
    _rule(r"Failed to find a kernel that can implement the (?P<layer>\S+) linear layer", _LOAD, _no_kernel),
    _rule(
        r"Model architectures \[(?P<names>[^\]]*)\] (?:are not supported for now|failed to be inspected)",
        _LOAD,
        "vLLM does not support the model's architecture {names}; use a vLLM version that does, or another model",
    ),
    _rule(
        r"model type `(?P<type>[^`]+)` but Transformers does not recognize this architecture",
        _LOAD,
        "the model's type {type} is unknown to this vLLM and its transformers; use a newer engine image, or another "
        "model",
    ),
    _rule(
        r"contains custom code which must be executed|trust[-_]remote[-_]code=True",
        _LOAD,
        "the model brings Python code of its own, which is not run by default; read that code, then set "
        "model.trustRemoteCode: true",
    ),
    _rule(
        r"(?P<method>\S+) quantization is currently not supported in (?P<device>[^.\n]+)\.",
        _LOAD,
        "vLLM cannot serve {method} quantization on {device}; take the scheme out of the search for this pool",
    ),
    _rule(
        r"(?:quantization method (?P<method>\S+) is not supported|Quantization scheme is not supported) for the "
        r"current GPU\. (?:Min\w*|Required) capability: (?P<needed>\d+)\. Current capability: (?P<present>\d+)",
        _LOAD,
        _capability_too_low,
    ),
    _rule(
        r"Unknown quantization method: (?P<method>\S+?)\. Must be one of",
        _LOAD,
        "vLLM does not know the quantization method {method} that the model's config.json names; quantize it with a "
        "scheme that HAQA lists",
    ),
    _rule(
        r"Quantization method specified in the model config \((?P<model>[^)]+)\) does not match the quantization "
        r"method specified in the `quantization` argument \((?P<argument>[^)]+)\)",
        _LOAD,
        "the model is quantized with {model} but the argument --quantization says {argument}; take --quantization out",
    ),
    _rule(
        r"(?P<type>torch\.\w+) is not supported for quantization method (?P<method>\S+?)\. Supported dtypes: "
        r"(?P<known>[^\n]*)",
        _LOAD,
        "{method} quantization does not work with dtype {type}; set dtype to one of {known}",
    ),
    _rule(
        r"User-specified max_model_len \((?P<asked>\d+)\) is greater than the derived max_model_len "
        r"\([^=]*=(?P<longest>\d+)",
        _LOAD,
        _too_long,
    ),
    _rule(
        r"Total number of attention heads \((?P<heads>\d+)\) must be divisible by tensor parallel size "
        r"\((?P<size>\d+)\)",
        _LOAD,
        "tensor-parallel-size {size} does not divide the model's {heads} attention heads; choose a divisor of {heads}",
    ),
    _rule(
        r"World size \((?P<size>\d+)\) is larger than the number of available GPUs \((?P<gpus>\d+)\)",
        _LOAD,
        "the engine is to run on {size} GPUs but sees {gpus}; set gpusPerReplica (and tensor-parallel-size) to what "
        "the node has",
    ),
    _rule(
        r"You are trying to access a gated repo|GatedRepoError|is a gated repository|401 Client Error|403 Client Error",
        FailureReason.MODEL_FETCH,
        _gated,
    ),
    _rule(
        r"Couldn't instantiate the backend tokenizer[^\n]*|Can't load tokenizer for[^\n]*|Unable to load "
        r"vocabulary[^\n]*|does not appear to have a file named tokenizer[^\n]*|Error no file named tokenizer[^\n]*",
        _LOAD,
        _missing_tokenizer,
    ),
    _rule(
        r"Cannot find any model weights with `(?P<path>[^`]+)`|does not appear to have a file named "
        r"(?:pytorch_model|model)",
        _LOAD,
        lambda match, log: (
            f"{match['path'] or log.setting('model') or 'the model'} holds no weights (*.safetensors); "
            "the copy is incomplete: fetch the model again"
        ),
    ),
    _rule(
        r"SafetensorError: (?P<what>[^\n]+)|safetensors_rust[^\n]*: (?P<rust>[^\n]+)",
        _LOAD,
        lambda match, log: (
            f"a weight file of {log.setting('model') or 'the model'} is damaged or cut short "
            f"({(match['what'] or match['rust'] or '')[:200]}); fetch the model again or remove the artifact"
        ),
    ),
    _rule(
        r"(?:Repo id must be in the form[^\n]*: |Invalid repository ID or local directory specified: "
        r")'(?P<path>/[^'\n]*)'",
        _LOAD,
        "there is no model in {path}: the folder is missing or has no config.json; check model.uri and the mounts",
    ),
    _rule(
        r"Repo id must be in the form[^\n]*|is not a valid model identifier[^\n]*|is not a local folder and is "
        r"not[^\n]*|Invalid repository ID or local directory specified[^\n]*|Repository Not "
        r"Found[^\n]*|RepositoryNotFoundError|outgoing traffic has been disabled|[Cc]ouldn't connect to '[^']*' to "
        r"load the files|OfflineModeIsEnabled[^\n]*",
        FailureReason.MODEL_FETCH,
        _not_on_hub,
    ),
    _rule(
        r"No such file or directory: '(?P<tool>ninja|gcc|g\+\+|c\+\+|cc|clang\+*|nvcc)'|Failed to find C compiler"
        r"|InvalidCxxCompiler|No working C\+\+ compiler|Ninja is required|fatal error: Python\.h",
        _LOAD,
        lambda match, log: (
            "vLLM compiles kernels for this model when it starts and found no "
            f"{match['tool'] or 'working C++ compiler'}; install build-essential, ninja-build and python3-dev in the "
            "engine's image, or set enforce-eager"
        ),
    ),
    _rule(
        r"Failed to infer device type|No CUDA GPUs are available|Found no NVIDIA driver|CUDA driver version is "
        r"insufficient|no kernel image is available for execution on the device",
        _LOAD,
        "vLLM cannot use this machine's accelerator; check the driver, the device plugin, and that the engine image is "
        "made for this hardware",
    ),
    _rule(
        r"validation errors? for (?P<part>\w+)\n(?:[^\n]*\n){0,2}?\s*Value error, (?P<what>[^\[\n]+?)[. ]*(?:\[|$)",
        _LOAD,
        "vLLM refuses the settings ({part}): {what}; fix search.engine or search.fixedEngine",
    ),
)
