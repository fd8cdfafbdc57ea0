"""Starting runner steps and engines: forked from interpreters with their imports done, or from nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from haqa_operator.local.environments import runner_environment, serving_environment
from haqa_operator.local.processes import Launcher, PlainLauncher, PreforkingLauncher, Process
from haqa_runner.prefork import VLLM_PRELOAD, vllm_cpu_env, vllm_cpu_worker_env
from haqa_runner.serve.launching import Spawn, guarded

RUNNER_PRELOAD = ("haqa_runner.quantize.warm", "haqa_runner.measure.step", "haqa_runner.measure.compare")
"""What runner steps import; once for all trials of a tuning."""

ENGINE_ENV = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
"""What every engine is given (`serving.launch.DEFAULTS`) and reads while it imports."""

Note = Callable[[str, str], None]


@contextmanager
def launchers(prefork: bool, note: Note) -> Iterator[tuple[Launcher, Spawn]]:
    """The launcher of runner steps and that of engines; everything they hold ends with the block.

    Args:
        note: Told (`runner` or `engine`, sentence) when something could not be forked.
    """
    runner_python, serving = runner_environment().python, serving_environment()
    if not prefork:
        yield PlainLauncher(runner_python), guarded(serving.python)
        return
    runner = PreforkingLauncher(runner_python, RUNNER_PRELOAD, lambda text: note("runner", text))
    engines = PreforkingLauncher(serving.python, VLLM_PRELOAD, lambda text: note("engine", text))
    on_cpu = "vllm-cpu" in serving.versions()

    def spawn(argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> Process:
        if not on_cpu:
            return engines.launch(argv, env, cwd, log)
        engines.warm(*_worker_environments(env, serving.python))
        # What vLLM's CPU platform exports to its engine core anyway; from the start, both can share an interpreter.
        return engines.launch(argv, vllm_cpu_env(env, serving.python), cwd, log)

    try:
        if on_cpu:
            first = {**os.environ, **ENGINE_ENV}
            engines.warm(vllm_cpu_env(first, serving.python), *_worker_environments(first, serving.python))
        yield runner, spawn
    finally:
        runner.close()
        engines.close()


def _worker_environments(env: Mapping[str, str], python: Path) -> Iterator[dict[str, str]]:
    """That of an engine's worker with vLLM's own thread binding: all cores but those it reserves, by default one.

    Its imports then go on beside those of API server and engine core. None for a binding of the user's own.
    """
    cpus, reserved = sorted(os.sched_getaffinity(0)), env.get("VLLM_CPU_NUM_OF_RESERVED_CPU", "1")
    if env.get("VLLM_CPU_OMP_THREADS_BIND", "auto") == "auto" and reserved.isdecimal():
        yield vllm_cpu_worker_env(env, python, cpus[: len(cpus) - int(reserved)] or cpus)
