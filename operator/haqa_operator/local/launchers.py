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
        # What vLLM's CPU platform exports to its engine core anyway; from the start, both can share an interpreter.
        return engines.launch(argv, vllm_cpu_env(env, serving.python) if on_cpu else env, cwd, log)

    try:
        if on_cpu:
            engines.warm(*_cpu_environments(serving.python))
        yield runner, spawn
    finally:
        runner.close()
        engines.close()


def _cpu_environments(python: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Of API server and engine core, and of a worker with vLLM's own thread binding: all cores but the last."""
    env = {**os.environ, **ENGINE_ENV}
    cpus = sorted(os.sched_getaffinity(0))
    return vllm_cpu_env(env, python), vllm_cpu_worker_env(env, python, cpus[:-1] or cpus)
