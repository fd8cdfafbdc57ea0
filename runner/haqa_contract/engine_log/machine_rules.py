"""The machine: its accelerators and their driver, the engine's libraries, network and files.

Sources of the texts: torch, NCCL, glibc, the kernel's error strings, and vLLM 0.32 (platforms/*.py, v1/executor/ray*,
v1/engine/core_client.py).
"""

from __future__ import annotations

import re

from haqa_contract.engine_log.lines import EngineLog
from haqa_contract.engine_log.rule import Rule, excerpt, rule
from haqa_contract.failures import FailureReason

_LOAD = FailureReason.ENGINE_LOAD_FAILED


def _port(match: re.Match[str], log: EngineLog) -> str:
    own = log.setting("port")
    named = re.search(r"\bport: (\d+)", match.string)
    if named and named[1] != own:
        return (
            f"port {named[1]}, which the engine chose for its own processes, is taken by another process; start the "
            "engine again, and give it a network of its own (no hostNetwork)"
        )
    return f"port {own or ''} is taken by another process; stop that, or name another port"


def _library(match: re.Match[str], log: EngineLog) -> str:
    name = match["library"]
    if name.startswith(("libcuda.so", "libnvidia")):
        return (
            f"the NVIDIA driver is not in the container ({name} is missing); check that the node has the driver and "
            "the container toolkit, and that the pod asks for a GPU"
        )
    return (
        f"the engine's image lacks the library {name}; use an image that was built for this hardware and its CUDA or "
        "ROCm version"
    )


def _collective(match: re.Match[str], log: EngineLog) -> str:
    said = re.search(r"(?:NCCL|RCCL) WARN ([^\n]+)|Last error:\n([^\n]+)", match.string)
    why = excerpt((said[1] or said[2]) if said else match[0], 240)
    return (
        f"the GPUs cannot talk to each other: {why}; check /dev/shm, NCCL_* variables and the links between the GPUs, "
        "or use one GPU per replica (NCCL_DEBUG=INFO in the pool's env says more)"
    )


def _file_system(match: re.Match[str], log: EngineLog) -> str:
    path = match["path"] or "its cache"
    what = "is read-only" if match["what"] == "Read-only file system" else "may not be written or read by the engine"
    return (
        f"{path} {what} ({match['what']}); give the engine a writable home (HOME, HF_HOME, VLLM_CACHE_ROOT in the "
        "pool's env, on a volume) or correct the owner of the volume"
    )


