"""Texts and token windows: what they hold, that they repeat, and what is said when they cannot be had."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haqa_contract import FailureReason
from haqa_contract.failures import TrialFailure
from haqa_runner.datasets import builtin_split, fingerprint, load_texts, token_windows


@dataclass
class WordTokenizer:
    """One token a word; by default its number is the word's length."""

    eos_token_id: int | None = 0
    token_of: Callable[[str], int] = len

    def __call__(self, text: str, *, add_special_tokens: bool) -> Any:
        assert not add_special_tokens
        return {"input_ids": [self.token_of(word) for word in text.split()]}


def write_rows(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"file://{path}"


def test_calibration_and_heldout_text_share_nothing() -> None:
    calibration = set(load_texts("builtin://python-stdlib/calibration"))
    heldout = set(load_texts("builtin://python-stdlib/heldout"))
    assert calibration
    assert heldout
    assert not calibration & heldout


def test_builtin_text_repeats_and_the_seed_changes_its_order() -> None:
    uri = "builtin://python-stdlib/calibration"
    assert load_texts(uri, limit=5) == load_texts(uri, limit=5)
    assert load_texts(uri, seed=1) != load_texts(uri, seed=2)
    assert sorted(load_texts(uri, seed=1)) == sorted(load_texts(uri, seed=2))


def test_about_ninety_percent_is_for_training() -> None:
    splits = [builtin_split(f"package/module_{number}.py") for number in range(2000)]
    assert 0.87 < splits.count("train") / 2000 < 0.93
    assert 0.03 < splits.count("heldout") / 2000 < 0.07


def test_jsonl_reads_the_named_field(tmp_path: Path) -> None:
    uri = write_rows(tmp_path / "x.jsonl", [{"body": "one"}, {"body": "two"}, {"body": "  "}])
    assert sorted(load_texts(f"{uri}?field=body")) == ["one", "two"]


def test_chat_rows_become_what_was_said(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}]
    assert load_texts(write_rows(tmp_path / "x.jsonl", rows) + "?field=messages") == ["Hi\n\nHello"]


def test_text_file_is_read_by_paragraph(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("first\nline\n\n\nsecond\n")
    assert sorted(load_texts(f"file://{tmp_path}/x.txt")) == ["first\nline\n", "second\n"]


def test_limit_takes_a_seeded_choice_of_texts(tmp_path: Path) -> None:
    uri = write_rows(tmp_path / "x.jsonl", [{"text": f"row {number}"} for number in range(50)])
    assert len(load_texts(uri, limit=7)) == 7
    assert load_texts(uri, limit=7, seed=1) != load_texts(uri, limit=7, seed=2)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("ftp://host/x.txt", 'dataset "ftp://host/x.txt" is of no known form; write builtin://python-stdlib/'),
        ("plain.txt", "of no known form"),
        ("builtin://python-stdlib/test", "the built-in ones are builtin://python-stdlib/train"),
        ("builtin://python-stdlib/train?split=x", 'unknown option "split"; it takes no options'),
        ("file:///no/such/file.jsonl", "there is no file /no/such/file.jsonl; check the path"),
        ("file:///etc/hostname", "it has to be one of .jsonl, .txt, .parquet"),
        ("file:///x.jsonl?column=y", 'unknown option "column"; it takes field'),
        ("hf://org/name", "write hf://datasets/org/name?split=S&field=F"),
        ("s3://", "names no bucket; write s3://bucket/path"),
    ],
)
def test_bad_uri_is_a_sentence_with_value_and_remedy(uri: str, said: str) -> None:
    with pytest.raises(TrialFailure) as raised:
        load_texts(uri)
    assert said in raised.value.message
    assert raised.value.reason is FailureReason.QUANTIZATION_FAILED


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"text": "a"}\nnot json\n', "line 2: not JSON"),
        ('{"body": "a", "title": "b"}\n', 'no field "text"; name one of body, title (?field=NAME)'),
        ('{"text": 7}\n', 'field "text" is of type int'),
        ("[1, 2]\n", "row 1: not an object"),
        ("\n\n", "holds no text"),
    ],
)
def test_bad_content_is_a_sentence_that_says_where(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "x.jsonl").write_text(content)
    with pytest.raises(TrialFailure, match=r"x\.jsonl") as raised:
        load_texts(f"file://{tmp_path}/x.jsonl", reason=FailureReason.LOAD_ERRORS)
    assert said in raised.value.message
    assert raised.value.reason is FailureReason.LOAD_ERRORS


