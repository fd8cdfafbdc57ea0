"""What the API server's rules refuse, the models refuse as well, and the other way round.

That the rules themselves say so is a matter of a real API server: the cluster's tests give it the same table.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.api.rule_cases import ACCEPTED, REFUSED, tuning

from haqa_operator.api import SpecError
from haqa_operator.api.loading import parse_tuning
from haqa_operator.api.resources import QuantizationTrial
from haqa_operator.api.rules import RULES
from haqa_operator.api.tuning import QuantizationTuning

RESOURCES = (QuantizationTuning, QuantizationTrial)


@pytest.mark.parametrize(("change", "says"), REFUSED)
def test_the_models_refuse_what_the_rules_refuse(change: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError):
        parse_tuning(tuning(change))


@pytest.mark.parametrize("change", ACCEPTED)
def test_the_models_accept_what_the_rules_accept(change: dict[str, Any]) -> None:
    parse_tuning(tuning(change))


def test_every_rule_on_a_spec_has_a_case() -> None:
    on_specs = [
        rule for model, rules in RULES.items() if not model.__name__.startswith("Quantization") for rule in rules
    ]
    assert [rule.message for rule in on_specs if not any(says in rule.message for _, says in REFUSED)] == []


def test_model_and_pools_are_fixed_only_after_the_start() -> None:
    fixed = [rule for rule in RULES[QuantizationTuning] if "oldSelf" in rule.expression]
    assert [rule.field for rule in fixed] == [".spec.model", ".spec.nodePools"]
    assert all("oldSelf.status.phase != 'Pending'" in rule.expression for rule in fixed)
