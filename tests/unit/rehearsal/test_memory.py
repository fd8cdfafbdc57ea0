"""Where a GPU's memory ends in the rehearsal, and that its words are understood as vLLM's are."""

from __future__ import annotations

import pytest
from tests.cluster.rehearsal.arguments import Arguments
from tests.cluster.rehearsal.checkpoints import Checkpoint
from tests.cluster.rehearsal.devices import DEVICES, H100, L40S, MI300X, Device
from tests.cluster.rehearsal.failing import lines_of
from tests.cluster.rehearsal.memory import GIB, OutOfMemory, allocate

from haqa_contract import FailureReason
from haqa_contract.engine_log.diagnosis import diagnose

Models = dict[str, Checkpoint]


def arguments(**given: object) -> Arguments:
    return Arguments.parse([f"--{name.replace('_', '-')}={value}" for name, value in given.items()])


def refusal(device: Device, model: Checkpoint, **given: object) -> OutOfMemory:
    with pytest.raises(OutOfMemory) as refused:
        allocate(device, model, arguments(**given))
    return refused.value


def test_weights_have_the_size_that_is_published(models: Models) -> None:
    """70.55 billion parameters; of those 2.1 billion stay in 16 bit, and groups of 128 have a scale of 16 bit."""
    sizes = {name: sum(t.size_bytes for t in model.tensors) / 1e9 for name, model in models.items()}
    assert sizes["BF16"] == pytest.approx(141.1, abs=0.1)
    assert sizes["FP8_DYNAMIC"] == pytest.approx(68.45 + 4.2, abs=0.1)
    assert sizes["W4A16"] == pytest.approx(68.45 * (4 + 16 / 128) / 8 + 4.2, abs=0.1)


@pytest.mark.parametrize("split", [{"tensor_parallel_size": 4}, {"pipeline_parallel_size": 4}])
def test_four_gpus_hold_the_weights_between_them(models: Models, split: dict[str, int]) -> None:
    found = allocate(L40S, models["BF16"], arguments(max_model_len=8192, **split))
    whole = sum(tensor.size_bytes for tensor in models["BF16"].tensors)
    assert found.weights == pytest.approx(whole / 4, rel=0.05)
    assert found.weights + found.cache < L40S.memory_gib * GIB


def test_key_value_heads_fewer_than_gpus_are_copied(models: Models) -> None:
    one, more = (
        allocate(MI300X, models["W4A16"], arguments(tensor_parallel_size=size, kv_cache_memory_bytes=2**30))
        for size in (8, 16)
    )
    assert one.cache_tokens == more.cache_tokens


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES)
def test_an_fp8_cache_holds_twice_as_many_tokens(models: Models, device: Device) -> None:
    split = {"tensor_parallel_size": 4, "max_model_len": 8192}
    plain, fp8 = (
        allocate(device, models["W4A16"], arguments(kv_cache_dtype=dtype, **split)) for dtype in ("auto", "fp8")
    )
    assert fp8.cache_tokens == pytest.approx(2 * plain.cache_tokens, abs=2)


def test_what_does_not_fit_fails_while_it_is_loaded(models: Models) -> None:
    error = refusal(H100, models["BF16"])
    assert str(error).startswith("CUDA out of memory. Tried to allocate 1.96 GiB. GPU 0 has a total capacity of 79.10")
    assert error.in_worker


def test_a_share_that_leaves_nothing_to_others_fails_when_the_cache_is_there(models: Models) -> None:
    """By what is larger: the sampler's buffers, or the largest step."""
    sampler, step = (
        refusal(H100, models["FP8_DYNAMIC"], gpu_memory_utilization=0.99, max_num_batched_tokens=tokens)
        for tokens in (2048, 8192)
    )
    assert str(sampler).startswith("CUDA out of memory occurred when warming up sampler with 1024 dummy requests.")
    assert str(step).startswith("CUDA out of memory. Tried to allocate")


def test_an_amd_gpu_runs_out_of_memory_in_the_words_of_hip(models: Models) -> None:
    error = refusal(MI300X, models["BF16"], kv_cache_memory_bytes=60 * 2**30)
    assert str(error).startswith("HIP out of memory. Tried to allocate")


def test_a_cache_too_small_for_one_request_says_what_would_fit(models: Models) -> None:
    """Eight bits for each weight leave some 2 GiB on one H100: a request of 8,192 tokens needs 2.5."""
    error = refusal(H100, models["FP8_DYNAMIC"], max_model_len=8192)
    assert "To serve at least one request with the model's max seq len (8192), (2.50 GiB KV cache is needed" in str(
        error
    )
    found = allocate(H100, models["FP8_DYNAMIC"], arguments(max_model_len="auto"))
    assert f"the estimated maximum model length is {found.max_model_len}." in str(error)
    allocate(H100, models["FP8_DYNAMIC"], arguments(max_model_len=found.max_model_len))


def test_weights_that_leave_nothing_leave_no_cache(models: Models) -> None:
    error = refusal(H100, models["FP8_DYNAMIC"], max_num_batched_tokens=32768)
    assert str(error).startswith("No available memory for the cache blocks.")


def test_a_share_that_is_not_free_is_refused_at_the_start(models: Models) -> None:
    assert str(refusal(L40S, models["W4A16"], gpu_memory_utilization=0.999)).startswith("Free memory on device cuda:0")


@pytest.mark.parametrize(
    ("device", "preset", "given"),
    [
        (H100, "BF16", {}),
        (H100, "FP8_DYNAMIC", {"max_model_len": 8192}),
        (H100, "FP8_DYNAMIC", {"max_num_batched_tokens": 32768}),
        (L40S, "W4A16", {"gpu_memory_utilization": 0.999}),
        (MI300X, "BF16", {"kv_cache_memory_bytes": 60 * 2**30}),
    ],
)
def test_every_refusal_is_understood(models: Models, device: Device, preset: str, given: dict[str, object]) -> None:
    log = "\n".join(lines_of(refusal(device, models[preset], **given)))
    assert diagnose(log, 1).reason is FailureReason.ENGINE_OOM
