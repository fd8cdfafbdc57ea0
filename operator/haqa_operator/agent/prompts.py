"""Renders the agent's prompts: data -> view -> template -> messages.

HAQA's two halves (arXiv 2601.03484): the static prompt says what is known before any trial and never changes during a
search, the dynamic one what has been measured. The words are in `templates/`, for people to read and to diff; what is
computed is in `static_view` and `dynamic_view`. Same context, space and observations: same messages.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from haqa_contract import Configuration
from haqa_operator.agent.candidates import Catalogue, open_numbers, ranges
from haqa_operator.agent.context import AgentContext
from haqa_operator.agent.dynamic_view import Progress, dynamic_view
from haqa_operator.agent.faults import Problem
from haqa_operator.agent.messages import Message, Prompt
from haqa_operator.agent.quoting import prompt_line
from haqa_operator.agent.static_view import static_view
from haqa_operator.decision.observations import Observation
from haqa_operator.search.space import SearchSpace

_REPAIRED_REPLY_CHARS = 2000


def opening(
    context: AgentContext,
    space: SearchSpace,
    observations: Sequence[Observation],
    tokens_used: int = 0,
    expectations: Mapping[Configuration, str] | None = None,
) -> Prompt:
    """The first message of a trial's exchange.

    Args:
        expectations: Candidate -> what the surrogate expects of it, in a short line; the best first.
    """
    catalogue = Catalogue.of(space)
    progress = Progress(observations, tokens_used, expectations)
    return Prompt(
        (
            Message("system", _render("static.md.j2", static_view(context, space, catalogue))),
            Message("user", _render("dynamic.md.j2", dynamic_view(context, space, catalogue, progress))),
        )
    )


def repair(
    prompt: Prompt, reply: str, problem: Problem, space: SearchSpace, tried: Collection[Configuration]
) -> Prompt:
    """The second and last message of an exchange: what was wrong with the reply."""
    catalogue = Catalogue.of(space)
    untried = ranges(open_numbers(space, tried)) if catalogue.listed else ""
    # A chat template may refuse an empty message, and the reply may hold its control tokens.
    echoed = prompt_line(reply, _REPAIRED_REPLY_CHARS) or "(no text)"
    asked = _render("repair.md.j2", {"problem": problem.sentence, "untried": untried})
    return Prompt((*prompt.messages, Message("assistant", echoed), Message("user", asked)))


_ENVIRONMENT = ImmutableSandboxedEnvironment(
    loader=FileSystemLoader(Path(__file__).parent / "templates", encoding="utf-8"),
    undefined=StrictUndefined,
    autoescape=False,  # markdown for a language model; texts from outside are made harmless by `quoting`
    trim_blocks=True,
    lstrip_blocks=True,
)


def _render(template: str, view: dict[str, Any]) -> str:
    return _ENVIRONMENT.get_template(template).render(view).strip()
