"""What vLLM writes when it does not start: one stack trace for each process, of which the last says where to look.

The lines are those of vLLM 0.32's own logs (tests/data/engine_logs); the cause alone is the rehearsal's.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.cluster.rehearsal.memory import OutOfMemory

_STAMP = "11-29 12:00:00"
_VLLM = "/usr/lib/python3.12/site-packages/vllm/v1"


def lines_of(error: OutOfMemory) -> Iterator[str]:
    """The end of the engine's log."""
    cause = f"{error.kind}: {error}"
    if error.in_worker:
        worker = f"(Worker_TP0 pid=311) ERROR {_STAMP} [multiproc_executor.py:881]"
        yield f"{worker} WorkerProc failed to start."
        yield f"{worker} Traceback (most recent call last):"
        yield f'{worker}   File "{_VLLM}/worker/gpu_worker.py", line 512, in load_model'
        yield f"{worker}     self.model_runner.load_model()"
        yield f"{worker} {cause}"
        cause = (
            "Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace "
            "for root cause."
        )
    core = f"(EngineCore pid=211) ERROR {_STAMP} [core.py:1510]"
    yield f"{core} EngineCore failed to start."
    yield f"{core} Traceback (most recent call last):"
    yield f'{core}   File "{_VLLM}/engine/core.py", line 1482, in run_engine_core'
    yield f"{core}     engine_core = EngineCoreProc(*args, engine_index=dp_rank, **kwargs)"
    yield f"{core} {cause}"
    server = "(APIServer pid=7)"
    yield f"{server} Traceback (most recent call last):"
    yield f'{server}   File "{_VLLM}/engine/utils.py", line 1431, in wait_for_engine_startup'
    yield f"{server}     raise RuntimeError("
    yield f"{server} RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {{}}"
