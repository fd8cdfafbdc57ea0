"""The machine: its accelerators and their driver, the engine's build and libraries, compilers, network and files.

Sources of the texts: torch, Triton, NCCL, glibc, the kernel's error strings, and vLLM 0.32 (platforms/*.py,
model_executor/kernels, model_executor/layers/quantization, v1/executor/ray*, v1/engine/core_client.py).
"""

from __future__ import annotations

import re
from itertools import takewhile

from haqa_contract.engine_log.lines import EngineLog
from haqa_contract.engine_log.rule import Rule, excerpt, rule
from haqa_contract.failures import FailureReason

_LOAD = FailureReason.ENGINE_LOAD_FAILED
_KERNEL_REASON = re.compile(r"\bcannot implement\b|\brequires\b|\bdisabled\b|\bnot supported\b")
_SHOWN_REASONS = 3
_TAKE_OUT = "take the scheme out of the search for this pool"


def _no_kernel(match: re.Match[str], log: EngineLog) -> str:
    following = match.string[match.end() :].splitlines()[1:]
    reasons = [line.strip(" .") for line in takewhile(_KERNEL_REASON.search, following)]
    more = "; …" if len(reasons) > _SHOWN_REASONS else ""
    why = f" ({'; '.join(reasons[:_SHOWN_REASONS])}{more})" if reasons else ""
    return f"this device has no kernel for the scheme: {match['layer']} linear layers cannot run here{why}; {_TAKE_OUT}"


def _capability_too_low(match: re.Match[str], log: EngineLog) -> str:
    needed, present = (f"{number[:-1]}.{number[-1]}" for number in (match["needed"], match["present"]))
    scheme = f"the quantization method {match['method']}" if match["method"] else "the quantization scheme"
    return (
        f"{scheme} needs compute capability {needed}, this GPU has {present}; take it out of the search for this pool"
    )


def _no_operator(match: re.Match[str], log: EngineLog) -> str:
    operator = match["missing"] or match["run"] or match["absent"]
    return (
        f"this engine build has no such kernel for this device: {operator} (the device lacks instructions that it "
        "needs, or the image is made for other hardware); take the scheme or setting that uses it out of the search "
        "for this pool, or use the engine image for this hardware"
    )


def _port(match: re.Match[str], log: EngineLog) -> str:
    return f"port {log.setting('port') or ''} is taken by another process; stop that, or name another port"


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


_COMPILERS = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (r"nvcc (?:fatal|error)[^\n]*", r"\b(?:fatal )?error: [^\n]*", r"^FAILED: [^\n]*")
)
"""What compilers say of a build that fails, the ones that say most first."""


