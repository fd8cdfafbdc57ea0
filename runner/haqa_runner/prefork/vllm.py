"""What the preforking launcher has to know about vLLM: what to import, and what it will export."""

from collections.abc import Mapping, Sequence
from pathlib import Path

# What the API server, the engine core and the worker of an x86 CPU engine import, whatever the
# model. Not the program itself (vllm.entrypoints.openai.api_server): each process runs that as
# its own __main__. Found by comparing sys.modules of running processes with their images'.
VLLM_PRELOAD: tuple[str, ...] = (
    # First and by itself: it brings OpenMP, which binds the thread that loads it (see `image.main`).
    "torch",
    "vllm.entrypoints.launchers.api_server.entry",
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.worker.cpu_worker",
    # Imported inside functions:
    "vllm.v1.core.sched.scheduler",
    "vllm.v1.attention.backends.cpu_attn",
    "vllm.model_executor.models.llama",
    "vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors",
    "vllm.model_executor.layers.quantization.online.base",
    "vllm.renderers.hf",
    "vllm.entrypoints.anthropic.api_router",
    "vllm.entrypoints.generate.structured_decisions.api_router",
    "vllm.entrypoints.serve.tokenize.api_router",
    "model_hosting_container_standards.sagemaker",
    "prometheus_fastapi_instrumentator",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.websockets_sansio_impl",
)


def vllm_cpu_env(env: Mapping[str, str], python: Path) -> dict[str, str]:
    """`env` with what vLLM's CPU platform exports to every process it starts.

    Optional. The API server sets these for the engine core and the worker anyway
    (vllm/platforms/cpu.py, check_and_update_config), which therefore run with the same
    environment either way; setting them from the start lets API server and engine core share an
    image, and saves its import and its 0.6 GiB. `python` is the serving environment's
    interpreter.
    """
    made = dict(env)
    made.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    made.setdefault("TORCHINDUCTOR_CPP_DYNAMIC_THREADS", "1")
    preload = made.get("LD_PRELOAD", "")
    if not any(name in preload for name in ("libomp", "libgomp", "libiomp")):
        found = sorted(python.parent.parent.glob("lib/python3*/site-packages/torch.libs/libgomp*.so*"))
        found += sorted(python.parent.parent.glob("lib/python3*/site-packages/torch/lib/libgomp*.so*"))
        if found:
            made["LD_PRELOAD"] = f"{preload}:{found[0]}" if preload else str(found[0])
    return made


def vllm_cpu_worker_env(env: Mapping[str, str], python: Path, cpus: Sequence[int]) -> dict[str, str]:
    """What a worker bound to `cpus` is started with, given that the engine is launched with `env`.

    For `PreforkedLauncher.warm` only, so that the first engine need not wait for the worker's
    image; vLLM itself decides what it starts (vllm/utils/ompmultiprocessing.py). A wrong guess
    costs an image that nobody uses.
    """
    made = vllm_cpu_env(env, python) | {"OMP_NUM_THREADS": str(len(cpus))}
    if any(name in made.get("LD_PRELOAD", "") for name in ("libiomp", "libomp")):
        listed = ",".join(str(cpu) for cpu in cpus)
        made |= {"KMP_AFFINITY": f"granularity=fine,explicit,proclist=[{listed}]"}
        made |= {"KMP_BLOCKTIME": "5", "KMP_TPAUSE": "0"}
    else:
        made["GOMP_CPU_AFFINITY"] = " ".join(str(cpu) for cpu in cpus)
    return made
