"""Memory that is not there: of the accelerator, of the host, in /dev/shm; and a disk that is full.

Sources of the texts: torch's allocators (c10/cuda, c10/xpu, c10/core), the CUDA, HIP and Level Zero runtimes, NCCL, and
vLLM 0.32 (v1/worker/utils.py, cpu_worker.py, gpu_model_runner.py, v1/core/kv_cache_utils.py).
"""

from __future__ import annotations

import re

from haqa_contract.engine_log.lines import EngineLog
from haqa_contract.engine_log.rule import Rule, excerpt, rule
from haqa_contract.failures import FailureReason

_MEMORY = FailureReason.ENGINE_OOM
_LOAD = FailureReason.ENGINE_LOAD_FAILED
_GIB = r"(?P<{}>[\d.]+)"
_SMALLER = "lower gpu-memory-utilization, max-num-seqs or max-model-len, or use more accelerators or a smaller scheme"


def _kv_cache_too_small(match: re.Match[str], log: EngineLog) -> str:
    fits = re.search(r"estimated maximum model length is (\d+)", match.string)
    longest = f"; {fits[1]} would fit" if fits else ""
    return (
        f"the KV cache is too small: one request of max-model-len {match['length']} needs {match['needed']} GiB, "
        f"{match['available']} GiB are left{longest}. Lower max-model-len, or give the cache more "
        "(VLLM_CPU_KVCACHE_SPACE on CPU, gpu-memory-utilization or a smaller model on a GPU)"
    )


def _accelerator(match: re.Match[str], log: EngineLog) -> str:
    wanted = re.search(r"(?:Tried|Attempting) to allocate ([\d.]+ ?[A-Za-z]+)", match.string)
    asked = f"it asked for {wanted[1]} more" if wanted else excerpt(match[0], 160)
    return f"the accelerator ran out of memory ({asked}); {_SMALLER}"


def _shared_memory(match: re.Match[str], log: EngineLog) -> str:
    return (
        f"the engine's processes share memory through /dev/shm, which is too small ({excerpt(match[0], 200)}); "
        "give the pod more (an emptyDir with medium: Memory mounted there) or the container --shm-size, or use fewer "
        "GPUs per replica"
    )


def _disk_full(match: re.Match[str], log: EngineLog) -> str:
    path = re.search(r"(?:No space left on device|Disk quota exceeded): '([^']+)'", match.string)
    where = f" at {path[1]}" if path else ""
    return (
        f"the disk is full{where} ({excerpt(match[0], 160)}); free space there or use a larger volume for models and "
        "caches"
    )


