"""A configuration becomes the vLLM command: the same for the trial and for the winner's Deployment.

HAQA adds as little as it can to vLLM's own defaults, since whatever it adds is part of what users then deploy.
`DEFAULTS` names all of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from haqa_contract import Configuration, EngineLaunch, Scalar
from haqa_operator.api.tuning import MAX_MODEL_LEN
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.serving.adapters import ServedAdapters
from haqa_operator.serving.environment import is_variable, variable_text
from haqa_operator.serving.model_length import MaxModelLen
from haqa_operator.serving.settings import Setting, SettingKind, catalogue
from haqa_operator.serving.versions import Version

ENGINE_PORT = 8000
DRAIN_S = 60
"""Seconds that requests in flight may take to finish when the engine is stopped."""


@dataclass(frozen=True)
class Default:
    """A setting that HAQA gives where the tuning does not."""

    name: str
    reason: str


DEFAULTS: tuple[Default, ...] = (
    Default("tensor-parallel-size", "uses all accelerators of a replica (nodePools[].gpusPerReplica)"),
    Default(MAX_MODEL_LEN, "spec.serving.maxModelLen; by default auto, what the model can take and the memory holds"),
    Default("seed", "same sampling in every trial (search.seed)"),
    Default("shutdown-timeout", "lets requests in flight finish when a pod is replaced; vLLM's default cuts them off"),
    Default("VLLM_CPU_KVCACHE_SPACE", "CPU: a quarter of the memory; vLLM's own default asks for 92 % of the machine"),
    Default("VLLM_NO_USAGE_STATS", "nothing is reported to anybody"),
    Default("HF_HUB_OFFLINE", "the model is a folder; nothing is looked up on the network"),
)


class LaunchError(ValueError):
    """The configuration cannot become a command on this hardware; the message names the setting and the remedy."""


def engine_launch(
    configuration: Configuration,
    accelerator: Accelerator,
    *,
    model_path: str,
    served_model_name: str,
    port: int = ENGINE_PORT,
    pool_env: Mapping[str, str] | None = None,
    max_model_len: MaxModelLen = None,
    trust_remote_code: bool = False,
    seed: int = 0,
    startup_timeout_s: float = 900,
    adapters: ServedAdapters | None = None,
    engine_version: Version | None = None,
) -> EngineLaunch:
    """The command for one configuration on one kind of machine.

    A setting of the configuration goes before the pool's environment, and that before HAQA's defaults. Equal inputs
    give equal commands, whatever order their mappings are in. HAQA's own defaults are left out where the engine's
    release does not have them.

    Args:
        model_path: Folder of the model, as the engine sees it.
        max_model_len: Used unless the configuration has one; None leaves vLLM's own, the model's limit.
        engine_version: None = the release that HAQA is made for.

    Raises:
        LaunchError: when the parallel sizes asked for do not multiply to the accelerators of a replica.
    """
    settings = configuration.settings
    defaults: dict[str, Scalar | None] = {
        MAX_MODEL_LEN: max_model_len,
        "seed": seed,
        "shutdown-timeout": DRAIN_S,
        "tensor-parallel-size": None if accelerator.is_cpu else tensor_parallel_size(settings, accelerator.count),
        "trust-remote-code": True if trust_remote_code else None,
    }
    given = {name: value for name, value in settings.items() if not is_variable(name)}
    known = catalogue(engine_version).settings
    wanted = {name: value for name, value in defaults.items() if name in known} | given
    present = {name: value for name, value in wanted.items() if value is not None}
    args = [f"--model={model_path}", f"--served-model-name={served_model_name}"]
    args += [text for name in sorted(present) for text in argument(name, present[name], known)]
    args += adapters.arguments() if adapters else ()
    return EngineLaunch(
        args=tuple(args),
        env=_environment(settings, accelerator, pool_env or {}),
        served_model_name=served_model_name,
        port=port,
        startup_timeout_s=startup_timeout_s,
    )


def argument(name: str, value: Scalar, known: Mapping[str, Setting] | None = None) -> tuple[str, ...]:
    """One setting as command-line arguments: at most one, with `=`, so that a value is never taken for an option.

    Args:
        known: The settings of the engine's release; None = of the one that HAQA is made for.
    """
    setting = (known or catalogue().settings).get(name, Setting(name, SettingKind.STR))
    if isinstance(value, bool):
        if value:
            return (f"--{name}",)
        return (f"--no-{name}",) if setting.kind is SettingKind.SWITCH else ()
    return (f"--{name}={value}",)


def relocated(
    launch: EngineLaunch, model_path: str, port: int = ENGINE_PORT, adapters: Mapping[str, str] | None = None
) -> EngineLaunch:
    """The same command for a model that lies elsewhere: measured in a folder here, served from a volume there.

    Args:
        adapters: Name -> folder there.

    Libraries that were preloaded here are left out: the image preloads its own, at other paths.
    """
    env = {name: value for name, value in launch.env.items() if name != "LD_PRELOAD"}
    args = tuple(f"--model={model_path}" if text.startswith("--model=") else text for text in launch.args)
    if adapters and (option := "--lora-modules") in args:
        first = args.index(option) + 1
        args = (*args[:first], *(f"{name}={adapters[name]}" for name, _, _ in (t.partition("=") for t in args[first:])))
    return launch.model_copy(update={"args": args, "env": env, "port": port})


def drain_s(launch: EngineLaunch) -> int:
    """How long this engine takes to finish its requests when it is stopped."""
    prefix = "--shutdown-timeout="
    return next((int(text.removeprefix(prefix)) for text in launch.args if text.startswith(prefix)), 0)


def tensor_parallel_size(settings: Mapping[str, Scalar], accelerators: int) -> int:
    """Accelerators left for tensor parallelism once pipeline and data parallelism have theirs.

    Raises:
        LaunchError: when the sizes do not multiply to the number of accelerators.
    """
    names = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size", "prefill-context-parallel-size")
    sizes = {name: int(settings[name]) for name in names if name in settings}
    if any(size < 1 for size in sizes.values()):
        raise LaunchError(f"{_listed(sizes)}: a parallel size is at least 1")
    used = math.prod(sizes.values())
    fits = used == accelerators if "tensor-parallel-size" in sizes else accelerators % used == 0
    if not fits:
        raise LaunchError(
            f"{_listed(sizes)} do not fit nodePools[].gpusPerReplica {accelerators}: "
            "the parallel sizes multiply to the accelerators of a replica; change one of them"
        )
    return sizes.get("tensor-parallel-size", accelerators // used)


def kv_cache_space_gib(memory_gib: float, workers: int = 1) -> int:
    """KV cache of each worker process on a CPU machine: a quarter of the memory between them, at least 1 GiB.

    The rest is for weights, which may be a second time in the page cache, for activations and for the load generator.
    """
    return max(1, int(memory_gib / 4 / workers))


def _environment(
    settings: Mapping[str, Scalar], accelerator: Accelerator, pool_env: Mapping[str, str]
) -> dict[str, str]:
    env = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    if accelerator.is_cpu and accelerator.memory_gib and not _KV_CACHE_SIZES & settings.keys():
        workers = int(settings.get("tensor-parallel-size", 1))
        env["VLLM_CPU_KVCACHE_SPACE"] = str(kv_cache_space_gib(accelerator.memory_gib, workers))
    env |= pool_env
    env |= {name: variable_text(value) for name, value in settings.items() if is_variable(name)}
    return dict(sorted(env.items()))


_KV_CACHE_SIZES = frozenset({"kv-cache-memory-bytes", "gpu-memory-utilization"})
"""On CPU, VLLM_CPU_KVCACHE_SPACE wins over these (vllm/platforms/cpu.py): it is left out where one of them is given."""


def _listed(sizes: Mapping[str, int]) -> str:
    return " x ".join(f"{name} {size}" for name, size in sizes.items())
