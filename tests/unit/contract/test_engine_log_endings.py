"""Every ending of the table gets its reason and its sentence, whatever its start lines echo."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.contract.endings import ENDINGS, Ending

from haqa_contract import Failure, FailureReason
from haqa_contract.engine_log.diagnosis import diagnose

ARGS = ("--model", "/models/m", "--port", "8000")


def diagnosed(ending: Ending, start: str | None = None) -> Failure:
    return diagnose((ending.start if start is None else start) + ending.rest, ending.exit_code, ARGS)


@pytest.mark.parametrize("ending", ENDINGS, ids=[ending.name for ending in ENDINGS])
def test_an_ending_gets_its_reason_and_its_sentence(ending: Ending) -> None:
    failure = diagnosed(ending)
    assert ending.says in failure.message
    assert failure.reason is ending.reason
    assert "Traceback" not in failure.message
    assert len(failure.model_dump_json()) < 4096


def test_the_table_is_wide() -> None:
    assert len({ending.name for ending in ENDINGS}) == len(ENDINGS) >= 60
    assert {reason for reason, count in Counter(ending.reason for ending in ENDINGS).items() if count} >= {
        FailureReason.ENGINE_LOAD_FAILED,
        FailureReason.ENGINE_OOM,
        FailureReason.MODEL_FETCH,
        FailureReason.TIMEOUT,
    }


PLAIN = {ending.name: diagnosed(ending) for ending in ENDINGS}

TRIGGERS = sorted(
    {
        re.sub(r"^\((?:[^)]*)\) ?|^[A-Z]+ \d\d-\d\d [\d:]+ \S+ ?", "", line).strip()
        for ending in ENDINGS
        for line in ending.rest.splitlines()
        if re.search(r"rror|xception|memory|fault|WARN|NCCL|Killed|SIG|KV|failed", line)
    }
    | {"trust_remote_code=True", "Application startup complete", "[shutdown] API server: shutdown triggered"}
)
"""Words that mean something in a message, and nothing as the value of a setting."""

ECHOES = st.sampled_from(
    (
        "(EngineCore pid=211) INFO 11-27 09:14:02 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: "
        "model='{value}', trust_remote_code=True, {name}={value}, dtype=torch.bfloat16",
        "(APIServer pid=7) INFO 11-27 09:14:02 [api_utils.py:286] non-default args: {{'{name}': '{value}'}}",
        "INFO 11-27 09:14:02 api_server.py:586] args: Namespace({name}='{value}', trust_remote_code=True)",
        "(APIServer pid=7) WARNING 11-27 09:14:02 [envs.py:2010] Unknown vLLM environment variable detected: {value}",
        "(EngineCore pid=211) ERROR 11-27 09:14:02 [dump_input.py:72] Dumping input data for V1 LLM engine (v0.32.0) "
        "with config: {name}='{value}', ",
        "{name}={value}",
        "export {name}='{value}'",
        "+ exec vllm serve --{name} '{value}' --trust-remote-code",
        "usage: api_server.py [-h] [--{name} {value}]",
        "                     [--{name} {{{value}}}]",
    )
)


@given(
    ending=st.sampled_from(ENDINGS),
    echoes=st.lists(
        st.tuples(
            ECHOES,
            st.sampled_from(("served_model_name", "MODEL_NOTE", "chat-template", "quantization", "out_of_memory")),
            st.sampled_from(TRIGGERS),
            st.integers(min_value=0, max_value=20),
        ),
        min_size=1,
        max_size=6,
    ),
)
@settings(max_examples=200, deadline=None)
def test_what_the_start_lines_echo_changes_nothing(ending: Ending, echoes: list[tuple[str, str, str, int]]) -> None:
    lines = ending.start.splitlines()
    for echo, name, value, at in echoes:
        lines.insert(min(at, len(lines)), echo.format(name=name, value=value))
    echoing = diagnosed(ending, "\n".join(lines) + "\n")
    plain = PLAIN[ending.name]
    assert (echoing.reason, echoing.message) == (plain.reason, plain.message)


OUT_OF_MEMORY = [
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB.",
    "torch.OutOfMemoryError: XPU out of memory. Tried to allocate 2.00 GiB.",
    "torch.OutOfMemoryError: Allocation on device 0 would exceed allowed memory.",
    "RuntimeError: CUDA error: out of memory",
    "torch.AcceleratorError: CUDA error: out of memory",
    "RuntimeError: CUDA driver error: out of memory",
    "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "RuntimeError: cudaMalloc failed: cudaErrorMemoryAllocation",
    "RuntimeError: HIP error: out of memory",
    "RuntimeError: hipMalloc failed: hipErrorOutOfMemory",
    "RuntimeError: CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`",
    "RuntimeError: level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
    "RuntimeError: ZE_RESULT_ERROR_OUT_OF_DEVICE_MEMORY",
    "RuntimeError: Native API failed. Native API returns: -5 (PI_ERROR_OUT_OF_RESOURCES)",
    "RuntimeError: Triton Error [HIP]: out of memory",
    "RuntimeError: [enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried",
    "RuntimeError: std::bad_alloc",
    "MemoryError",
    "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 2.00 GiB for an array",
    "OSError: [Errno 12] Cannot allocate memory",
    "RuntimeError: unable to mmap 17179869184 bytes from file </models/m/model.safetensors>: Cannot allocate memory",
    "ValueError: Cannot auto-fit max_model_len: not enough GPU memory available to serve even a single token.",
]


@pytest.mark.parametrize("raised", OUT_OF_MEMORY)
def test_out_of_memory_is_one_reason_in_all_its_words(raised: str) -> None:
    log = f'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    f()\n{raised}\n'
    assert diagnose(log, 1).reason is FailureReason.ENGINE_OOM
    quoted = raised.partition(": ")[2] or raised
    pointer = (
        f"RuntimeError: Worker failed with error '{quoted}', please check the stack trace above for the root cause"
    )
    worker = "\n".join(f"(Worker pid=9) ERROR 11-27 09:14:02 [w.py:1] {line}" for line in log.splitlines())
    assert diagnose(f"{worker}\n{log.replace(raised, pointer)}", 1).reason is FailureReason.ENGINE_OOM


@given(
    module=st.lists(st.from_regex(r"\A[a-z_][a-z_0-9]{0,8}\Z"), max_size=3),
    name=st.from_regex(r"\A[A-Z][A-Za-z0-9]{1,16}\Z"),
    message=st.sampled_from(("", "'gate'", "the flux is too high", "code 7: the flux is 9, not 3")),
    logged=st.booleans(),
)
def test_an_exception_is_quoted_whatever_it_is_called(module: list[str], name: str, message: str, logged: bool) -> None:
    raised = ".".join([*module, name]) + (f": {message}" if message else "")
    text = f'Traceback (most recent call last):\n  File "flux.py", line 3, in set_flux\n    check(flux)\n{raised}'
    if logged:
        text = "\n".join(f"(EngineCore pid=7) ERROR 11-27 09:14:02 [core.py:1] {line}" for line in text.splitlines())
    end = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
    failure = diagnose(f'{text}\n\nTraceback (most recent call last):\n  File "a.py", line 1, in f\n{end}\n', 1)
    assert raised in failure.message
    assert "root cause above" not in failure.message


@given(ending=st.sampled_from(ENDINGS), cut=st.tuples(st.floats(0, 1), st.floats(0, 1)))
@settings(deadline=None)
def test_any_part_of_a_log_gives_a_sentence(ending: Ending, cut: tuple[float, float]) -> None:
    first, last = sorted(round(share * len(ending.log)) for share in cut)
    failure = diagnose(ending.log[first:last], ending.exit_code, ARGS)
    assert failure.message
    assert "Traceback (most recent call last)" not in failure.message


@given(st.text(alphabet=st.sampled_from("()[]{}:|+-=' \\n\\r\\tABEeRrorx0159.*^"), max_size=300))
@settings(deadline=None)
def test_any_text_gives_a_sentence(text: str) -> None:
    assert diagnose(text, 1, ARGS).message


def test_a_trace_that_was_written_into_an_error_is_no_part_of_it() -> None:
    """Two processes that write at once tear each other's lines."""
    torn = (
        "(EngineCore pid=87) Traceback (most recent call last):\n"
        '(EngineCore pid=87)   File "/opt/venv/flashinfer/jit/cpp_ext.py", line 100, in get_cuda_path\n'
        '(EngineCore pid=87)     raise RuntimeError("The moon is full")\n'
        "(EngineCore pid=87) RuntimeError: The moon is full (EngineCore pid=87) Traceback (most recent call last):\n"
        '(EngineCore pid=87)   File "/opt/venv/flashinfer/sampling.py", line 15, in top_k\n'
    )
    failure = diagnose(torn, 1, ARGS)
    assert "RuntimeError: The moon is full" in failure.message
    assert "Traceback" not in failure.message


def test_what_a_rule_quotes_of_a_torn_line_is_no_trace_either() -> None:
    torn = (
        "(Worker pid=9) Traceback (most recent call last):\n"
        '(Worker pid=9)   File "/opt/venv/torch/distributed/c10d.py", line 15, in all_reduce\n'
        "(Worker pid=9) torch.distributed.DistBackendError: NCCL error in: Pro (Core pid=7) Traceback (most recent "
        "call last):\n"
        '(Core pid=7)   File "/opt/venv/vllm/v1/engine/core.py", line 77, in run\n'
    )
    failure = diagnose(torn, 1, ARGS)
    assert failure.message.startswith("the GPUs cannot talk to each other: ")
    assert "NCCL_DEBUG=INFO" in failure.message
    assert "Traceback" not in failure.message
