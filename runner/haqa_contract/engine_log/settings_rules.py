"""Settings that vLLM refuses: its command line, its configuration classes, and what does not go together.

Sources of the texts: argparse, and vLLM 0.32 (config/*.py, engine/arg_utils.py, platforms/*.py, v1/attention/*).
"""

from __future__ import annotations

import re

from haqa_contract.engine_log.lines import EngineLog
from haqa_contract.engine_log.rule import Rule, excerpt, rule
from haqa_contract.failures import FailureReason

_LOAD = FailureReason.ENGINE_LOAD_FAILED
_FIX = "fix search.engine or search.fixedEngine"


def _too_long(match: re.Match[str], log: EngineLog) -> str:
    return (
        f"max-model-len {match['asked']} is beyond what the model was made for ({match['longest']} tokens); "
        f"set it to at most {match['longest']}"
    )


def _unaligned(match: re.Match[str], log: EngineLog) -> str:
    what = excerpt(_after_type(match["what"] or match["shape"]), 240)
    return (
        f"the model's columns cannot be split so among the GPUs ({what}); use a smaller tensor-parallel-size or "
        "another group size"
    )


def _no_backend(match: re.Match[str], log: EngineLog) -> str:
    reasons = excerpt(match["reasons"] or "", 260)
    return (
        f"no attention backend of this vLLM works on {match['device']} with these settings ({reasons}); leave out the "
        "setting that it names (kv-cache-dtype, block-size, dtype), or the model on this pool"
    )


REFUSALS: tuple[Rule, ...] = (
    rule(
        r"error: unrecognized arguments: (?P<given>.+)$",
        _LOAD,
        "this vLLM does not know the argument {given}; fix its name in search.engine or search.fixedEngine, or take "
        "it out",
    ),
    rule(
        r"error: argument (?P<name>[^:]+): (?P<what>.+)$",
        _LOAD,
        "vLLM refuses the argument {name}: {what}; fix its value in search.engine or search.fixedEngine",
    ),
    rule(
        r"^\S[^\n]{0,60}?: error: (?P<what>(?!argument )[^\n]+)$",
        _LOAD,
        "vLLM refuses its arguments: {what}; " + _FIX,
    ),
)
"""Of argparse; they can only be in a message of its own."""

