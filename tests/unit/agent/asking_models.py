"""Asks models as an operator does, in a process of its own whose environment is full of secrets.

`python asking_models.py` reads a JSON object {model: {"api_base": …, "key": …}} from stdin and writes {model: outcome}.
Variables that begin with `AFTER_` are set under the rest of their name once litellm is imported: some would stop that.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta

from haqa_operator.agent.client import LLMClient
from haqa_operator.agent.messages import LLMError, Message
from haqa_operator.api.search_spec import AgentSpec

_MESSAGES = (Message("system", "static"), Message("user", "dynamic"))
_SCHEMA = {"type": "object", "properties": {"candidate": {"type": "integer"}}, "required": ["candidate"]}


def outcome(model: str, api_base: str, key: str | None) -> str:
    spec = AgentSpec(model=model, api_base=api_base, timeout=timedelta(seconds=20), retries=0)
    try:
        return LLMClient(spec, api_key=key, confined=True, seed=7).complete(_MESSAGES, _SCHEMA).text
    except LLMError as error:
        return str(error)


def main() -> None:
    import litellm  # noqa: F401, before its variables are changed

    later = {name.removeprefix("AFTER_"): value for name, value in os.environ.items() if name.startswith("AFTER_")}
    os.environ.update(later)
    questions = json.load(sys.stdin)
    sys.stdout.write(json.dumps({model: outcome(model, **question) for model, question in questions.items()}))


if __name__ == "__main__":
    main()
