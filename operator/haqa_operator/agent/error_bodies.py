"""What is read of an error that an endpoint answers with.

An `apiBase` may lead to any server that this process reaches, and a trial is read by people who do not. An LLM says
what is wrong in an `error` object; nothing else of a body, and no header but Retry-After, gets any further.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from haqa_operator.agent.quoting import plain, redacted

MAX_ERROR_BYTES = 64 * 2**10
MAX_MESSAGE_CHARS = 300
UNSTRUCTURED = "no error message in OpenAI's format"

_OPTIONS = ("temperature", "max_tokens", "max_completion_tokens", "response_format", "seed")
"""Of a chat completion, as it is asked for: nothing else of a validation error is repeated."""

_IDENTIFIER = re.compile(r"[A-Za-z][\w.-]{0,63}")


def structured_error(body: bytes, secret: str | None) -> Mapping[str, Any]:
    """The error of an OpenAI-style body, without secrets and cut to one short line.

    Returns:
        `{"error": {"message": …}}`, with `type`, `code`, `status` and `param` where these are plain identifiers or
        numbers. Of a validation error (FastAPI's `detail`) the option of the request that it is about, and no words.
    """
    document = _document(body)
    error = _error_object(document)
    message = error.get("message")
    refused = _refused_options(document)
    if refused:
        return {"error": {"message": f"it does not take {' and '.join(refused)}", "param": refused[0]}}
    if not isinstance(message, str) or not message.strip():
        return {"error": {"message": UNSTRUCTURED}}
    # Removed twice: a character that cannot be seen may part a secret before it is taken out.
    text = redacted(plain(redacted(message, secret), 4 * MAX_MESSAGE_CHARS), secret)
    named = {name: error[name] for name in ("type", "code", "status", "param") if _identifies(error.get(name))}
    return {"error": {"message": plain(text, MAX_MESSAGE_CHARS), **named}}


def _document(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if isinstance(document, list) and len(document) == 1:  # as Gemini's OpenAI-compatible endpoint has it
        document = document[0]
    return document if isinstance(document, dict) else {}


def _error_object(document: Mapping[str, Any]) -> Mapping[str, Any]:
    if document.get("object") == "error":  # vLLM before 0.10
        return document
    error = document.get("error")
    return error if isinstance(error, dict) else {}


def _refused_options(document: Mapping[str, Any]) -> list[str]:
    """Options that the `detail` of a validation error names; Mistral has it below `message`."""
    message = document.get("message")
    detail = (message if isinstance(message, dict) else document).get("detail")
    places = [entry.get("loc") for entry in detail if isinstance(entry, dict)] if isinstance(detail, list) else []
    parts = [part for place in places if isinstance(place, list) for part in place if isinstance(part, str)]
    return [option for option in _OPTIONS if option in parts]


def _identifies(value: object) -> bool:
    if isinstance(value, str):
        return _IDENTIFIER.fullmatch(value) is not None
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1000
