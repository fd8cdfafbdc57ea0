"""All known causes, tried in order, the more specific ones first."""

from __future__ import annotations

from haqa_contract.engine_log import kernel_rules, machine_rules, memory_rules, model_rules, settings_rules
from haqa_contract.engine_log.messages import Kind, Message
from haqa_contract.engine_log.rule import Rule

RULES: tuple[Rule, ...] = (
    *memory_rules.RULES,
    *model_rules.RULES,
    *settings_rules.RULES,
    *kernel_rules.RULES,
    *machine_rules.RULES,
    *kernel_rules.OTHER_ERRORS,
    *settings_rules.VALIDATION,
)


CRASHES: tuple[Rule, ...] = (*memory_rules.CRASHES, *kernel_rules.CRASHES, *machine_rules.CRASHES)


def rules_for(message: Message) -> tuple[Rule, ...]:
    """The rules that can apply to a message of this kind."""
    match message.kind:
        case Kind.USAGE:
            return settings_rules.REFUSALS
        case Kind.ABORT:
            return (*RULES, *CRASHES)
        case _:
            return RULES
