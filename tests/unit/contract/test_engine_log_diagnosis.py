"""Why an engine ended, from logs that vLLM 0.32 really wrote (tests/data/engine_logs) and from its source where a CPU
cannot produce them."""

from __future__ import annotations

from pathlib import Path

import pytest

from haqa_contract import FailureReason
from haqa_contract.engine_log.diagnosis import diagnose, did_not_start

LOGS = Path(__file__).parents[2] / "data" / "engine_logs"
ARGS = ("--model", "/models/tiny", "--port=18402", "--max-model-len", "1024")

LOAD, OOM, FETCH = FailureReason.ENGINE_LOAD_FAILED, FailureReason.ENGINE_OOM, FailureReason.MODEL_FETCH

REAL = [
    ("bad_combination", LOAD, "(SchedulerConfig): max_num_batched_tokens (16) must be greater than or equal to"),
    ("block_size", LOAD, "No common block size for 7"),
    ("core_killed", OOM, "ended without an error message, most likely because"),
    ("corrupt_weights", LOAD, "a weight file of /models/tiny is damaged or cut short (incomplete metadata"),
    ("custom_code", LOAD, "set model.trustRemoteCode: true"),
    ("hub_offline", FETCH, "neither as a folder nor on the hub (outgoing traffic has been disabled)"),
    ("hub_unreachable", FETCH, "neither as a folder nor on the hub (couldn't connect to 'http://127.0.0.1:9'"),
    ("invalid_choice", LOAD, "refuses the argument --kv-cache-dtype: invalid choice: 'int3'"),
    ("invalid_int", LOAD, "refuses the argument --max-num-seqs: invalid int value: 'many'"),
    ("kv_cache_space", OOM, "to have 900.0 GiB but only"),
    (
        "kv_cache_too_small",
        OOM,
        "one request of max-model-len 2000000 needs",
    ),
    ("max_model_len", LOAD, "max-model-len 100000 is beyond what the model was made for (1024 tokens)"),
    ("memory_utilization", OOM, "(gpu-memory-utilization 0.999 of the machine)"),
    ("missing_config", LOAD, "there is no model in /models/noconfig: the folder is missing or has no config.json"),
    ("missing_folder", LOAD, "there is no model in /nonexistent/model"),
    ("missing_tokenizer", LOAD, "there is no usable tokenizer in /models/tiny; copy tokenizer.json"),
    ("missing_tool", LOAD, "CalledProcessError: Command 'lscpu"),
    ("missing_weights", LOAD, "/models/noweights holds no weights"),
    ("no_compiler", LOAD, "found no working C++ compiler; install build-essential"),
    ("no_kernel_fp8_block", LOAD, "ScaledMM linear layers cannot run here (CPUFp8W8A8BlockScaledMMKernel requires AMX"),
    ("no_kernel_nvfp4", LOAD, "NVFP4 linear layers cannot run here; take the scheme out"),
    ("no_kernel_w8a16", LOAD, "WNA16 linear layers cannot run here (Dynamic4bitLinearKernel cannot implement"),
    ("port_taken", LOAD, "port 18402 is taken by another process"),
    ("quantization_dropped", LOAD, "does not know the quantization method bitsandbytes"),
    ("quantization_mismatch", LOAD, "quantized with compressed-tensors but the argument --quantization says awq"),
    ("quantization_unknown", LOAD, "does not know the quantization method fantasyquant"),
    ("tensor_parallel", LOAD, "tensor-parallel-size 3 does not divide the model's 4 attention heads"),
    ("unknown_architecture", LOAD, "does not support the model's architecture 'FantasyForCausalLM'"),
    ("unknown_model_type", LOAD, "the model's type fantasy is unknown to this vLLM"),
    ("unrecognized_argument", LOAD, "does not know the argument --max-num-sequences"),
    ("worker_lost", OOM, "ended without an error message, most likely because"),
    ("worker_killed", OOM, "ended without an error message, most likely because"),
]


@pytest.mark.parametrize(("name", "reason", "says"), REAL, ids=[name for name, _, _ in REAL])
def test_a_real_log_gives_the_reason_and_the_remedy(name: str, reason: FailureReason, says: str) -> None:
    failure = diagnose((LOGS / f"{name}.log").read_text(), 1, ARGS)
    assert says in failure.message
    assert failure.reason is reason


def test_every_kept_log_is_tested() -> None:
    assert {path.stem for path in LOGS.glob("*.log")} == {name for name, _, _ in REAL} | {"started"}


