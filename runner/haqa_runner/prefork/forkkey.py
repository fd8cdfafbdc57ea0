"""Which environments may share an image: the rule that decides whether a fork can be trusted.

The rule is a list of exceptions, not a list of variables that matter. Importing vLLM 0.32 with
torch 2.13 asks os.environ for 534 variables, and the C libraries below them (libgomp, OpenBLAS,
the dynamic linker, malloc) read more, unseen, so a list of what matters would be wrong after the
next upgrade. A variable missing from the exceptions costs one more image; it never costs a wrong
measurement.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

FORK_SAFE_ENV: frozenset[str] = frozenset(
    {
        # Not read while importing (recorded with an instrumented os.environ, vLLM 0.32.0), but
        # later through vllm.envs or os.environ, in the process that uses the value.
        "VLLM_CPU_KVCACHE_SPACE",
        "VLLM_CPU_NUM_OF_RESERVED_CPU",
        "VLLM_CPU_OMP_THREADS_BIND",
        # oneDNN reads it when the first primitive is created; importing creates none. Checked by
        # the throughput of an engine forked from an uncapped image.
        "ONEDNN_MAX_CPU_ISA",
        # Set by vllm/platforms/cpu.py in the API server for the processes it starts.
        "LOCAL_WORLD_SIZE",
        "NUMEXPR_MAX_THREADS",
        "VLLM_DISABLE_SHARED_EXPERTS_STREAM",
        "VLLM_SSM_CONV_STATE_LAYOUT",
        "VLLM_WORKER_MULTIPROC_METHOD",
        # Of the shell or the test runner: different for every caller, and read by no engine.
        "COLUMNS",
        "LINES",
        "OLDPWD",
        "PWD",
        "PYTEST_CURRENT_TEST",
        "SHLVL",
        "_",
    }
)


@dataclass(frozen=True)
class ForkKey:
    """Everything about a process to be that was settled when its image's interpreter started."""

    env: frozenset[tuple[str, str]]
    # libgomp counts and binds to the CPUs that it finds in the affinity mask when it is loaded.
    affinity: frozenset[int]


def fork_key(env: Mapping[str, str], affinity: Iterable[int] | None = None) -> ForkKey:
    """The key of a process with this environment; equal keys may share an image.

    `affinity` is the set of CPU numbers the process may run on, by default the caller's.
    """
    cpus = os.sched_getaffinity(0) if affinity is None else affinity
    kept = frozenset((name, value) for name, value in env.items() if name not in FORK_SAFE_ENV)
    return ForkKey(kept, frozenset(cpus))


def admits(image: ForkKey, made: Mapping[str, str | None], wanted: ForkKey) -> bool:
    """Whether a process with key `wanted` may be forked from an image with key `image`.

    `made` holds the variables that the image's imports set (None: removed). A process that a
    forked one starts inherits those, so they count as equal: importing them again would set the
    same values.
    """
    if image.affinity != wanted.affinity:
        return False
    before, after = dict(image.env), dict(wanted.env)
    return all(
        after.get(name) == before.get(name) or (name in made and after.get(name) == made[name])
        for name in before.keys() | after.keys()
    )
