"""What `dynamic.md.j2` shows: all that the trials so far say, and what is left to choose from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from haqa_contract import Configuration
from haqa_operator.agent.candidates import Catalogue, open_numbers, ranges, shortlist
from haqa_operator.agent.context import AgentContext
from haqa_operator.agent.history import best_sentence, budget_lines, columns, heading, trial_rows
from haqa_operator.agent.limits import candidate_bounds, demand, rate_bounds
from haqa_operator.agent.quoting import ABSENT, quoted
from haqa_operator.agent.static_view import bound_cell, bound_heading
from haqa_operator.decision.constraints import References
from haqa_operator.decision.limits import absolute_limits
from haqa_operator.decision.observations import Observation
from haqa_operator.search.space import SearchSpace

MAX_RULED_OUT = 30
MAX_EXPECTATIONS = 12


@dataclass(frozen=True)
class Progress:
    """What a prompt says beside the static facts.

    Attributes:
        tokens_used: Of the agent, in this pool so far.
        expectations: Candidate -> what the surrogate expects of it, in a short line; the best first.
    """

    observations: Sequence[Observation]
    tokens_used: int = 0
    expectations: Mapping[Configuration, str] | None = None


def dynamic_view(context: AgentContext, space: SearchSpace, catalogue: Catalogue, progress: Progress) -> dict[str, Any]:
    """The template's variables."""
    observations = progress.observations
    trials = [observation.trial for observation in observations]
    references = References.among(trials)
    limits = absolute_limits(context.constraints, references)
    keys = columns(observations, context.objectives, limits, context.workload)
    rows = trial_rows(observations, catalogue, keys, limits, references)
    tried = {trial.configuration for trial in trials}
    untried = open_numbers(space, tried)
    values = dict(zip(catalogue.names, _columns_of(catalogue), strict=True)) | {n: (v,) for n, v in catalogue.shared}
    demanded: tuple[str, ...] = ()
    if not context.replayed:
        demanded = rate_bounds(limits, context.workload, context.accelerators, references.speed)
    if context.closed_loop:
        demanded += candidate_bounds(limits, values, space.load_parameters, space.accelerator_parameters)
    shown = _shortlist_rows(catalogue, untried, observations)
    objective = context.objectives[0]
    return {
        "demands": [demand(limit, references.of(limit.key)) for limit in limits],
        "bounds": demanded,
        "headings": [heading(key, context.objectives) for key in keys],
        "trials": rows,
        "slacks": [row for row in rows if row.limits],
        "failures": [row for row in rows if row.failure],
        "ruled_out": _ruled_out(space, catalogue, tried),
        "best": best_sentence(observations, references.speed, objective),
        "budget": budget_lines(observations, context.budget, progress.tokens_used),
        "expectations": _expectation_lines(catalogue, progress.expectations or {}),
        "names": [*catalogue.names, *([bound_heading(objective)] if space.bounds else [])],
        "untried": ranges(untried),
        "untried_count": len(untried),
        "shortlist": [
            (*catalogue.rows[i], *([bound_cell(space, objective, space.candidates[i])] if space.bounds else []))
            for i in shown
        ],
    }


def _columns_of(catalogue: Catalogue) -> list[tuple[str, ...]]:
    return [tuple(dict.fromkeys(row[axis] for row in catalogue.rows)) for axis in range(len(catalogue.names))]


def _shortlist_rows(catalogue: Catalogue, untried: Sequence[int], observations: Sequence[Observation]) -> Sequence[int]:
    if catalogue.listed:
        return ()
    scored = [(o.violation, -o.score, o) for o in observations if o.score is not None]
    ranked = [o.trial.configuration for _, _, o in sorted(scored, key=lambda item: item[:2])]
    best = [catalogue.index[configuration] for configuration in ranked if configuration in catalogue.index][:3]
    return shortlist(catalogue.rows, untried, best)


def _ruled_out(space: SearchSpace, catalogue: Catalogue, tried: set[Configuration]) -> list[str]:
    """Candidates that are closed, grouped by the reason."""
    by_reason: dict[str, list[Configuration]] = {}
    for configuration, reason in space.closed.items():
        if configuration not in tried and configuration in catalogue.index:
            by_reason.setdefault(reason, []).append(configuration)
    lines = [
        f"{_together(catalogue, configurations)}: {quoted(reason)}" for reason, configurations in by_reason.items()
    ]
    return lines[:MAX_RULED_OUT]


def _together(catalogue: Catalogue, configurations: Sequence[Configuration]) -> str:
    """`candidates 3-5, 9 (scheme=W4A16)`; without the numbers where candidates have none in the prompt."""
    rows = [catalogue.rows[number] for number in catalogue.numbers(configurations)]
    first = dict(zip(catalogue.names, rows[0], strict=True))
    common = {
        name: text for i, (name, text) in enumerate(first.items()) if text != ABSENT and all(r[i] == text for r in rows)
    }
    alike = ", ".join(f"{name}={text}" for name, text in common.items())
    if catalogue.listed:
        numbers = ranges(catalogue.numbers(configurations))
        return f"candidate{'s' if len(configurations) > 1 else ''} {numbers}" + (f" ({alike})" if alike else "")
    return f"{alike or 'some'} ({len(configurations)} configuration{'s' if len(configurations) > 1 else ''})"


def _expectation_lines(catalogue: Catalogue, expectations: Mapping[Configuration, str]) -> list[str]:
    lines = []
    for configuration, line in list(expectations.items())[:MAX_EXPECTATIONS]:
        number = catalogue.index.get(configuration)
        if number is not None:
            name = f"candidate {number}: " if catalogue.listed else ""
            lines.append(f"{name}{catalogue.describe(configuration)}: {quoted(line, 200)}")
    return lines
