"""What the agent is told of a table that answers in place of a machine."""

from __future__ import annotations

from haqa_operator.agent.context import AgentContext, PromptModel, model_name
from haqa_operator.api.tuning import TuningSpec
from haqa_operator.replay.tables.table import Table

_UNKNOWN = "as in the table"


def table_context(table: Table, spec: TuningSpec) -> AgentContext:
    """The context of a search on a table, from its notes and from what all of its rows have in common."""
    notes, agent = table.notes, spec.search.agent
    common = ", ".join(f"{name} {value}" for name, value in table.context.items())
    return AgentContext(
        hardware=", ".join(part for part in (notes.accelerator, common) if part) or _UNKNOWN,
        model=PromptModel(name=notes.model or model_name(spec.model.uri)),
        engine=notes.engine or table.context.get("engine", _UNKNOWN),
        workload=spec.workload,
        objectives=spec.objectives,
        constraints=spec.constraints,
        budget=spec.budget,
        notes=(*(agent.notes if agent else ()), *notes.remarks),
        replayed=True,
        load=notes.load_sentence,
    )
