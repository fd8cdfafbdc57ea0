"""What a pool's pods have beside what HAQA gives to them: the fields that clusters differ in, and no others.

What would loosen the pods' security (privileges, host folders and namespaces, other security contexts) has no field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Final

from pydantic import Field, WithJsonSchema, model_validator

from haqa_operator.api.affinity import LABEL_KEY, Affinity, LabelValue
from haqa_operator.api.base import ResourceModel, first_twice
from haqa_operator.api.quantities import Quantity, parse_quantity

SUBDOMAIN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
ObjectName = Annotated[str, Field(pattern=SUBDOMAIN, max_length=253)]

OWN_LABELS: Final = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "kueue.x-k8s.io/queue-name",
    "pod-template-hash",
    "job-name",
    "controller-uid",
)
OWN_LABEL_PREFIXES: Final = ("haqa.dev/", "batch.kubernetes.io/")
OWN_ANNOTATIONS: Final = ("prometheus.io/scrape", "prometheus.io/port", "prometheus.io/path")
OWN_ANNOTATION_PREFIXES: Final = (
    "haqa.dev/",
    # Older ways to loosen a container's security.
    "container.apparmor.security.beta.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
)

_AFFINITY_SCHEMA: Final[dict[str, Any]] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


class Quantities(ResourceModel):
    """Amounts beside the accelerators."""

    cpu: Quantity | None = None
    """Cores: 8, 500m"""
    memory: Quantity | None = None
    """Bytes: 64Gi"""
    ephemeral_storage: Annotated[Quantity | None, Field(alias="ephemeral-storage")] = None
    """Bytes of the node's disk: 100Gi"""

    @property
    def given(self) -> dict[str, str]:
        """Those that are said, by Kubernetes' names."""
        return self.model_dump(by_alias=True, exclude_none=True)


class EngineResources(ResourceModel):
    """Requests and limits of the engine; accelerators are requested by gpusPerReplica and deviceResource."""

    requests: Quantities = Quantities()
    """What the scheduler keeps free for it; default: a part of the node, as its accelerators are"""
    limits: Quantities = Quantities()
    """What it may not exceed; a request that is not given is the same"""

    @model_validator(mode="after")
    def _requests_are_within_their_limits(self) -> EngineResources:
        limits = self.limits.given
        for name, request in self.requests.given.items():
            if name in limits and parse_quantity(request) > parse_quantity(limits[name]):
                raise ValueError(
                    f"requests.{name} {request} is above limits.{name} {limits[name]}; lower it, or raise that"
                )
        return self


class LocalObject(ResourceModel):
    """An object of the tuning's namespace."""

    name: ObjectName
    """Its name"""


class PodTemplate(ResourceModel):
    """What all pods of a pool have beside what HAQA gives to them: those of trials, of the look at the model and of the
    winner."""

    labels: Annotated[dict[str, LabelValue], Field(max_length=32)] = Field(default_factory=dict)
    """More labels; those of HAQA and of Kubernetes' controllers are not to be set"""
    annotations: Annotated[dict[str, Annotated[str, Field(max_length=2048)]], Field(max_length=32)] = Field(
        default_factory=dict
    )
    """More annotations; on trials, those that keep autoscalers from moving them are HAQA's"""
    runtime_class_name: ObjectName | None = None
    """RuntimeClass, for example nvidia where it is not the nodes' default (k3s, RKE2)"""
    supplemental_groups: Annotated[tuple[Annotated[int, Field(ge=1, le=2_147_483_647)], ...], Field(max_length=16)] = ()
    """Groups of all containers, by number; on AMD instead of 44 and 109 (video and render of Debian and Ubuntu): the
    owners of /dev/kfd and /dev/dri on the pool's nodes"""
    priority_class_name: ObjectName | None = None
    """PriorityClass"""
    service_account_name: ObjectName | None = None
    """ServiceAccount that the cloud knows; its token is not mounted"""
    image_pull_secrets: Annotated[tuple[LocalObject, ...], Field(max_length=16)] = ()
    """Secrets with logins of registries"""
    scheduler_name: ObjectName | None = None
    """Scheduler; default: the cluster's"""
    affinity: Annotated[Affinity | None, WithJsonSchema(_AFFINITY_SCHEMA)] = None
    """As in a pod. What it requires of nodes counts as nodeSelector does: the others are not looked at"""
    resources: EngineResources = EngineResources()
    """Processor, memory and disk of the engine"""

    @model_validator(mode="after")
    def _leaves_to_haqa_what_is_its_own(self) -> PodTemplate:
        _check_keys("labels", self.labels, OWN_LABELS, OWN_LABEL_PREFIXES)
        _check_keys("annotations", self.annotations, OWN_ANNOTATIONS, OWN_ANNOTATION_PREFIXES)
        twice = first_twice(secret.name for secret in self.image_pull_secrets)
        if twice is not None:
            raise ValueError(f"imagePullSecrets: {twice!r} is there twice; leave it in once")
        return self


def _check_keys(field: str, keys: Iterable[str], own: tuple[str, ...], prefixes: tuple[str, ...]) -> None:
    for key in keys:
        if key in own or key.startswith(prefixes):
            raise ValueError(f"{field}: {key} is HAQA's or Kubernetes' own; leave it out")
        if re.fullmatch(LABEL_KEY, key) is None:
            raise ValueError(
                f"{field}: {key!r} is no name that Kubernetes takes; use at most 63 letters, digits, dashes, dots and "
                "underscores, with a domain and a slash before them where it has one"
            )
