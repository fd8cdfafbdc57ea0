"""Which Secrets a tuning names, by the rules that are about them."""

from __future__ import annotations

from collections.abc import Iterator

from haqa_operator.api.tuning import QuantizationTuning
from haqa_operator.cluster.policy.paths import found
from haqa_operator.cluster.policy.rules import RULES


def secrets_of(tuning: QuantizationTuning) -> Iterator[tuple[str, str]]:
    """Field and name of each."""
    manifest = tuning.model_dump(mode="json", by_alias=True, exclude_unset=True)
    for rule in RULES:
        if rule.value == "secrets":
            yield from ((one.where, one.value) for one in found(manifest, rule.path) if one.value is not None)
