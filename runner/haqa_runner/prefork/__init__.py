"""Starts Python programs from a process that has already imported what they need.

A vLLM engine on CPU spends nearly all of its start-up on importing the same modules three times
(API server, engine core, worker), and a tuning run starts dozens of engines. Here an *image*, a
process that has imported them once, forks instead: the import is paid once per run.

What makes a fork trustworthy for measuring: environment variables that libraries read while they
load (LD_PRELOAD, OMP_NUM_THREADS, GOMP_CPU_AFFINITY and some 500 more in vLLM's case) had the same
values in the image's own interpreter, which was started by exec with exactly that environment.
Any other value gets another image. Nothing is emulated.

Standard library only, because it runs inside the serving environment as well as in HAQA's own.
"""

from haqa_runner.prefork.client import PreforkedLauncher, PreforkedProcess
from haqa_runner.prefork.forkkey import FORK_SAFE_ENV, ForkKey, fork_key
from haqa_runner.prefork.vllm import VLLM_PRELOAD, vllm_cpu_env, vllm_cpu_worker_env
from haqa_runner.prefork.wire import PreforkError

__all__ = [
    "FORK_SAFE_ENV",
    "VLLM_PRELOAD",
    "ForkKey",
    "PreforkError",
    "PreforkedLauncher",
    "PreforkedProcess",
    "fork_key",
    "vllm_cpu_env",
    "vllm_cpu_worker_env",
]
