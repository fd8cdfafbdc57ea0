"""Prompts: exactly as long as asked for, never alike, and the same for every trial."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haqa_contract import FailureReason, Workload
from haqa_contract.failures import TrialFailure
from haqa_runner.measure.prompts import PromptSource, prompt_source
from haqa_runner.measure.tokens import ModelTokenizer

BOS, EOS = 0, 1


def by_character(text: str, special: bool) -> list[int]:
    return [BOS] * special + [2 + ord(character) % 250 for character in text]


TOKENIZER = ModelTokenizer(encode=by_character, eos_token_id=EOS, special=frozenset({BOS, EOS}), size=252)


SYNTHETIC = PromptSource(tuple(range(2, 252)) * 4, (), (BOS,), tuple(range(2, 252)), length=300, seed=0)


@given(length=st.integers(2, 300), seed=st.integers(0, 3))
def test_synthetic_prompts_have_exactly_the_length_and_begin_as_the_model_wants(length: int, seed: int) -> None:
    source = replace(SYNTHETIC, length=length, seed=seed)
    for prompt in islice(source.window(1, 0), 5):
        assert len(prompt) == length
        assert all(0 <= token < TOKENIZER.size for token in prompt)
        assert EOS not in prompt
        assert prompt[0] == BOS


def test_a_prompt_of_one_token_has_no_room_for_the_beginning() -> None:
    source = prompt_source(Workload(input_tokens=1, output_tokens=1), TOKENIZER, None)
    assert [len(prompt) for prompt in islice(source.window(1), 3)] == [1, 1, 1]


def test_other_windows_levels_and_seeds_have_other_prompts() -> None:
    source = replace(SYNTHETIC, length=64)
    other_seed = replace(source, seed=1)
    first = [next(iter(source.window(*place))) for place in ((1, 0, 1), (1, 1, 1), (8, 0, 1), (1, 0, 2))]
    first.append(next(iter(other_seed.window(1, 0, 1))))
    assert len(set(map(tuple, first))) == len(first)
    assert next(iter(source.window(1, 0, 1))) == first[0]


@given(of=st.integers(1, 7), dataset=st.booleans())
def test_shares_have_every_prompt_of_the_window_once(of: int, dataset: bool) -> None:
    source = replace(SYNTHETIC, length=24, dataset=[(number,) for number in range(5)] if dataset else ())
    whole = list(islice(source.window(8, 1, 1), 3 * of))
    shares = [list(islice(source.window(8, 1, 1).share(index, of), 3)) for index in range(of)]
    assert [prompt for round_of in zip(*shares, strict=True) for prompt in round_of] == whole


def test_a_dataset_s_prompts_are_taken_as_they_are_and_cut_to_length(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"text": "abc"}\n{"text": "abcdefgh"}\n')
    source = prompt_source(Workload(input_tokens=5, output_tokens=1, dataset=file.as_uri()), TOKENIZER, None)
    assert source.cacheable
    assert sorted(islice(source.window(1), 2), key=len) == [
        tuple(by_character("abc", True)),
        tuple(by_character("abcd", True)),
    ]


def test_prompt_and_answer_have_to_fit_the_engine() -> None:
    with pytest.raises(TrialFailure, match=r"inputTokens 900 and outputTokens 200 .* max-model-len 1024") as caught:
        prompt_source(Workload(input_tokens=900, output_tokens=200), TOKENIZER, 1024)
    assert caught.value.reason is FailureReason.LOAD_ERRORS


def test_a_missing_dataset_is_a_sentence() -> None:
    with pytest.raises(TrialFailure, match="there is no file"):
        prompt_source(Workload(dataset="file:///nowhere.jsonl"), TOKENIZER, None)


def test_models_without_a_beginning_token_get_none() -> None:
    plain = ModelTokenizer(
        encode=lambda text, _: by_character(text, False), eos_token_id=1, special=frozenset(), size=252
    )
    assert plain.prefix == ()
    assert TOKENIZER.prefix == (BOS,)
