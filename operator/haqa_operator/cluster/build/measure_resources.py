"""What the container that measures asks for: CPU by the rate that its load generator has to read."""

from __future__ import annotations

import math

from haqa_contract.load_generation import cores, processes
from haqa_operator.api.quantities import parse_quantity
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.serving.pod import Resources, default_resources

_LEAST_MILLICORES = 250
_UNKNOWN_MILLICORES = 1000
"""On accelerators of which nobody knows how fast they are: one process with a core of its own."""
_SHARE = 0.9
"""Of what belongs to a replica's accelerators; the rest is for the node's own daemons."""
_HOST_CORES = 4.0
"""For each accelerator, where the nodes do not say."""
_PROCESS_MIB = 128


def measure_resources(accelerator: Accelerator, tokens_per_s: float | None) -> Resources:
    """Requests without limits: what is idle may be used, and nothing is throttled.

    Never more than the node has for this replica beside the engine, so that the pod fits where the engine does. The
    generator then has less under contention than it may need, and a window in which it was the limit does not count.

    Args:
        tokens_per_s: That the engine may reach; None where nobody knows.
    """
    if accelerator.is_cpu:
        return Resources(cpu=f"{_LEAST_MILLICORES}m", memory="1Gi")
    wanted = _UNKNOWN_MILLICORES if tokens_per_s is None else _in_steps(1000 * cores(tokens_per_s))
    millicores = max(_LEAST_MILLICORES, min(wanted, _spare_millicores(accelerator)))
    memory_mib = 1024 + _PROCESS_MIB * (processes(tokens_per_s or 0.0) - 1)
    return Resources(cpu=f"{millicores}m", memory=f"{memory_mib}Mi" if memory_mib > 1024 else "1Gi")


def _spare_millicores(accelerator: Accelerator) -> int:
    share = 1000 * _SHARE * (accelerator.host_cores or _HOST_CORES) * accelerator.count
    left = share - 1000 * parse_quantity(default_resources(accelerator).cpu)
    return _LEAST_MILLICORES * math.floor(left / _LEAST_MILLICORES)


def _in_steps(millicores: float) -> int:
    return _LEAST_MILLICORES * math.ceil(millicores / _LEAST_MILLICORES)
