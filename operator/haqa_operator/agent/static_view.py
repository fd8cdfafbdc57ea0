"""What `static.md.j2` shows: all that is known before any trial.

Every text from outside is quoted or stripped here, not in the template.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from haqa_contract import Configuration, Workload
from haqa_operator.agent.candidates import MAX_BLOCKS, Block, Catalogue
from haqa_operator.agent.context import AgentContext, PromptModel
from haqa_operator.agent.quoting import ABSENT, labelled, prompt_line, quoted
from haqa_operator.agent.replies import MAX_CHOICES, MAX_REASONING_CHARS
from haqa_operator.api.goals import Objective
from haqa_operator.decision.constraints import References
from haqa_operator.decision.limits import absolute_limits
from haqa_operator.decision.results import Exclusion
from haqa_operator.metrics.quantities import quantity
from haqa_operator.search.space import SearchSpace

MAX_EXCLUSIONS = 30
MAX_NOTES = 40
_GIB = 2**30
_QUANTIZATION = frozenset({"scheme", "algorithm"})


def static_view(context: AgentContext, space: SearchSpace, catalogue: Catalogue) -> dict[str, Any]:
    """The template's variables."""
    listed = catalogue.listed
    found = () if listed else catalogue.blocks
    # A table that says nothing of quantization has rows of the default scheme, which means nothing there.
    untold = _QUANTIZATION & dict(catalogue.shared).keys() if context.replayed else frozenset()
    shared = [f"{name}={value}" for name, value in catalogue.shared if name not in untold]
    baseline = labelled({name: value for name, value in space.baseline.parameters.items() if name not in untold})
    return {
        "engine": prompt_line(context.engine),
        "replayed": context.replayed,
        "hardware": quoted(context.hardware),
        "accelerators": context.accelerators,
        "bandwidth": f"{context.bandwidth_gb_s:g} GB/s" if context.bandwidth_gb_s else "",
        "rates": ", ".join(_rate(name, value) for name, value in context.rates.items()),
        "interconnect": prompt_line(context.interconnect, 120) if context.interconnect else "",
        "cost": f"{context.cost_per_hour:g} an hour for one replica" if context.cost_per_hour else "",
        "model": _model_lines(context.model),
        "weights": [_weight_line(context, name) for name in context.model.weight_bytes],
        "fixed": [f"{name}={value}" for name, value in labelled(dict(context.fixed_settings)).items()],
        "hidden": [prompt_line(line, 300) for line in context.hidden_settings],
        "workload": _load_lines(context) if context.replayed else _workload_lines(context.workload),
        "objectives": [_objective_line(i, one, context.replayed) for i, one in enumerate(context.objectives)],
        "constraints": [
            prompt_line(limit.describe(), 200) for limit in absolute_limits(context.constraints, References())
        ],
        "baseline": ", ".join(f"{name}={value}" for name, value in baseline.items()),
        "shared": ", ".join(shared),
        "listed": listed,
        "count": len(catalogue.rows),
        "names": [*catalogue.names, *([bound_heading(context.objectives[0])] if listed and space.bounds else [])],
        "rows": _rows(context, space, catalogue) if listed else (),
        "bounded": bool(space.bounds),
        "blocks": [_block_line(catalogue.names, block) for block in found[:MAX_BLOCKS]],
        "blocks_left_out": max(0, len(found) - MAX_BLOCKS),
        "defaults": any(ABSENT in row for row in catalogue.rows),
        "excluded": [_exclusion_line(exclusion) for exclusion in space.exclusions[:MAX_EXCLUSIONS]],
        "notes": [quoted(note, 500) for note in (*context.notes, *space.notes)[:MAX_NOTES]],
        "choices_limit": MAX_CHOICES,
        "reasoning_limit": MAX_REASONING_CHARS,
        "example": json.dumps({name: "<value>" for name in catalogue.names}, ensure_ascii=False),
    }


def bound_heading(objective: Objective) -> str:
    """Of the column that says what the hardware allows at best."""
    return f"bound of {objective.key}"


def bound_cell(space: SearchSpace, objective: Objective, candidate: Configuration) -> str:
    """The best that the hardware allows a candidate, `-` where nothing is known."""
    score = space.bounds.get(candidate)
    if score is None:
        return "-"
    return (
        f"at most {quantity(objective.key, score)}"
        if objective.maximize
        else (f"at least {quantity(objective.key, -score)}")
    )


def _rows(context: AgentContext, space: SearchSpace, catalogue: Catalogue) -> Sequence[tuple[str, ...]]:
    if not space.bounds:
        return catalogue.rows
    objective = context.objectives[0]
    cells = [bound_cell(space, objective, candidate) for candidate in space.candidates]
    return [(*row, cell) for row, cell in zip(catalogue.rows, cells, strict=True)]


def _rate(name: str, value: float | None) -> str:
    return f"{prompt_line(name)} {value:g} T{'OPS' if 'INT' in name else 'FLOPS'}" if value else f"{name} none known"


def _model_lines(model: PromptModel) -> list[str]:
    lines = [f"name: {quoted(model.name, 120)}"]
    lines += [f"architecture: {quoted(model.architecture, 80)}"] if model.architecture else []
    lines += [f"parameters: {model.parameters / 1e6:.4g} million"] if model.parameters else []
    lines += [f"layers: {model.layers}"] if model.layers else []
    lines += [f"hidden size: {model.hidden_size}"] if model.hidden_size else []
    lines += [f"type of the checkpoint: {prompt_line(model.dtype)}"] if model.dtype else []
    lines += [
        f"KV cache of type {prompt_line(name)}: {size} bytes a token" for name, size in model.kv_bytes_per_token.items()
    ]
    return lines


def _weight_line(context: AgentContext, name: str) -> str:
    """Weight sizes and the floor they set to one decoding step: each token reads all weights once."""
    size, active = context.model.weight_bytes[name], context.model.active_bytes.get(name)
    read = active or size
    line = f"weights in {prompt_line(name)}: {size / _GIB:.3g} GiB"
    line += f", of which one token is multiplied with {active / _GIB:.3g} GiB" if active else ""
    bandwidth = context.bandwidth_gb_s
    return f"{line}, read once in {read / bandwidth / 1e6:.3g} ms at peak bandwidth" if bandwidth else line


def _workload_lines(workload: Workload) -> list[str]:
    levels = ", ".join(map(str, workload.concurrency))
    prompts = f"prompts from {quoted(workload.dataset, 120)}" if workload.dataset else "synthetic prompts"
    return [
        f"{workload.input_tokens} input tokens and {workload.output_tokens} output tokens a request, {prompts}",
        f"closed loop at concurrency {levels}; each level is measured {workload.repeats} times",
    ]


def _load_lines(context: AgentContext) -> list[str]:
    return [quoted(context.load) if context.load else "as it was when the table was measured; the table does not say"]


def _objective_line(position: int, objective: Objective, replayed: bool) -> str:
    rank = "" if position == 0 else "further objective (Pareto front): "
    over = ""
    if objective.concurrency is None and not replayed:
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