@pytest.mark.parametrize(
    ("text", "reason", "says"),
    [
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 224.00 MiB. GPU 0 has 79 GiB",
            OOM,
            "ran out of memory (it asked for 224.00 MiB more)",
        ),
        (
            "ValueError: Free memory on device cuda:0 (3.2/79.1 GiB) on startup is less than desired GPU memory "
            "utilization (0.92, 72.8 GiB). Decrease GPU memory",
            OOM,
            "only 3.2 of the accelerator's 79.1 GiB are free",
        ),
        ("ValueError: No available memory for the cache blocks. Try increasing", OOM, "no memory is left for the KV"),
        ("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried", OOM, "on the host"),
        (
            "(EngineCore pid=7) ERROR 11-24 00:00:00 [multiproc_executor.py:316] Worker proc VllmWorker-0 died "
            "unexpectedly (exit code: -9), shutting down executor.",
            OOM,
            "a process of the engine was killed (SIGKILL)",
        ),
        (
            "ERROR 11-24 00:00:00 [x.py:316] Worker proc VllmWorker-0 died unexpectedly (exit code: -11), shutting",
            LOAD,
            "a process of the engine crashed: signal 11",
        ),
        (
            "ValueError: The quantization method modelopt is not supported for the current GPU. Minimum "
            "capability: 89. Current capability: 75.",
            LOAD,
            "the quantization method modelopt needs compute capability 8.9, this GPU has 7.5",
        ),
        (
            "RuntimeError: Quantization scheme is not supported for the current GPU. Min capability: 100. "
            "Current capability: 90.",
            LOAD,
            "needs compute capability 10.0, this GPU has 9.0",
        ),
        (
            "ValueError: awq quantization is currently not supported in cpu.",
            LOAD,
            "cannot serve awq quantization",
        ),
        (
            "ValueError: World size (4) is larger than the number of available GPUs (2) in this node.",
            LOAD,
            "is to run on 4 GPUs but sees 2",
        ),
        (
            "ValueError: torch.float32 is not supported for quantization method awq. Supported dtypes: [torch.float16]",
            LOAD,
            "awq quantization does not work with dtype torch.float32; set dtype to one of [torch.float16]",
        ),
        ("OSError: You are trying to access a gated repo.", FETCH, "is gated or private"),
        ("RuntimeError: No CUDA GPUs are available", LOAD, "cannot use this machine's accelerator"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'ninja'", LOAD, "found no ninja"),
    ],
)
def test_what_only_other_hardware_says_is_known_too(text: str, reason: FailureReason, says: str) -> None:
    failure = diagnose(f"INFO 11-24 00:00:00 [a.py:1] starting\n{text}\n", 1, ARGS)
    assert says in failure.message
    assert failure.reason is reason


@pytest.mark.parametrize("exit_code", [-9, 137])
def test_a_process_that_was_killed_ran_out_of_memory(exit_code: int) -> None:
    failure = diagnose("Loading weights\n", exit_code)
    assert failure.reason is OOM
    assert f"(exit code {exit_code})" in failure.message


def test_what_its_threads_say_at_the_end_does_not_hide_that_a_process_was_killed() -> None:
    thread = (
        "Exception in thread Thread-3 (_monitor):\nTraceback (most recent call last):\n"
        '  File "a.py", line 1, in f\nBrokenPipeError: [Errno 32] Broken pipe\n'
    )
    assert diagnose(thread, 137).reason is OOM
    request = thread.replace("BrokenPipeError: [Errno 32] Broken pipe", "ModuleNotFoundError: No module named 'x'")
    assert diagnose(request, 137).reason is OOM


@pytest.mark.parametrize(
    ("exit_code", "says"),
    [
        (-11, "died of signal 11 (segmentation fault)"),
        (132, "died of signal 4 (illegal instruction"),
        (1, "ended with exit code 1"),
        (None, "the engine ended: acme.Fancy"),
    ],
)
def test_an_unknown_end_is_the_last_exception_and_never_a_stack_trace_alone(exit_code: int | None, says: str) -> None:
    text = (
        "Traceback (most recent call last):\n"
        '  File "a.py", line 1, in f\n'
        "acme.FancyError: the flux is too high\n"
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"
    )
    failure = diagnose(text, exit_code)
    assert "FancyError: the flux is too high" in failure.message
    assert says in failure.message
    assert "Traceback" not in failure.message


def test_an_engine_that_says_nothing_at_all_still_gets_a_sentence() -> None:
    assert diagnose("", 3).message == "the engine ended with exit code 3 without saying why before it wrote a line"


def test_a_report_stays_small_enough_for_a_termination_message() -> None:
    for path in LOGS.glob("*.log"):
        assert len(diagnose(path.read_text(), 1, ARGS).model_dump_json()) < 4096


def test_the_log_tail_ends_with_the_cause() -> None:
    failure = diagnose((LOGS / "no_kernel_w8a16.log").read_text(), 1, ARGS)
    assert "Failed to find a kernel" in failure.log_tail[-1]


def test_a_start_that_takes_too_long_says_where_it_was() -> None:
    failure = did_not_start((LOGS / "worker_killed.log").read_text().split("ERROR")[0], 30)
    assert failure.reason is FailureReason.TIMEOUT
    assert "within 30 s; it was at: starting the workers" in failure.message


def test_a_start_that_hangs_because_a_rank_failed_says_why_that_one_did() -> None:
    raised = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    rank = "".join(
        f"(Worker_TP1 pid=9) ERROR 11-27 09:14:02 [w.py:1] {line}\n"
        for line in ("Traceback (most recent call last):", '  File "a.py", line 1, in f', raised)
    )
    waiting = "(Worker_TP0 pid=8) INFO 11-27 09:20:02 [shm.py:1] No available shared memory broadcast block found\n"
    failure = did_not_start(rank + waiting, 600, ARGS)
    assert failure.reason is OOM
    assert "it asked for 2.00 GiB more" in failure.message
    assert failure.message.endswith("hung after that and did not answer /health within 600 s")


@pytest.mark.parametrize(
    "log",
    [
        'Traceback (most recent call last):\n  File "a.py", line 1, in f\nacme.FluxError: nobody knows\n',
        "(Worker pid=9) ERROR 11-27 09:14:02 [w.py:1] RuntimeError: CUDA error: invalid argument\n"
        "(Worker pid=9) INFO 11-27 09:14:03 [w.py:1] Loading weights took 3 seconds\n",
        "torch.distributed.DistBackendError: NCCL error: remote process exited or there was a network error\n",
    ],
    ids=["unknown", "survived", "of another process"],
)
def test_a_start_that_takes_too_long_has_no_cause_that_is_uncertain(log: str) -> None:
    assert did_not_start(log, 30).reason is FailureReason.TIMEOUT
