"""What follows from the rehearsal's rates: which format is fastest where, by nobody's word but theirs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tests.cluster.rehearsal import kernels
from tests.cluster.rehearsal.arguments import Arguments
from tests.cluster.rehearsal.checkpoints import Checkpoint
from tests.cluster.rehearsal.devices import DEVICES, H100, L40S, MI300X, Device
from tests.cluster.rehearsal.kernels import Step, StepTimes

Models = dict[str, Checkpoint]
PHYSICS = ("accuracy", "arguments", "checkpoints", "devices", "engine", "failing", "kernels", "memory", "scheduling")
DECODING = Step(decoding=1, context=600)
PROMPTS = Step(decoding=0, context=0, prompts=[(512, 0)] * 8)


def times(device: Device, model: Checkpoint, env: dict[str, str] | None = None, **given: object) -> StepTimes:
    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    return StepTimes(device, model, Arguments.parse(words, env))


@pytest.mark.parametrize("module", PHYSICS)
def test_the_rehearsal_knows_nothing_of_the_control_plane(module: str) -> None:
    """A tuning that is judged by the rules that it was planned by proves nothing."""
    tree = ast.parse(Path(kernels.__file__).with_name(f"{module}.py").read_text())
    named = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    named += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [name for name in named if name.startswith("haqa_")]


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES)
def test_decoding_is_never_faster_than_reading_the_weights(models: Models, device: Device) -> None:
    for model in models.values():
        read = sum(tensor.size_bytes for tensor in model.tensors) / (device.read_gb_s * 1e9)
        assert (
            read * 0.97 < times(device, model).seconds(DECODING) < 4 * read + 0.01
        )  # one row of the embedding is read


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES)
def test_prompts_are_never_faster_than_their_arithmetic(models: Models, device: Device) -> None:
    for model in models.values():
        least = 2 * 68.45e9 * PROMPTS.rows / (max(device.tensor_tflops.values()) * 1e12)
        assert least < times(device, model).seconds(PROMPTS)


@pytest.mark.parametrize("device", [L40S, H100])
def test_four_bits_are_best_with_one_sequence_on_nvidia(models: Models, device: Device) -> None:
    seconds = {name: times(device, model).seconds(DECODING) for name, model in models.items()}
    assert min(seconds, key=seconds.__getitem__) == "W4A16"


def test_unpacking_four_bits_costs_an_h100_more_of_its_prompts_than_an_l40s(models: Models) -> None:
    def slower(device: Device) -> float:
        four, eight = (times(device, models[name]).seconds(PROMPTS) for name in ("W4A16", "FP8_DYNAMIC"))
        return four / eight

    assert slower(H100) > 1.15 * slower(L40S) > 1.15


def test_eight_bit_floats_are_best_on_an_mi300x(models: Models) -> None:
    for step in (DECODING, PROMPTS):
        seconds = {name: times(MI300X, model).seconds(step) for name, model in models.items()}
        assert min(seconds, key=seconds.__getitem__) == "FP8_DYNAMIC" or step is DECODING
    assert seconds["W4A16"] > 2 * seconds["FP8_DYNAMIC"]


def test_amd_s_own_kernels_help(models: Models) -> None:
    plain, aiter = (
        times(MI300X, models["FP8_DYNAMIC"], env).seconds(PROMPTS) for env in ({}, {"VLLM_ROCM_USE_AITER": "1"})
    )
    assert aiter < 0.9 * plain


@pytest.mark.parametrize("device", [L40S, H100])
def test_tensor_parallelism_saves_less_than_its_share(models: Models, device: Device) -> None:
    one, two = (times(device, models["W4A16"], tensor_parallel_size=ways).seconds(PROMPTS) for ways in (1, 2))
    assert one / 2 < two < one


def test_gpus_without_nvlink_pay_for_every_prompt_that_they_share(models: Models) -> None:
    def kept(device: Device) -> float:
        one, two = (times(device, models["W4A16"], tensor_parallel_size=n).seconds(PROMPTS) for n in (1, 2))
        return one / (2 * two)

    assert kept(L40S) < 0.85 < kept(H100)


def test_launching_every_kernel_shows_in_small_steps(models: Models) -> None:
    graphs, eager = (StepTimes(H100, models["W4A16"], Arguments.parse(words)) for words in ([], ["--enforce-eager"]))
    assert eager.seconds(DECODING) > 1.1 * graphs.seconds(DECODING)
    assert eager.seconds(PROMPTS) == pytest.approx(graphs.seconds(PROMPTS), rel=0.05)
