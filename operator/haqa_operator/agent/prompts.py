"""Renders the agent's prompts: data -> view -> template -> messages.

HAQA's two halves (arXiv 2601.03484): the static prompt says what is known before any trial and never changes during a
search, the dynamic one what has been measured. The words are in `templates/`, for people to read and to diff; what is
computed is in `candidates`, `limits` and `history`. Same context, space and observations: same messages.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from haqa_contract import Configuration, Workload
from haqa_operator.agent.candidates import MAX_BLOCKS, Block, Catalogue, blocks, ranges, shortlist
from haqa_operator.agent.context import AgentContext, PromptModel
from haqa_operator.agent.history import best_sentence, budget_lines, columns, heading, trial_rows
from haqa_operator.agent.limits import absolute_limits, candidate_bounds, demand, rate_bounds
from haqa_operator.agent.messages import Message, Prompt
from haqa_operator.agent.quoting import ABSENT, labelled, prompt_line, quoted
from haqa_operator.agent.replies import MAX_REASONING_CHARS, Problem
from haqa_operator.api.goals import Objective
from haqa_operator.decision.constraints import find_baseline
from haqa_operator.decision.observations import Observation
from haqa_operator.decision.results import Exclusion
from haqa_operator.search.space import SearchSpace

MAX_EXCLUSIONS = 30
MAX_NOTES = 20
_GIB = 2**30
_REPAIRED_REPLY_CHARS = 2000


def opening(
    context: AgentContext, space: SearchSpace, observations: Sequence[Observation], tokens_used: int = 0
) -> Prompt:
    """The first message of a trial's exchange."""
    catalogue = Catalogue.of(space)
    return Prompt(
        (
            Message("system", _render("static.md.j2", static_view(context, space, catalogue))),
            Message(
                "user", _render("dynamic.md.j2", dynamic_view(context, space, catalogue, observations, tokens_used))
            ),
        )
    )


def repair(
    prompt: Prompt, reply: str, problem: Problem, space: SearchSpace, tried: Collection[Configuration]
) -> Prompt:
    """The second and last message of an exchange: what was wrong with the reply."""
    catalogue = Catalogue.of(space)
    untried = ranges(catalogue.numbers(space.open(tried))) if catalogue.listed else ""
    # A chat template may refuse an empty message, and the reply may hold its control tokens.
    echoed = prompt_line(reply, _REPAIRED_REPLY_CHARS) or "(no text)"
    asked = _render("repair.md.j2", {"problem": problem.sentence, "untried": untried})
    return Prompt((*prompt.messages, Message("assistant", echoed), Message("user", asked)))


def static_view(context: AgentContext, space: SearchSpace, catalogue: Catalogue) -> dict[str, Any]:
    """What `static.md.j2` shows; every text from outside is quoted or stripped here, not in the template."""
    listed = catalogue.listed
    found = () if listed else blocks(catalogue.rows)
    shared = [f"{name}={value}" for name, value in catalogue.shared]
    return {
        "engine": prompt_line(context.engine),
        "hardware": quoted(context.hardware),
        "accelerators": context.accelerators,
        "bandwidth": f"{context.bandwidth_gb_s:g} GB/s" if context.bandwidth_gb_s else "",
        "cost": f"{context.cost_per_hour:g} an hour for one replica" if context.cost_per_hour else "",
        "model": _model_lines(context.model),
        "weights": _weight_rows(context),
        "fixed": [f"{name}={value}" for name, value in labelled(dict(context.fixed_settings)).items()],
        "hidden": [prompt_line(line, 300) for line in context.hidden_settings],
        "workload": _workload_lines(context.workload),
        "objectives": [_objective_line(i, objective) for i, objective in enumerate(context.objectives)],
        "constraints": [prompt_line(limit.describe(), 200) for limit in absolute_limits(context.constraints, None)],
        "baseline": ", ".join(f"{name}={value}" for name, value in labelled(space.baseline.parameters).items()),
        "shared": ", ".join(shared),
        "listed": listed,
        "count": len(catalogue.rows),
        "names": catalogue.names,
        "rows": catalogue.rows,
        "blocks": [_block_line(catalogue.names, block) for block in found[:MAX_BLOCKS]],
        "blocks_left_out": max(0, len(found) - MAX_BLOCKS),
        "defaults": any(ABSENT in row for row in catalogue.rows),
        "excluded": [_exclusion_line(exclusion) for exclusion in space.exclusions[:MAX_EXCLUSIONS]],
        "notes": [quoted(note) for note in context.notes[:MAX_NOTES]],
        "reasoning_limit": MAX_REASONING_CHARS,
        "example": json.dumps({name: "<value>" for name in catalogue.names}, ensure_ascii=False),
    }


