"""A pod's affinity, as far as the API server checks it: which nodes, and beside which other pods.

Checked here, so that a mistake is a sentence on the tuning and not a Job that cannot be made. In the definition it is
kept as it is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from haqa_operator.api.base import ResourceModel

_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
LABEL_KEY = rf"^([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_NAME}$"
LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"

LabelKey = Annotated[str, Field(pattern=LABEL_KEY, max_length=317)]
LabelValue = Annotated[str, Field(pattern=LABEL_VALUE, max_length=63)]
_Weight = Annotated[int, Field(ge=1, le=100)]
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")


class LabelRequirement(ResourceModel):
    """One condition on a pod's or a namespace's labels."""

    key: LabelKey
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: Annotated[tuple[LabelValue, ...], Field(max_length=64)] = ()

    @model_validator(mode="after")
    def _has_the_values_that_its_operator_takes(self) -> LabelRequirement:
        _check_values(self.key, self.operator, self.values)
        return self


class NodeRequirement(ResourceModel):
    """One condition on a node's labels."""

    key: LabelKey
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    values: Annotated[tuple[str, ...], Field(max_length=64)] = ()

    @model_validator(mode="after")
    def _has_the_values_that_its_operator_takes(self) -> NodeRequirement:
        if self.operator in ("Gt", "Lt"):
            if len(self.values) != 1 or _INTEGER.fullmatch(self.values[0]) is None:
                raise ValueError(f"{self.key} {self.operator}: give one whole number as text, as values: ['40']")
            return self
        wrong = next((value for value in self.values if re.fullmatch(LABEL_VALUE, value) is None), None)
        if wrong is not None:
            raise ValueError(f"{self.key} {self.operator}: {wrong!r} is no value that a label can have")
        _check_values(self.key, self.operator, self.values)
        return self

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a node with these labels meets it."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
        if value is None or _INTEGER.fullmatch(value) is None:
            return False
        return int(value) > int(self.values[0]) if self.operator == "Gt" else int(value) < int(self.values[0])


class FieldRequirement(ResourceModel):
    """One condition on a node's name."""

    key: Literal["metadata.name"]
    operator: Literal["In", "NotIn"]
    values: Annotated[tuple[str, ...], Field(min_length=1, max_length=1)]


class NodeTerm(ResourceModel):
    """Conditions that a node has to meet all of; without any it meets none."""

    match_expressions: Annotated[tuple[NodeRequirement, ...], Field(max_length=32)] = ()
    match_fields: Annotated[tuple[FieldRequirement, ...], Field(max_length=8)] = ()

    def matches(self, labels: Mapping[str, str], name: str) -> bool:
        """Whether a node meets it."""
        if not (self.match_expressions or self.match_fields):
            return False
        named = all((name in field.values) == (field.operator == "In") for field in self.match_fields)
        return named and all(requirement.matches(labels) for requirement in self.match_expressions)


class NodeTerms(ResourceModel):
    """Terms of which a node has to meet one."""

    node_selector_terms: Annotated[tuple[NodeTerm, ...], Field(min_length=1, max_length=32)]


class PreferredNodes(ResourceModel):
    """A term that nodes had better meet."""

    weight: _Weight
    preference: NodeTerm


class NodeAffinity(ResourceModel):
    """Which nodes."""

    required: Annotated[NodeTerms | None, Field(alias="requiredDuringSchedulingIgnoredDuringExecution")] = None
    preferred: Annotated[
        tuple[PreferredNodes, ...], Field(alias="preferredDuringSchedulingIgnoredDuringExecution", max_length=32)
    ] = ()


class LabelSelector(ResourceModel):
    """Which pods or namespaces, by their labels."""

    match_labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] = Field(default_factory=dict)
    match_expressions: Annotated[tuple[LabelRequirement, ...], Field(max_length=32)] = ()


class PodTerm(ResourceModel):
    """Where such pods are: on the same node, in the same zone or whatever the key names."""

    topology_key: LabelKey
    label_selector: LabelSelector | None = None
    namespaces: Annotated[tuple[str, ...], Field(max_length=32)] = ()
    namespace_selector: LabelSelector | None = None
    match_label_keys: Annotated[tuple[LabelKey, ...], Field(max_length=16)] = ()
    mismatch_label_keys: Annotated[tuple[LabelKey, ...], Field(max_length=16)] = ()

    @model_validator(mode="after")
    def _keys_of_labels_go_with_a_selector(self) -> PodTerm:
        keys = (*self.match_label_keys, *self.mismatch_label_keys)
        if keys and self.label_selector is None:
            raise ValueError("matchLabelKeys and mismatchLabelKeys need a labelSelector beside them")
        both = sorted(set(self.match_label_keys) & set(self.mismatch_label_keys))
        if both:
            raise ValueError(f"{both[0]} is in matchLabelKeys and in mismatchLabelKeys; leave it in one of them")
        return self


class WeightedPodTerm(ResourceModel):
    """A term that had better hold."""

    weight: _Weight
    pod_affinity_term: PodTerm


class PodAffinity(ResourceModel):
    """Beside which other pods, or away from them."""

    required: Annotated[
        tuple[PodTerm, ...], Field(alias="requiredDuringSchedulingIgnoredDuringExecution", max_length=32)
    ] = ()
    preferred: Annotated[
        tuple[WeightedPodTerm, ...], Field(alias="preferredDuringSchedulingIgnoredDuringExecution", max_length=32)
    ] = ()


class Affinity(ResourceModel):
    """As in a pod."""

    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None

    @property
    def _terms(self) -> tuple[NodeTerm, ...] | None:
        required = self.node_affinity.required if self.node_affinity else None
        return required.node_selector_terms if required else None

    def admits(self, labels: Mapping[str, str], name: str) -> bool:
        """Whether a pod may run on a node with these labels and this name, as far as it requires anything of nodes."""
        return self._terms is None or any(term.matches(labels, name) for term in self._terms)

    def contradiction(self, selector: Mapping[str, str]) -> str | None:
        """The label by which no node can meet both this and a nodeSelector; None where one may."""
        contradicted = []
        for term in self._terms or ():
            wrong = (one.key for one in term.match_expressions if one.key in selector and not one.matches(selector))
            contradicted.append(next(wrong, None))
        return contradicted[0] if contradicted and all(contradicted) else None


def _check_values(key: str, operator: str, values: tuple[str, ...]) -> None:
    if operator in ("In", "NotIn") and not values:
        raise ValueError(f"{key} {operator}: give the values")
    if operator in ("Exists", "DoesNotExist") and values:
        raise ValueError(f"{key} {operator}: takes no values; leave them out, or use In")