RULES: tuple[Rule, ...] = (
    rule(
        r"^.*/dev/shm/\S*.*No space left on device.*$|^.*(?:creating|extending|resizing) shared memory segment .*$"
        r"|^.*unable to (?:allocate shared memory|write to file </torch_|open shared memory object"
        r"|resize file </torch_).*$"
        r"|^.*insufficient shared memory.*$|^.*No space left on device: '(?:/dev/shm|/psm_|/torch_)[^']*'.*$"
        r"|^.*No space left on device.*\n +at \S*(?:shared_memory|shm_broadcast|shm_object_storage)\.py.*$",
        _LOAD,
        _shared_memory,
    ),
    rule(
        r"^.*(?:No space left on device|Disk quota exceeded|[Nn]ot enough (?:free )?disk space).*$",
        _LOAD,
        _disk_full,
    ),
    rule(
        r"OutOfResources: (?P<what>out of resource: [^\n]*?Required: \d+, Hardware limit: \d+)",
        _LOAD,
        "a Triton kernel does not fit this GPU ({what}); that is on-chip memory, which no memory setting changes: try "
        "another attention backend or block-size, or leave the scheme or setting that uses the kernel out of the "
        "search",
        of_configuration=True,
    ),
    rule(
        r"\bibv_\w+ failed with error:? Cannot allocate memory",
        _LOAD,
        "the network card may lock too little memory for the engine's processes to reach other nodes; raise the limit "
        "of locked memory (ulimit -l unlimited, or the capability IPC_LOCK) of the node's containers",
    ),
    rule(
        r"out of memory occurred when warming up (?P<what>sampler|pooler)\b.*? with (?P<requests>\d+) dummy requests",
        _MEMORY,
        "no memory was left for {requests} requests at a time; lower max-num-seqs (now {requests}) or "
        "gpu-memory-utilization",
    ),
    rule(
        rf"Free memory on device(?: \S+)? \({_GIB.format('free')}/{_GIB.format('total')} GiB\) on startup is less than",
        _MEMORY,
        "only {free} of the accelerator's {total} GiB are free at start, less than gpu-memory-utilization asks for; "
        "stop what else runs on it or lower gpu-memory-utilization",
    ),
    rule(
        rf"Externally held weights on device \S+ \({_GIB.format('held')}/{_GIB.format('total')} GiB\) exceed",
        _MEMORY,
        "the weights alone take {held} of the accelerator's {total} GiB, more than gpu-memory-utilization allows; "
        "raise it, or use more accelerators or a smaller scheme",
    ),
    rule(
        rf"Available memory on node \d+ \({_GIB.format('free')}/{_GIB.format('total')} GiB\) on kv cache allocation is "
        rf"less than requested memory for kv \({_GIB.format('asked')}",
        _MEMORY,
        "the KV cache is to have {asked} GiB but only {free} of the machine's {total} GiB are available; lower "
        "VLLM_CPU_KVCACHE_SPACE or gpu-memory-utilization, or free memory",
    ),
    rule(
        rf"Available memory on node \d+ \({_GIB.format('free')}/{_GIB.format('total')} GiB\) on startup is less than "
        rf"desired CPU memory utilization \({_GIB.format('share')}, {_GIB.format('asked')} GiB\)",
        _MEMORY,
        "vLLM wants {asked} GiB of memory (gpu-memory-utilization {share} of the machine) but only {free} of {total} "
        "GiB are available; set VLLM_CPU_KVCACHE_SPACE (GiB) or a lower gpu-memory-utilization, or free memory",
    ),
    rule(
        r"To serve at least one request with the model's max seq len \((?P<length>\d+)\), "
        r"\((?P<needed>[\d.]+) GiB KV cache is needed, which is larger than the available KV cache memory "
        r"\((?P<available>[\d.]+) GiB\)",
        _MEMORY,
        _kv_cache_too_small,
    ),
    rule(
        r"The model's max seq len \((?P<length>\d+)\) is larger than the maximum number of tokens that can be stored "
        r"in "
        r"KV cache \((?P<fits>\d+)\)",
        _MEMORY,
        "the KV cache is too small: it holds {fits} tokens, less than one request of max-model-len {length}; lower "
        "max-model-len or raise gpu-memory-utilization",
    ),
    rule(
        r"max_num_seqs \((?P<asked>\d+)\) exceeds available Mamba cache blocks \((?P<fits>\d+)\)",
        _MEMORY,
        "memory is left for the state of {fits} requests at a time, max-num-seqs asks for {asked}; lower max-num-seqs "
        "or raise gpu-memory-utilization",
    ),
    rule(
        r"To serve at least one request with the model's max seq len",
        _MEMORY,
        "the KV cache is too small for one request of max-model-len; lower max-model-len, or give the cache more "
        "(VLLM_CPU_KVCACHE_SPACE on CPU, gpu-memory-utilization or a smaller model on a GPU)",
    ),
    rule(
        r"No available memory for the cache blocks|Cannot auto-fit max_model_len: not enough GPU memory",
        _MEMORY,
        "no memory is left for the KV cache once the weights are loaded; raise gpu-memory-utilization, use more "
        "accelerators, or quantize further",
    ),
    rule(
        r"\b(?:CUDA|HIP|XPU|NPU) out of memory\b.*"
        r"|\b(?:CUDA|CUDA driver|HIP|HIP runtime) error: out of memory|CUDA_ERROR_OUT_OF_MEMORY"
        r"|cudaErrorMemoryAllocation|hipErrorOutOfMemory|hipErrorMemoryAllocation"
        r"|(?:Cuda|CUDA|HIP|Triton) (?:failure|error|Error)\b.{0,80}?out of memory'?"
        r"|\b(?:CUBLAS|CUDNN|CUSOLVER|CUSPARSE|HIPBLAS|HIPSPARSE|CURAND)_STATUS_ALLOC(?:ATION)?_FAILED"
        r"|rocblas_status_memory_error|miopenStatusAllocFailed"
        r"|\b(?:UR|ZE|PI)_(?:RESULT_)?ERROR_OUT_OF_(?:DEVICE_MEMORY|RESOURCES)|\bPI_ERROR_MEM_OBJECT_ALLOCATION_FAILURE"
        r"|RESOURCE_EXHAUSTED: (?![^\n]*memory space (?:smem|vmem|sflag)).*|\bPT_DEVMEM Allocation failed.*"
        r"|NVML_SUCCESS == .*INTERNAL ASSERT FAILED at .*CUDACachingAllocator.*"  # counting what is left of it
        r"|\bNRT_RESOURCE\b.*|\bNRT_TENSOR_ALLOC.*|\bEL0004\b.*"
        r"|^(?:torch\.|torch\.\w+\.|\w+\.)?OutOfMemoryError\b(?!.*node running low).*",
        _MEMORY,
        _accelerator,
    ),
    rule(
        r"DefaultCPUAllocator: (?:can't allocate memory|not enough memory)[^\n]*|std::bad_alloc"
        r"|^(?:[\w.]+\.)?(?:_Array)?MemoryError\b"
        r"|[Cc]annot allocate memory|\bunable to mmap \d+ bytes|UR_RESULT_ERROR_OUT_OF_HOST_MEMORY"
        r"|ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY|PI_ERROR_OUT_OF_HOST_MEMORY|node running low on memory"
        r"|due to memory pressure|\bC10 Out of Memory\b",
        _MEMORY,
        "the engine could not allocate memory on the host; give it more, or lower VLLM_CPU_KVCACHE_SPACE or "
        "max-model-len",
    ),
)

CRASHES: tuple[Rule, ...] = (
    rule(
        r"^Fatal Python error: Bus error.*$|^.*\*\*\* SIGBUS received.*$|^.*\bBus error\b.*$",
        _LOAD,
        lambda match, log: (
            "the engine crashed with a bus error, as it does when /dev/shm is too small for its processes; give the "
            "pod more (an emptyDir with medium: Memory mounted at /dev/shm) or the container --shm-size"
        ),
    ),
    rule(
        r"^(?:\S+: (?:line )?\d+: +(?:\d+ )?)?Killed\b",
        _MEMORY,
        "a process of the engine was killed (SIGKILL), most likely because the machine or its container ran out of "
        "memory; give it more memory, or lower VLLM_CPU_KVCACHE_SPACE or max-model-len",
    ),
)
"""For aborts of native code alone."""
