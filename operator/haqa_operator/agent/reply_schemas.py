"""The JSON schema of a reply, for servers that hold a model to one."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from haqa_contract import Configuration
from haqa_operator.agent.candidates import Catalogue, open_numbers
from haqa_operator.agent.replies import MAX_CHOICES, MAX_EXPECTED_PERCENT, MAX_REASONING_CHARS
from haqa_operator.search.space import SearchSpace


def reply_schema(space: SearchSpace, tried: Collection[Configuration]) -> dict[str, Any]:
    """With guided decoding every reply names untried candidates or existing values.

    Kept to what vLLM's grammars and the strict modes of commercial providers share: objects whose fields are all
    required and no others allowed, one array of such objects, enums, and bounds on everything that could go on for
    ever. No oneOf, so that a reply which says stop names candidates too: the best that are left.
    """
    catalogue = Catalogue.of(space)
    untried = open_numbers(space, tried)
    if catalogue.listed:
        named: dict[str, Any] = {"candidate": {"type": "integer", "enum": list(untried)}}
    else:
        columns = zip(*(catalogue.rows[i] for i in untried), strict=True)
        values = {
            name: {"type": "string", "enum": list(dict.fromkeys(column))}
            for name, column in zip(catalogue.names, columns, strict=True)
        }
        named = {"parameters": _closed(values)}
    choice = {
        **named,
        "expected_percent": {"type": "integer", "minimum": 1, "maximum": MAX_EXPECTED_PERCENT},
        "chance": {"type": "integer", "minimum": 0, "maximum": 100},
    }
    choices = {
        "type": "array",
        "minItems": 1,
        "maxItems": max(1, min(MAX_CHOICES, len(untried))),
        "items": _closed(choice),
    }
    reasoning = {"type": "string", "maxLength": MAX_REASONING_CHARS}
    return _closed({"reasoning": reasoning, "choices": choices, "stop": {"type": "boolean"}})


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
