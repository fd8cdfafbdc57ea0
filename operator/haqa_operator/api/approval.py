"""`QuantizationApproval`: somebody's word that a winner may be deployed.

An object of its own, because the right to give it is then a right of its own: `create` of quantizationapprovals, and
nothing on tunings. Whose word it is was checked when it was created, by the chart's ValidatingAdmissionPolicy.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from haqa_operator.api.base import API_VERSION, DNS_LABEL, ResourceModel
from haqa_operator.api.pod_template import SUBDOMAIN

_UTC = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"


class ApprovalMetadata(ResourceModel):
    """Kubernetes' own: labels, annotations and the rest are taken as they are."""

    model_config = {**ResourceModel.model_config, "extra": "allow"}
    name: Annotated[str, Field(max_length=253)]
    """Any name"""
    namespace: str | None = None
    """The tuning's namespace"""
    creation_timestamp: AwareDatetime | None = None
    """When it was given"""
    deletion_timestamp: AwareDatetime | None = None
    """There where it is being withdrawn"""


class QuantizationApprovalSpec(ResourceModel):
    """Who approves which winner, and until when. Cannot change."""

    tuning: Annotated[str, Field(pattern=DNS_LABEL)]
    """Name of the tuning, in the namespace of the approval"""
    trial: Annotated[str, Field(pattern=SUBDOMAIN, max_length=253)]
    """Name of the winner's QuantizationTrial; another winner needs another approval"""
    approved_by: Annotated[str, Field(min_length=1, max_length=1024)]
    """Your own user name, as `kubectl auth whoami` says it"""
    expires: Annotated[AwareDatetime | None, Field(json_schema_extra={"pattern": _UTC})] = None
    """When it ceases to count if the winner is not deployed by then: 2026-12-31T18:00:00Z. What is deployed stays"""


class QuantizationApproval(ResourceModel):
    """Somebody's word that the winner of a tuning with `output.approval: Manual` may be deployed."""

    api_version: Literal["haqa.dev/v1alpha1"] = API_VERSION
    """Group and version of the resource"""
    kind: Literal["QuantizationApproval"] = "QuantizationApproval"
    """Kind of the resource"""
    metadata: ApprovalMetadata
    """Name and namespace"""
    spec: QuantizationApprovalSpec
    """Who approves which winner, and until when. Cannot change"""