def test_windows_have_the_length_asked_for_and_repeat() -> None:
    texts = ["a bb ccc " * 40, "dddd " * 40]
    windows = token_windows(texts, WordTokenizer(), length=16, count=5, seed=3)
    assert [len(window) for window in windows] == [16] * 5
    assert windows == token_windows(texts, WordTokenizer(), length=16, count=5, seed=3)


def test_texts_are_separated_by_the_end_token() -> None:
    (window,) = token_windows(["a bb", "ccc"], WordTokenizer(), length=5, count=1, seed=0)
    assert window == [1, 2, 0, 3, 0]


def test_tokenizer_without_an_end_token_separates_by_nothing() -> None:
    assert token_windows(["a bb", "ccc"], WordTokenizer(None), length=3, count=1, seed=0) == [[1, 2, 3]]


def test_only_as_much_is_tokenized_as_the_windows_need() -> None:
    taken: list[int] = []

    def endless() -> Iterator[str]:
        for number in itertools.count():
            taken.append(number)
            yield "word " * 100

    token_windows(endless(), WordTokenizer(), length=10, count=5, seed=0)
    # Four times 50 tokens are wanted, and each text gives 10 and a separator.
    assert len(taken) == 19


def test_too_little_text_says_what_would_fit() -> None:
    with pytest.raises(TrialFailure) as raised:
        token_windows(["a " * 100], WordTokenizer(), length=30, count=8, seed=0, name="dataset X")
    assert "dataset X has 101 tokens, 3 windows of 30, but 8 are asked for" in raised.value.message
    assert "set samples to at most 3, sequenceLength to at most 12" in raised.value.message


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=20), window=st.integers(1, 12), seed=st.integers(0, 9))
def test_windows_are_distinct_pieces_of_the_text(lengths: list[int], window: int, seed: int) -> None:
    numbered = itertools.count()
    tokenizer = WordTokenizer(None, lambda word: next(numbered))
    total = sum(lengths)
    count = max(1, total // window // 2)
    if count * window > total:
        return
    texts = ["w " * length for length in lengths]
    windows = token_windows(texts, tokenizer, window, count, seed)
    tokens = [token for piece in windows for token in piece]
    assert len(set(tokens)) == len(tokens) == count * window
    # In the order of the text; a gap only where a stretch of one text ends and the next text begins.
    assert all(earlier < later for piece in windows for earlier, later in itertools.pairwise(piece))


def test_fingerprint_follows_a_file_s_content(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("one")
    before = fingerprint(f"file://{path}")
    path.write_text("two")
    assert fingerprint(f"file://{path}") != before


def test_one_long_text_does_not_fill_the_windows() -> None:
    texts = ["long " * 10_000, *(f"short{n} " * 40 for n in range(200))]
    tokenizer = WordTokenizer()
    windows = token_windows(texts, tokenizer, 8, 16, seed=0)
    long = tokenizer("long", add_special_tokens=False)["input_ids"][0]
    assert sum(set(window) == {long} for window in windows) <= 4


def test_a_single_text_gives_all_windows_if_there_is_no_other() -> None:
    assert len(token_windows(["word " * 1000], WordTokenizer(), 8, 16, seed=0)) == 16


def test_generated_tables_are_no_text() -> None:
    texts = load_texts("builtin://python-stdlib/train")
    assert not any("LATIN SMALL LETTER" in text and text.count("0x00") > 100 for text in texts)


@pytest.mark.parametrize(("at_least", "taken"), [(None, None), (2, 3), (3, 3), (4, None)])
def test_fewer_windows_are_taken_where_nobody_has_said_how_many(at_least: int | None, taken: int | None) -> None:
    texts = ["a bb ccc dddd"] * 3
    if taken is None:
        with pytest.raises(TrialFailure, match="3 windows of 5, but 9 are asked for"):
            token_windows(texts, WordTokenizer(), length=5, count=9, seed=0, at_least=at_least)
    else:
        assert len(token_windows(texts, WordTokenizer(), length=5, count=9, seed=0, at_least=at_least)) == taken