RULES: tuple[Rule, ...] = (
    rule(
        r"^OSError: \[Errno 98\] .*[Aa]ddress already in use.*$|error while attempting to bind on address"
        r"|EADDRINUSE|^zmq\.error\.ZMQError: Address already in use",
        _LOAD,
        _port,
    ),
    rule(
        r"CUDA driver version is insufficient|NVIDIA driver on your system is too old|unsupported toolchain"
        r"|cudaErrorInsufficientDriver|system has unsupported display driver",
        _LOAD,
        "the node's GPU driver is too old for this engine image; update the driver, or use an image built for an older "
        "CUDA",
    ),
    rule(
        r"system not yet initialized|cudaErrorSystemNotReady",
        _LOAD,
        "the node's NVLink fabric is not ready (CUDA error 802); start the NVIDIA fabric manager on the node, in the "
        "driver's version",
    ),
    rule(
        r"uncorrectable ECC error|cudaErrorECCUncorrectable|Uncorrectable NVLink error|GPU has fallen off the bus",
        _LOAD,
        lambda match, log: (
            f"a GPU of this node is faulty ({excerpt(match[0])}); drain the node, and reset or replace the GPU"
        ),
    ),
    rule(
        r"CUDA-capable device\(s\) is/are busy or unavailable|cudaErrorDevicesUnavailable",
        _LOAD,
        "another process holds the GPU exclusively, or it is in prohibited mode; stop that process, or set the GPU's "
        "compute mode to default",
    ),
    rule(
        r"invalid device ordinal",
        _LOAD,
        "the engine is to run on more GPUs than it sees (invalid device ordinal); set gpusPerReplica (and "
        "tensor-parallel-size) to what the node has, and leave CUDA_VISIBLE_DEVICES unset",
    ),
    rule(
        r"Failed to infer device type|No CUDA GPUs are available|No HIP GPUs are available|Found no NVIDIA driver"
        r"|no CUDA-capable device is detected|Unexpected error from cudaGetDeviceCount"
        r"|NVML: Driver/library version mismatch"
        r"|CUDA unknown error - this may be due to an incorrectly set up environment|Device acquire failed"
        r"|NVMLError\w*|No XPU devices are available|UR_RESULT_ERROR_DEVICE_LOST",
        _LOAD,
        "vLLM cannot use this machine's accelerator; check the driver, the device plugin, and that the engine image is "
        "made for this hardware",
    ),
    rule(
        r"(?:error while loading shared libraries: |^(?:ImportError"
        r"|OSError): )?(?P<library>lib\S+?\.so[\w.]*): cannot open "
        r"shared object file",
        _LOAD,
        _library,
    ),
    rule(
        r"version `(?P<needed>(?:GLIBC|GLIBCXX|CXXABI)_[\d.]+)' not found",
        _LOAD,
        "this vLLM was built for a newer system than it runs on ({needed} is missing); use the official engine image",
    ),
    rule(
        r"undefined symbol: (?P<symbol>\w+)",
        _LOAD,
        "vLLM and a library that it loads were built for different versions of PyTorch (undefined symbol {symbol}); "
        "use an unchanged engine image",
    ),
    rule(
        r"Watchdog caught collective operation timeout[^\n]*",
        _LOAD,
        "a GPU stopped answering the others (an NCCL operation timed out); check the links between the GPUs, or use "
        "fewer GPUs per replica",
    ),
    rule(
        r"(?:client socket has timed out after \d+ ?ms while trying to connect to \(?(?P<address>[^()\n]+[^().\s])"
        r"|Timed out after \d+ seconds waiting for clients)",
        _LOAD,
        lambda match, log: (
            f"the engine's processes did not find each other in time ({excerpt(match['address'] or match[0], 160)}); "
            "check the network between the nodes and the address that VLLM_HOST_IP or master-addr names"
        ),
    ),
    rule(
        r"^.*(?:NCCL|RCCL) error[^\n]*|^.*ncclSystemError[^\n]*|^.*ncclUnhandledCudaError[^\n]*"
        r"|^.*ncclInternalError[^\n]*|^.*ncclInvalidUsage[^\n]*|^.*DistBackendError: [^\n]*"
        r"|^.*\boneCCL: [^\n]*|^.*HCCL function error[^\n]*"
        r"|^.*hccl api failed[^\n]*|peer access is not supported[^\n]*",
        _LOAD,
        _collective,
    ),
    rule(
        r"number of required GPUs exceeds the total number of available GPUs in the placement group"
        r"|Current node has no GPU available|Ray does not allocate any GPUs on the driver node"
        r"|Cannot provide a placement group of[^\n]*|Not enough resources to allocate[^\n]*placement groups?[^\n]*"
        r"|not included in a placement group",
        _LOAD,
        "Ray has fewer GPUs than the engine asks for; check that all nodes have joined it, or keep the engine on one "
        "node (gpusPerReplica within a node)",
    ),
    rule(
        r"Every node should have a unique IP address|Failed to import Ray"
        r"|Using Ray backend requires installation of ray"
        r"|current platform \S+ does not support ray|Ray version [^\n]* is required",
        _LOAD,
        lambda match, log: (
            f"Ray cannot run this engine ({excerpt(match[0], 160)}); set distributed-executor-backend to mp, or repair "
            "the Ray cluster"
        ),
    ),
    rule(
        r"(?P<what>NIXL_ERR_\w+|nixl\w+Error[^\n]*|\b(?:LMCache|Mooncake|mooncake)\w*[^\n]*(?:[Ff]ail|[Ee]rror)[^\n]*)",
        _LOAD,
        "the connector that transfers the KV cache cannot be set up ({what}); check its libraries and UCX_* variables "
        "in the engine's image and the network between the engines, or take kv-transfer-config out",
    ),
    rule(
        r"RayChannelTimeoutError",
        _LOAD,
        "a Ray worker of the engine did not answer in time; a kernel or a link between nodes hangs: check the network "
        "between the nodes, or raise RAY_CGRAPH_get_timeout in the pool's env",
    ),
    rule(
        r"ActorDiedError|The actor died unexpectedly|RaySystemError|WorkerCrashedError",
        _LOAD,
        "a Ray worker of the engine died; its own log on its node says why (memory, /dev/shm and a crashed kernel are "
        "usual)",
    ),
    rule(
        r"(?P<what>Permission denied|Read-only file system)(?:: '(?P<path>[^']+)')?",
        _LOAD,
        _file_system,
    ),
    rule(
        r"Timed out waiting for (?:new )?engine core processes to start\..*?Waited (?P<seconds>[\d.]+)s",
        FailureReason.TIMEOUT,
        "vLLM gave its engine process {seconds} s to load the model, too few; raise VLLM_ENGINE_READY_TIMEOUT_S in the "
        "pool's env, or put the model on a faster disk",
    ),
    rule(
        r"RPC call to (?P<method>\S+) timed out",
        _LOAD,
        "a worker of the engine did not answer in time (call {method}); a kernel or a link between GPUs hangs: leave "
        "this configuration out, or raise VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS",
    ),
    rule(
        r"^(?:asyncio\.exceptions\.)?TimeoutError\n +at (?:asyncio|vllm/engine/async)\S*",
        _LOAD,
        "a step of the engine took too long; a kernel or a link between GPUs hangs: leave this configuration out, or "
        "raise VLLM_ENGINE_ITERATION_TIMEOUT_S in the pool's env",
    ),
    rule(
        r"Too many open files",
        _LOAD,
        "the engine may open too few files; raise the limit of open files (ulimit -n) of the node's containers",
    ),
    rule(
        r"can't start new thread|Resource temporarily unavailable",
        _LOAD,
        "the engine may start no more threads or processes; raise the pod's limit of processes (pids), or lower "
        "OMP_NUM_THREADS",
    ),
    rule(
        r"^ModuleNotFoundError: No module named '(?P<module>[^']+)'|\b[Pp]lease install (?P<package>[^\n]*)"
        r"|(?P<kernels>\w+ kernels not found)",
        _LOAD,
        lambda match, log: (
            "the engine's image lacks a Python package that this model or setting needs "
            f"({excerpt(match['module'] or match['package'] or match['kernels'], 160)}); use an image that has it, or "
            "leave out what needs it"
        ),
    ),
    rule(
        r"^(?P<what>ImportError: cannot import name [^\n]*"
        r"|AttributeError: [^\n]*Tokenizer[^\n]*has no attribute[^\n]*"
        r"|RuntimeError: Failed to import transformers[^\n]*)",
        _LOAD,
        lambda match, log: (
            f"vLLM and a Python library in its image do not fit together ({excerpt(match['what'])}); use an unchanged "
            "engine image"
        ),
    ),
    rule(
        r"Error in memory profiling\. Initial free memory[^\n.]*",
        _LOAD,
        "another process freed memory of the accelerator while vLLM measured it; give the engine an accelerator of its "
        "own, or start it when nothing else starts or stops there",
    ),
    rule(
        r"Connection (?:closed|reset) by peer[^\n]*|Broken pipe|Failed to recv, got 0 bytes[^\n]*"
        r"|ncclRemoteError[^\n]*",
        _LOAD,
        lambda match, log: (
            f"another process of the engine ended first ({excerpt(match[0], 160)}), perhaps on another node; its own "
            "log says why"
        ),
    ),
)

CRASHES: tuple[Rule, ...] = (
    rule(
        r"Fatal Python error: Illegal instruction|\bIllegal instruction\b|\*\*\* SIGILL received",
        _LOAD,
        "the engine used an instruction that this CPU lacks; use an engine image built for it (the CPU images need "
        "AVX512 or AVX2), or other nodes",
    ),
    rule(
        r"(?:exec format error|cannot execute binary file)",
        _LOAD,
        "the engine's image is made for another CPU architecture than this node's; use an image for it",
    ),
    rule(
        r"(?P<signal>Assertion [`'][^\n]*' failed|Segmentation fault|Segfault|SIGSEGV|SIGFPE"
        r"|Floating point exception|Aborted|SIGABRT"
        r"|double free or corruption|corrupted [^\n]+|free\(\): [^\n]+|malloc\(\): [^\n]+|stack smashing)",
        _LOAD,
        "a process of the engine crashed in native code ({signal}); leave this configuration out, or use another vLLM "
        "version",
        of_configuration=True,
    ),
)
"""For aborts of native code alone: their words are common ones in other messages."""