def dynamic_view(
    context: AgentContext,
    space: SearchSpace,
    catalogue: Catalogue,
    observations: Sequence[Observation],
    tokens_used: int,
) -> dict[str, Any]:
    """What `dynamic.md.j2` shows."""
    trials = [observation.trial for observation in observations]
    found = find_baseline(trials)
    baseline = found if found and found.succeeded else None
    limits = absolute_limits(context.constraints, baseline)
    keys = columns(observations, context.objectives, limits, context.workload)
    rows = trial_rows(observations, catalogue, keys, limits, baseline)
    untried = catalogue.numbers(space.open({trial.configuration for trial in trials}))
    values = dict(zip(catalogue.names, _columns_of(catalogue), strict=True)) | {n: (v,) for n, v in catalogue.shared}
    return {
        "demands": [demand(limit, baseline) for limit in limits],
        "bounds": rate_bounds(limits, context.workload, context.accelerators, baseline)
        + candidate_bounds(limits, values),
        "headings": [heading(key, context.objectives) for key in keys],
        "trials": rows,
        "slacks": [row for row in rows if row.limits],
        "failures": [row for row in rows if row.failure],
        "best": best_sentence(observations, baseline, context.objectives[0]),
        "budget": budget_lines(observations, context.budget, tokens_used),
        "names": catalogue.names,
        "untried": ranges(untried),
        "untried_count": len(untried),
        "shortlist": _shortlist_rows(catalogue, untried, observations),
    }


def _columns_of(catalogue: Catalogue) -> list[tuple[str, ...]]:
    return [tuple(dict.fromkeys(row[axis] for row in catalogue.rows)) for axis in range(len(catalogue.names))]


def _shortlist_rows(
    catalogue: Catalogue, untried: Sequence[int], observations: Sequence[Observation]
) -> list[tuple[str, ...]]:
    if catalogue.listed:
        return []
    scored = [(o.violation, -o.score, o) for o in observations if o.score is not None]
    ranked = [o.trial.configuration for _, _, o in sorted(scored, key=lambda item: item[:2])]
    best = [catalogue.index[configuration] for configuration in ranked if configuration in catalogue.index][:3]
    return [catalogue.rows[i] for i in shortlist(catalogue.rows, untried, best)]


def _model_lines(model: PromptModel) -> list[str]:
    lines = [f"name: {quoted(model.name, 120)}"]
    lines += [f"architecture: {quoted(model.architecture, 80)}"] if model.architecture else []
    lines += [f"parameters: {model.parameters / 1e6:.4g} million"] if model.parameters else []
    lines += [f"layers: {model.layers}"] if model.layers else []
    lines += [f"hidden size: {model.hidden_size}"] if model.hidden_size else []
    lines += [f"type of the checkpoint: {prompt_line(model.dtype)}"] if model.dtype else []
    lines += [f"KV cache: {model.kv_bytes_per_token} bytes a token"] if model.kv_bytes_per_token else []
    return lines


def _weight_rows(context: AgentContext) -> list[dict[str, str]]:
    """Weight sizes and the floor they set to one decoding step: each token reads all weights once."""
    bandwidth = context.bandwidth_gb_s
    return [
        {
            "scheme": prompt_line(scheme),
            "size": f"{size / _GIB:.3g} GiB",
            "read": f"{size / bandwidth / 1e6:.3g} ms" if bandwidth else "",
        }
        for scheme, size in context.model.weight_bytes.items()
    ]


def _workload_lines(workload: Workload) -> list[str]:
    levels = ", ".join(map(str, workload.concurrency))
    prompts = f"prompts from {quoted(workload.dataset, 120)}" if workload.dataset else "synthetic prompts"
    return [
        f"{workload.input_tokens} input tokens and {workload.output_tokens} output tokens a request, {prompts}",
        f"closed loop at concurrency {levels}; each level is measured {workload.repeats} times",
    ]


def _objective_line(position: int, objective: Objective) -> str:
    rank = "" if position == 0 else "further objective (Pareto front): "
    over = ""
    if objective.concurrency is None:
        over = ", over all levels (rates: geometric mean, latencies: worst level)"
    return f"{rank}{'maximize' if objective.maximize else 'minimize'} {objective.key}{over}"


def _block_line(names: Sequence[str], block: Block) -> str:
    parts = [
        f"{name}={values[0]}" if len(values) == 1 else f"{name} in ({', '.join(values)})"
        for name, values in zip(names, block.values, strict=True)
    ]
    return f"{' x '.join(parts)}: {block.size}"


def _exclusion_line(exclusion: Exclusion) -> str:
    common = ", ".join(f"{name}={value}" for name, value in labelled(exclusion.parameters).items())
    return f"{common or 'some'} ({exclusion.configurations} configurations): {quoted(exclusion.reason)}"


_ENVIRONMENT = ImmutableSandboxedEnvironment(
    loader=FileSystemLoader(Path(__file__).parent / "templates", encoding="utf-8"),
    undefined=StrictUndefined,
    autoescape=False,  # markdown for a language model; texts from outside are made harmless by `quoting`
    trim_blocks=True,
    lstrip_blocks=True,
)


def _render(template: str, view: dict[str, Any]) -> str:
    return _ENVIRONMENT.get_template(template).render(view).strip()
