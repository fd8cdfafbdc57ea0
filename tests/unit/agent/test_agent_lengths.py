"""What servers say when prompt and reply together are too long for the model, each in its own words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haqa_operator.agent.lengths import TooLong, largest_reply, too_long

ASKED = 2048

SAID = {
    "R17": (
        "This model's maximum context length is 4096 tokens. However, you requested 6000 tokens (3952 in the messages, "
        "2048 in the completion). Please reduce the length of the messages or completion.",
        144,
    ),
    "the total alone": (
        "This model's maximum context length is 4096 tokens. However, you requested 6000 tokens. Please reduce.",
        144,
    ),
    "vLLM 0.10": (
        "'max_tokens' or 'max_completion_tokens' is too large: 2048. This model's maximum context length is 4096 "
        "tokens and your request has 3952 input tokens (2048 > 4096 - 3952).",
        144,
    ),
    "vLLM 0.14, which stopped counting": (
        "This model's maximum context length is 4096 tokens. However, you requested 2048 output tokens and your prompt "
        "contains at least 2049 input tokens, for a total of at least 4097 tokens.",
        4096 - 3000,
    ),
    "vLLM 0.32": (
        "This model's maximum context length is 4096 tokens. However, your prompt contains 5000 input tokens, which "
        "exceeds this limit even without any output tokens. Please reduce the length of the input prompt.",
        -904,
    ),
    "vLLM's engine": (
        "The decoder prompt (length 5000) is longer than the maximum model length of 4096. Make sure that …",
        -904,
    ),
    "SGLang": (
        "Requested token count exceeds the model's maximum context length of 4096 tokens. You requested a total of "
        "6000 tokens: 3952 tokens from the input messages and 2048 tokens for the completion.",
        144,
    ),
    "TGI": (
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 3952 `inputs` tokens and "
        "2048 `max_new_tokens`",
        144,
    ),
    "OpenRouter": (
        "This endpoint's maximum context length is 4096 tokens. However, you requested about 6000 tokens (3952 of text "
        "input, 2048 in the output).",
        144,
    ),
    "Anthropic, both": (
        "input length and `max_tokens` exceed context limit: 198000 + 2048 > 200000, decrease input length or "
        "`max_tokens` and try again",
        2000,
    ),
    "Anthropic, the prompt": ("prompt is too long: 210000 tokens > 200000 maximum", -10000),
    "OpenAI, the prompt": (
        "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens.",
        -28000,
    ),
    "llama.cpp": ("request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it", -904),
    "llama.cpp without figures": (
        "the request exceeds the available context size. try increasing the context size or enable context shift",
        None,
    ),
    "Mistral": (
        "Prompt contains 5000 tokens and 0 draft tokens, too large for model with 4096 maximum context length",
        -904,
    ),
    "Cerebras": ("Please reduce the length of the messages. Current length is 5000 while limit is 4096", -904),
    "figures with commas": (
        "This model's maximum context length is 131,072 tokens. However, you requested 132,000 tokens (129,952 in the "
        "messages, 2,048 in the completion).",
        1120,
    ),
    "Gemini": ("The input token count (5000) exceeds the maximum number of tokens allowed (4096).", -904),
}


@pytest.mark.parametrize(("said", "room"), SAID.values(), ids=SAID.keys())
def test_the_room_for_a_reply_is_read_from_what_a_server_says(said: str, room: int | None) -> None:
    assert too_long(said, ASKED, prompt_estimate=3000) == TooLong(room)


@pytest.mark.parametrize(
    "said",
    [
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "max_tokens is too large: 2048. This model supports at most 1024 completion tokens, whereas you provided 2048.",
        "Invalid max_tokens value, the valid range of max_tokens is [1, 1024]",
        "response_format is not supported",
        "",
    ],
)
def test_other_refusals_are_not_about_the_length(said: str) -> None:
    assert too_long(said, ASKED, 3000) is None


@pytest.mark.parametrize(
    ("said", "most"),
    [
        ("max_tokens is too large: 2048. This model supports at most 1024 completion tokens, you provided 2048.", 1024),
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 1024]", 1024),
        ("max_tokens: 2048 > 1,024, which is the maximum allowed number of output tokens for claude-3-5", 1024),
        ("max_tokens is too large", None),
    ],
)
def test_the_longest_reply_is_the_largest_figure_below_what_was_asked(said: str, most: int | None) -> None:
    assert largest_reply(said, ASKED) == most


@given(st.text(max_size=200), st.integers(1, 10**6), st.integers(0, 10**6))
def test_any_text_is_read_without_an_accident(said: str, asked: int, estimate: int) -> None:
    too_long(said, asked, estimate)
    too_long(f"maximum context length is {said}", asked, estimate)
    most = largest_reply(said, asked)
    assert most is None or 1 < most < asked
