"""Replies as models write them: which object of all that they say is the answer."""

from __future__ import annotations

import json

import pytest
from tests.unit.agent.builders import make_space

from haqa_operator.agent.replies import Reply, parse_reply

SPACE = make_space()

HARMONY = (
    '<|channel|>analysis<|message|>Maybe {"candidate": 3}? INT4 is slow here.<|end|><|start|>assistant'
    '<|channel|>final<|message|>{"reasoning": "INT8 first", "choices": [{"candidate": 0}], "stop": false}<|return|>'
)
HARMONY_WITHOUT_TOKENS = (
    'analysisWe could take {"candidate": 3}, but INT4 is slow.assistantfinal{"reasoning": "INT8", "candidate": 0}'
)
HARMONY_CALL = (
    '<|channel|>analysis<|message|>{"candidate": 3} no<|end|><|start|>assistant<|channel|>commentary '
    'to=functions.next_trial <|constrain|>json<|message|>{"candidate": 0}<|call|>'
)
CALL = {"name": "next_trial", "arguments": {"reasoning": "x", "candidate": 0}}
STRING_CALL = {"name": "next_trial", "arguments": json.dumps({"reasoning": "x", "candidate": 0})}

REPLIES = {
    "R18, Mistral's [THINK]": (
        '[THINK]Perhaps {"candidate": 3} but…[/THINK]{"candidate": 0, "reasoning": "x"}',
        [0],
    ),
    "Seed": ('<seed:think>{"candidate": 3} is faster</seed:think>\n{"candidate": 0}', [0]),
    "Seed, with a reflection on its budget": (
        '<seed:think>a<seed:cot_budget_reflect>used 10</seed:cot_budget_reflect>{"candidate": 3}</seed:think>'
        '{"candidate": 0}',
        [0],
    ),
    "<thought>": ('<thought>{"candidate": 3}</thought>{"candidate": 0}', [0]),
    "<reflection>": ('<reflection>I said {"candidate": 3}; wrong.</reflection>\n{"candidate": 0}', [0]),
    "Reflection-Llama": (
        '<thinking>{"candidate": 3}<reflection>no</reflection></thinking><output>{"candidate": 0}</output>',
        [0],
    ),
    "DeepSeek and Qwen": ('<think>\nOkay. {"candidate": 3}?\n</think>\n\n{"candidate": 0}', [0]),
    "Qwen, an empty thought": ('<think>\n\n</think>\n\n{"candidate": 0}', [0]),
    "a thought that the chat template opened": ('So {"candidate": 3}.\n</think>\n\n{"candidate": 0}', [0]),
    "a thought that is never closed": ('<think>Is {"candidate": 3} good? No.\n{"candidate": 0}', [0]),
    "everything inside of the thought": ('<think>{"candidate": 3}? No.\n{"candidate": 0}\n</think>', [0]),
    "a thought in another thought": (
        '<think>a <think>{"candidate": 3}</think> {"candidate": 2}</think>{"candidate": 0}',
        [0],
    ),
    "a thought after the answer": ('{"candidate": 0}\n<think>or {"candidate": 3}</think>', [0]),
    "the answer, then tags in its reasoning": (
        '{"reasoning": "the <think> tag, </think> and {\\"candidate\\": 3}", "candidate": 0}',
        [0],
    ),
    "a fenced answer that speaks of a tag": (
        '```json\n{"reasoning": "no </think> here", "candidate": 0}\n```',
        [0],
    ),
    "Kimi": ('◁think▷{"candidate": 3}◁/think▷{"candidate": 0}', [0]),
    "Cohere": (
        '<|START_THINKING|>{"candidate": 3}<|END_THINKING|><|START_RESPONSE|>{"candidate": 0}<|END_RESPONSE|>',
        [0],
    ),
    "OpenThinker": (
        '<|begin_of_thought|>{"candidate": 3}<|end_of_thought|>\n<|begin_of_solution|>{"candidate": 0}'
        "<|end_of_solution|>",
        [0],
    ),
    "MedGemma": ('<unused94>thought\n{"candidate": 3}<unused95>{"candidate": 0}', [0]),
    "Gemma's channel": ('<|channel>thought\n{"candidate": 3}<channel|>{"candidate": 0}', [0]),
    "GLM's box": ('<think>{"candidate": 3}</think><|begin_of_box|>{"candidate": 0}<|end_of_box|>', [0]),
    "Hunyuan": ('<think>x</think>\n<answer>\n{"candidate": 0}\n</answer>', [0]),
    "an answer's tag after drafts": ('I compared {"candidate": 3}.\n<answer>{"candidate": 0}</answer>', [0]),
    "harmony": (HARMONY, [0]),
    "harmony whose tokens a server took out": (HARMONY_WITHOUT_TOKENS, [0]),
    "harmony's tool call": (HARMONY_CALL, [0]),
    "Phi's end of a turn": ('{"candidate": 0}<|end|>', [0]),
    "a draft, then the better one": (
        'Draft:\n{"candidate": 3}\n\nThat breaks the limit. Better:\n{"candidate": 0}',
        [0],
    ),
    "an answer taken back": ('{"candidate": 3}\n\nWait, that breaks the limit.\n\n{"candidate": 0}', [0]),
    "two fences, the second corrected": (
        '```json\n{"candidate": 3}\n```\nActually INT4 has no kernel.\n```json\n{"candidate": 0}\n```',
        [0],
    ),
    "headings": ('## Draft\n{"candidate": 3}\n## Final answer\n{"candidate": 0}', [0]),
    "bold": ('**Final answer:** {"candidate": 0}\n\nThe runner-up was {"candidate": 3}.', [0]),
    "the final one first": ('Final answer:\n{"candidate": 0}\n\nAlternative:\n{"candidate": 3}', [0]),
    "an example after the answer": (
        '{"candidate": 0}\n\nFor example, {"candidate": 3} would need more memory.',
        [0],
    ),
    "another one named afterwards": ('{"candidate": 0}\nI also looked at {"candidate": 3} and left it.', [0]),
    "the form repeated first": (
        'The format is {"reasoning": "<why>", "candidate": 3}. So:\n{"reasoning": "x", "candidate": 0}',
        [0],
    ),
    "decided in a sentence": ('I go with {"candidate": 0}. With more memory {"candidate": 3} might do.', [0]),
    "rather than": ('{"reasoning": "x"} I take {"candidate": 0} rather than {"candidate": 3} here.', [0]),
    "first thought": ('I first thought {"candidate": 3}, then {"idea": 1}, and so {"candidate": 0}', [0]),
    "only a note after it": ('{"candidate": 0}\n{"note": "thank you"}', [0]),
    "an object of something else before it": ('{"trials": 3, "best": 1.6}\n{"candidate": 0}', [0]),
    "a list": ('[{"candidate": 0, "chance": 80}, {"candidate": 3, "chance": 60}]', [0, 3]),
    "a list in a fence with prose": (
        'Best first:\n```json\n[\n  {"candidate": 0},\n  {"candidate": 3}\n]\n```\nGood luck!',
        [0, 3],
    ),
    "objects without the list around them": ('{"candidate": 0}, {"candidate": 3}', [0, 3]),
    "one object a line": ('{"candidate": 0, "chance": 80}\n{"candidate": 3, "chance": 60}\n', [0, 3]),
    "a list that was cut off": ('{"reasoning": "x", "choices": [{"candidate": 0}, {"candidate": 3}, {"cand', [0, 3]),
    "a tool call": (f"<tool_call>\n{json.dumps(CALL)}\n</tool_call>", [0]),
    "a tool call with a string": (json.dumps(STRING_CALL), [0]),
    "Llama's tool call": ('{"name": "next_trial", "parameters": {"candidate": 0}}', [0]),
    "OpenAI's tool calls as text": (json.dumps({"tool_calls": [{"type": "function", "function": STRING_CALL}]}), [0]),
    "an object around it": ('{"answer": {"reasoning": "x", "choices": [{"candidate": 0}]}}', [0]),
    "a string of JSON": (json.dumps('{"reasoning": "x", "candidate": 0}'), [0]),
    "braces in code": ('def f(): return {x: 1}\n\nint main() { return {0}; }\n{"candidate": 0}', [0]),
    "more braces than anybody counts": ("{x} " * 5000 + '{"candidate": 0}', [0]),
    "a parameter of the space in the prose": ('{"max-num-seqs": 64} looks good, so {"candidate": 0}', [0]),
    "control characters in a string": ('{"reasoning": "a\tb\nc", "candidate": 0}', [0]),
    "a byte order mark": ('\ufeff{"candidate": 0}', [0]),
}


@pytest.mark.parametrize(("text", "numbers"), REPLIES.values(), ids=REPLIES.keys())
def test_the_answer_is_found_in_what_a_model_writes(text: str, numbers: list[int]) -> None:
    result = parse_reply(text, SPACE, frozenset({SPACE.baseline}))
    assert isinstance(result, Reply), result
    assert [SPACE.candidates.index(choice.configuration) for choice in result.choices] == numbers
