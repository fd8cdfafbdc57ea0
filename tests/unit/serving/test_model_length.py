"""How long a request may be follows from the spec, the model and what was measured, and never from the benchmark."""

from typing import Any

import pytest
from tests.builders import make_baseline, make_trial

from haqa_operator.api import Serving, Trial
from haqa_operator.serving.model_length import MaxModelLen, length_sentence, outdated_length, served_length

VLLM = (0, 32, 0)


def measured(*args: str, **engine: Any) -> Trial:
    """A finished trial whose engine had these arguments."""
    trial = make_trial().tried(**engine).obj()
    return trial.model_copy(update={"status": trial.status.model_copy(update={"engine_args": ("--model=/m", *args)})})


@pytest.mark.parametrize(
    ("named", "version", "model_limit", "length"),
    [
        (None, VLLM, 131072, "auto"),
        (16384, VLLM, 131072, 16384),
        (None, (0, 14, 0), 131072, "auto"),
        (None, (0, 13, 0), 131072, None),
        (16384, (0, 13, 0), 131072, 16384),
        # vLLM takes a model without a limit for one of 2048 tokens, and cannot fit that to the memory.
        (None, VLLM, None, None),
    ],
)
def test_the_spec_says_it_else_the_model_and_the_memory_do(
    named: int | None, version: tuple[int, int, int], model_limit: int | None, length: MaxModelLen
) -> None:
    assert served_length(Serving(max_model_len=named), version, model_limit) == length


@pytest.mark.parametrize(
    ("args", "length"),
    [
        (("--max-model-len=256",), 256),
        (("--max-model-len", "256"), 256),
        (("--max-model-len=auto",), "auto"),
        (("--max-model-len=-1",), "auto"),
        (("--seed=0",), None),
    ],
)
def test_a_run_goes_on_with_the_length_that_its_trials_were_measured_with(
    args: tuple[str, ...], length: MaxModelLen
) -> None:
    assert served_length(Serving(), VLLM, 4096, [measured(*args)]) == length


def test_a_length_of_a_configuration_says_nothing_about_the_run() -> None:
    own = measured("--max-model-len=1024", max_model_len=1024)
    assert served_length(Serving(), VLLM, 4096, [own]) == "auto"
    assert served_length(Serving(), VLLM, 4096, [own, measured("--max-model-len=256")]) == 256


def test_a_trial_that_never_had_an_engine_says_nothing_about_the_run() -> None:
    waiting, failed = make_trial(1).pending().obj(), make_baseline().failed("QuantizationOOM").obj()
    assert served_length(Serving(), VLLM, 4096, [failed, waiting]) == "auto"


def test_a_length_in_the_spec_goes_before_what_was_measured() -> None:
    assert served_length(Serving(max_model_len=4096), VLLM, 4096, [measured("--max-model-len=256")]) == 4096


@pytest.mark.parametrize(
    ("length", "sentence"),
    [
        (16384, "max-model-len=16384: requests of up to 16384 tokens (prompt and answer)"),
        (
            "auto",
            "max-model-len=auto: requests as long as the model can take, or as much of that as the KV cache holds",
        ),
        (None, "requests as long as the model can take are served"),
    ],
)
def test_the_length_is_one_sentence_for_who_chooses_configurations(length: MaxModelLen, sentence: str) -> None:
    assert length_sentence(length).startswith(sentence)


def test_a_run_that_keeps_a_short_length_says_what_that_means_and_how_to_leave_it() -> None:
    sentence = outdated_length(256)
    assert "with max-model-len 256" in sentence
    assert "its Deployment refuses longer requests" in sentence
    assert "set spec.serving.maxModelLen" in sentence