RULES: tuple[Rule, ...] = (
    rule(
        r"User-specified max_model_len \((?P<asked>\d+)\) is greater than the derived max_model_len "
        r"\([^=]*=(?P<longest>\d+)",
        _LOAD,
        _too_long,
    ),
    rule(
        r"Total number of attention heads \((?P<heads>\d+)\) must be divisible by tensor parallel size "
        r"\((?P<size>\d+)\)",
        _LOAD,
        "tensor-parallel-size {size} does not divide the model's {heads} attention heads; choose a divisor of {heads}",
    ),
    rule(
        r"(?P<what>(?:Weight (?:in|out)put_size_per_partition|[^\n]*\b(?:in|out)put_size_per_partition|"
        r"[^\n]*\bintermediate_size_per_partition)[^\n]*?(?:not divisible|divisible by|aligned)[^\n]*"
        r"|[^\n]*is not divisible by weight quantization block_[nk][^\n]*)"
        r"|(?P<shape>The (?:in|out)put size is not aligned with the quantized weight shape)",
        _LOAD,
        _unaligned,
    ),
    rule(
        r"World size \((?P<size>\d+)\) is larger than the number of available GPUs \((?P<gpus>\d+)\)",
        _LOAD,
        "the engine is to run on {size} GPUs but sees {gpus}; set gpusPerReplica (and tensor-parallel-size) to what "
        "the node has",
    ),
    rule(
        r"Local TP/PP/PCP replica size \((?P<size>\d+)\) exceeds the number of visible XPU devices \((?P<gpus>\d+)\)",
        _LOAD,
        "the engine is to run on {size} GPUs but sees {gpus}; set gpusPerReplica (and tensor-parallel-size) to what "
        "the node has",
    ),
    rule(
        r"Bfloat16 is only supported on GPUs with compute capability of at least 8\.0\. Your (?P<gpu>.+?) GPU",
        _LOAD,
        "this GPU ({gpu}) does not compute in bfloat16; set dtype to float16",
    ),
    rule(
        r"The model type '?(?P<type>[\w-]+)'? does not support float16",
        _LOAD,
        "the model type {type} does not work in float16; set dtype to bfloat16 or float32",
    ),
    rule(
        r"(?P<type>torch\.\w+) is not supported for quantization method (?P<method>\S+?)\. Supported dtypes: "
        r"(?P<known>[^\n]*)",
        _LOAD,
        "{method} quantization does not work with dtype {type}; set dtype to one of {known}",
    ),
    rule(
        r"No valid (?:MLA prefill |CPU MLA prefill )?(?:attention )?backend found for (?P<device>\S+) with [^\n]*?"
        r"Reasons: (?P<reasons>[^\n]*)",
        _LOAD,
        _no_backend,
    ),
    rule(
        r"Selected backend (?P<backend>\S+) is not valid for this configuration\. Reason: (?P<why>[^\n]*)",
        _LOAD,
        "the attention backend {backend} does not work here: {why}; take it out, or choose another one",
    ),
    rule(
        r"^(?P<what>[^\n]*(?:(?:FP8|fp8|NVFP4|nvfp4|int8|int4)\w* (?:KV|kv)[ -][Cc]ache"
        r"|does not support \S+ kv-cache)[^\n]*)$",
        _LOAD,
        lambda match, log: (
            f"this kv-cache-dtype does not work here ({excerpt(_after_type(match['what']))}); use auto, or leave the "
            "value out of search.engine for this pool"
        ),
    ),
    rule(
        r"No common block size for (?P<size>\d+)\b ?(?P<known>\([^\n]*\))?",
        _LOAD,
        "No common block size for {size} {known}: block-size {size} suits none of the attention backends; choose a "
        "multiple that the message names, or leave block-size out",
    ),
    rule(
        r"^(?P<what>[^\n]*(?:num_speculative_tokens|speculative[ _-](?:model|config|method|decoding|max_model_len)"
        r"|draft model|draft_tensor_parallel_size|draft_max_model_len|prompt_lookup_m|EAGLE3|Arctic Inference)[^\n]*)$",
        _LOAD,
        lambda match, log: (
            f"vLLM refuses the speculative decoding settings: {excerpt(_after_type(match['what']), 400)}; fix "
            "speculative-config"
        ),
    ),
    rule(
        r"(?P<what>CUDAGraphMode\.\S+ is not supported with [^\n]*|No valid cudagraph sizes [^\n]*)",
        _LOAD,
        lambda match, log: (
            f"CUDA graphs do not work with these settings ({excerpt(match['what'])}); set another cudagraph mode in "
            "compilation-config, or enforce-eager"
        ),
    ),
    rule(
        r"(?P<what>Chunked MM input disabled but [^.\n]*"
        r"|The decoder prompt \(length \d+\) is longer than the maximum model length of \d+)",
        _LOAD,
        "vLLM refuses the settings: {what}; raise max-num-batched-tokens or max-model-len",
    ),
    rule(
        r"LoRA rank (?P<rank>\d+) is greater than max_lora_rank (?P<most>\d+)",
        _LOAD,
        "an adapter has LoRA rank {rank}, beyond max-lora-rank {most}; set max-lora-rank to at least {rank}",
    ),
    rule(
        r"invalid (?P<kind>tool call|reasoning) parser: (?P<name>\S+)[^\n(]*(?P<known>\([^\n)]*\))?",
        _LOAD,
        lambda match, log: (
            f"this vLLM has no {match['kind']} parser {match['name']} {excerpt(match['known'] or '', 300)}; correct "
            "its name in search.fixedEngine, or take it out"
        ),
    ),
    rule(
        r"(?P<what>--enable-auto-tool-choice requires --tool-call-parser|[Tt]he supplied chat template[^\n]*)",
        _LOAD,
        "vLLM refuses its arguments: {what}; " + _FIX,
    ),
    rule(
        r"VLLM_PORT '(?P<value>[^']*)' appears to be a URI",
        _LOAD,
        "a Service named vllm in the namespace makes Kubernetes set VLLM_PORT to {value}, which vLLM takes for its "
        "port; rename that Service, or set enableServiceLinks: false on the pod",
    ),
    rule(
        r"(?P<cpu>[\w.]+) doesn't support auto CPU binding",
        _LOAD,
        "vLLM cannot bind its threads to cores by itself on {cpu}; name the cores in VLLM_CPU_OMP_THREADS_BIND, or set "
        "it to nobind",
    ),
    rule(
        r"^(?P<what>[^\n]*(?:number of CPU id list|NUMA binding|numactl|numa_bind_|numa_parse_)[^\n]*)$",
        _LOAD,
        lambda match, log: (
            f"the engine's threads cannot be bound to cores as asked ({excerpt(_after_type(match['what']))}); set "
            "VLLM_CPU_OMP_THREADS_BIND in the pool's env to one list of cores for each worker, or to auto"
        ),
    ),
    rule(
        r"^ValueError: (?P<what>invalid literal for int\(\)[^\n]*|could not convert string to float[^\n]*"
        r"|Invalid value "
        r"[^\n]*)\n +at vllm/envs\.py",
        _LOAD,
        "a variable of vLLM in the pool's env has a value that it cannot read ({what}); correct it",
    ),
)

VALIDATION: tuple[Rule, ...] = (
    rule(
        r"validation errors? for (?P<part>\w+)\n(?:[^\n]*\n){0,2}?\s*Value error, (?P<what>[^\[\n]+?)[. ]*(?:\[|$)",
        _LOAD,
        "vLLM refuses the settings ({part}): {what}; " + _FIX,
    ),
    rule(
        r"(?P<count>\d+) validation errors? for (?P<part>\w+)\n(?P<field>[\w.`\[\]-]+)\n\s+(?P<what>[^\n]+)",
        _LOAD,
        "vLLM refuses the setting {field} ({part}): {what}; " + _FIX,
    ),
)
"""Of pydantic, which wraps whatever a configuration class raises: behind all rules that know what that was."""


def _after_type(text: str) -> str:
    """A line without the exception's type in front."""
    return re.sub(r"^(?:[A-Za-z_][\w.]*(?:Error|Exception)|\s*Value error)(?:: |, )", "", text)