def _build(match: re.Match[str], log: EngineLog) -> str:
    said = next((found for pattern in _COMPILERS if (found := pattern.search(match.string))), match)
    return (
        f"a kernel that vLLM compiles when it starts does not build ({excerpt(said[0], 240)}); use an engine image "
        "whose compiler and CUDA or ROCm version fit each other and the device, or leave out what needs the kernel ("
        "for FlashInfer's sampler: VLLM_USE_FLASHINFER_SAMPLER=0 in the pool's env)"
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
    rule(r"Failed to find a kernel that can implement the (?P<layer>\S+) linear layer", _LOAD, _no_kernel),
    rule(
        r"(?:NotImplementedError: )?(?P<what>No compressed-tensors compatible scheme was found)"
        r"|Forced (?P<type>\S+) kernel \S+ is not supported: (?P<why>[^\n]*)"
        r"|(?P<primitive>could not create a primitive(?: descriptor)? for the \w+ primitive)"
        r"|(?P<brgemm>\w+ Brgemm is only supported [^\n]*)",
        _LOAD,
        lambda match, log: (
            "this device has no kernel for the scheme "
            f"({excerpt(match['what'] or match['why'] or match['primitive'] or match['brgemm'])}); {_TAKE_OUT}"
        ),
    ),
    rule(
        r"(?P<what>DeepGEMM backend is not available[^.\n]*"
        r"|Assertion error \(\S*(?:csrc/apis|csrc/jit|deep_?gemm)\S*\): [^\n]*)",
        _LOAD,
        "the DeepGEMM kernels for FP8 do not work on this device in this image ({what}); set VLLM_USE_DEEP_GEMM=0 in "
        "the pool's env, or " + _TAKE_OUT,
    ),
    rule(
        r"(?P<method>\S+) quantization is currently not supported in (?P<device>[^.\n]+)\.",
        _LOAD,
        "vLLM cannot serve {method} quantization on {device}; " + _TAKE_OUT,
    ),
    rule(
        r"(?:quantization method (?P<method>\S+) is not supported|Quantization scheme is not supported) for the "
        r"current GPU\. (?:Min\w*|Required) capability: (?P<needed>\d+)\. Current capability: (?P<present>\d+)",
        _LOAD,
        _capability_too_low,
    ),
    rule(
        r"Unknown quantization method: (?P<method>\S+?)\. Must be one of",
        _LOAD,
        "vLLM does not know the quantization method {method} that the model's config.json names; quantize it with a "
        "scheme that HAQA lists",
    ),
    rule(
        r"The quantization method (?P<method>\S+) is deprecated",
        _LOAD,
        "this vLLM no longer serves the quantization method {method}; quantize the model with a scheme that HAQA lists",
    ),
    rule(
        r"Quantization method specified in the model config \((?P<model>[^)]+)\) does not match the quantization "
        r"method specified in the `quantization` argument \((?P<argument>[^)]+)\)",
        _LOAD,
        "the model is quantized with {model} but the argument --quantization says {argument}; take --quantization out",
    ),
    rule(
        r"No (?P<what>\w+) MoE backends? (?:available|supports)[^\n]*",
        _LOAD,
        "this device has no kernel for mixture-of-experts layers in {what}; " + _TAKE_OUT,
    ),
    rule(
        r"'_OpNamespace' '\w+' object has no attribute '(?P<missing>\w+)'"
        r"|Could not run '(?P<run>[^']+)' with arguments from the '\w+' backend"
        r"|(?:operator|Operator) (?P<absent>\w+::\w+) does not exist",
        _LOAD,
        _no_operator,
    ),
    rule(
        r"no kernel image is available for execution on the device|hipErrorNoBinaryForGpu|invalid device function"
        r"|device kernel image is invalid",
        _LOAD,
        "this engine build has no kernels for this GPU's architecture; use an engine image that was built for it",
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
        r"Could not find nvcc|nvcc: (?:command )?not found|No such file or directory: '\S*nvcc'"
        r"|CUDA_HOME environment variable is not set",
        _LOAD,
        "vLLM compiles kernels for this model when it starts, and the engine's image has no CUDA compiler (nvcc); use "
        "an image with the CUDA toolkit, or leave out what needs the kernel (for FlashInfer's sampler: "
        "VLLM_USE_FLASHINFER_SAMPLER=0 in the pool's env)",
    ),
    rule(
        r"No such file or directory: '(?P<tool>ninja|gcc|g\+\+|c\+\+|cc|clang\+*)'|Failed to find C compiler"
        r"|InvalidCxxCompiler|No working C\+\+ compiler|Ninja is required|fatal error: Python\.h",
        _LOAD,
        lambda match, log: (
            "vLLM compiles kernels for this model when it starts and found no "
            f"{match['tool'] or 'working C++ compiler'}; install build-essential, ninja-build and python3-dev in the "
            "engine's image, or set enforce-eager"
        ),
    ),
    rule(
        r"ld: cannot find -l(?P<library>\w+)",
        _LOAD,
        "kernels that vLLM compiles at start cannot be linked: lib{library} is missing; make the driver's libraries "
        "visible in the container (ldconfig, LIBRARY_PATH), or set enforce-eager",
    ),
    rule(
        r"Ninja build failed|ninja: build stopped|Error building extension '[^']*'|nvcc (?:fatal|error)[^\n]*",
        _LOAD,
        _build,
    ),
    rule(
        r"(?P<what>Graph compile failed[^\n]*|synNodeCreateWithId failed[^\n]*"
        r"|[^\n]*Ran out of memory in memory space (?:smem|vmem|sflag)[^\n]*|XLA:TPU compile permanent error[^\n]*)",
        _LOAD,
        lambda match, log: (
            f"the accelerator's compiler refuses the model's graph ({excerpt(match['what'], 240)}); lower "
            "max-model-len or max-num-batched-tokens, leave this configuration out, or use another vLLM version"
        ),
    ),
    rule(
        r"ptxas (?:fatal|error)[^\n]*|PTXASError|PassManager::run failed|CompilationError: [^\n]*",
        _LOAD,
        lambda match, log: (
            f"Triton cannot compile a kernel for this device ({excerpt(match[0], 240)}); use an engine image made for "
            "it, another attention backend, or leave out what uses the kernel"
        ),
    ),
    rule(
        r"(?P<what>(?:torch\._dynamo\.exc\.\w+|torch\._inductor\.exc\.\w+|\bBackendCompilerFailed): [^\n]*)",
        _LOAD,
        lambda match, log: (
            f"torch.compile failed on this model ({excerpt(match['what'])}); set enforce-eager, or leave out the "
            "setting that it names"
        ),
    ),
    rule(
        r"Watchdog caught collective operation timeout[^\n]*",
        _LOAD,
        "a GPU stopped answering the others (an NCCL operation timed out); check the links between the GPUs, or use "
        "fewer GPUs per replica",
    ),
    rule(
        r"(?:client socket has timed out after \d+ ?ms while trying to connect to (?P<address>\([^)]*\)|\S+)"
        r"|Timed out after \d+ seconds waiting for clients)",
        _LOAD,
        "the engine's processes did not find each other in time {address}; check the network between the nodes and the "
        "address that VLLM_HOST_IP or master-addr names",
    ),
    rule(
        r"^.*(?:NCCL|RCCL) error[^\n]*|^.*ncclSystemError[^\n]*|^.*ncclUnhandledCudaError[^\n]*"
        r"|^.*ncclInternalError[^\n]*|^.*ncclInvalidUsage[^\n]*|^.*DistBackendError: [^\n]*"
        r"|^Failed: [^\n]*custom_all_reduce[^\n]*|^.*\boneCCL: [^\n]*|^.*HCCL function error[^\n]*"
        r"|^.*hccl api failed[^\n]*|peer access is not supported[^\n]*",
        _LOAD,
        _collective,
    ),
    rule(
        r"an illegal memory access was encountered|device-side assert triggered|misaligned address|unspecified launch "
        r"failure|cudaErrorIllegalAddress|CUBLAS_STATUS_(?:EXECUTION_FAILED|INTERNAL_ERROR|NOT_SUPPORTED)[^\n]*"
        r"|Memory access fault by GPU[^\n]*|HW Exception by GPU[^\n]*|HSA_STATUS_ERROR\w*",
        _LOAD,
        lambda match, log: (
            f"a kernel crashed on the accelerator ({excerpt(match[0], 160)}); leave this configuration out, or use "
            "another vLLM version"
        ),
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
        r"\b(?:CUDA|HIP|XPU)(?: driver| runtime)? error: (?P<what>[^\n]+)",
        _LOAD,
        "a kernel crashed on the accelerator ({what}); leave this configuration out, or use another vLLM version",
    ),
)

CRASHES: tuple[Rule, ...] = (
    rule(
        r"(?P<what>LLVM ERROR: [^\n]*)|mlir::[^\n]*(?P<failed>Assertion [`'].*' failed)",
        _LOAD,
        lambda match, log: (
            f"Triton cannot compile a kernel for this device ({excerpt(match['what'] or match['failed'], 240)}); use "
            "an engine image made for it, another attention backend, or leave out what uses the kernel"
        ),
    ),
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
    ),
)
"""For aborts of native code alone: their words are common ones in other messages."""
