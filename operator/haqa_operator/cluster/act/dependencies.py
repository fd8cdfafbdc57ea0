"""What reconciling works with; lives as long as the operator."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from haqa_operator.agent.apart.remote import RemoteModel
from haqa_operator.agent.client import LLMClient
from haqa_operator.agent.messages import OpenModel
from haqa_operator.cluster.edges.api_server import ApiServer
from haqa_operator.cluster.edges.events import EventRecorder
from haqa_operator.cluster.edges.nodes import ListedNodes, Nodes
from haqa_operator.cluster.edges.prometheus_readings import PrometheusReadings
from haqa_operator.cluster.edges.proposals import BackgroundProposals
from haqa_operator.cluster.edges.publications import BackgroundPublications, Publish
from haqa_operator.cluster.edges.trial_cache import TrialCache
from haqa_operator.cluster.installation import Installation
from haqa_operator.gitops.apart import publish_apart
from haqa_operator.metrics.prometheus import PrometheusSource


@dataclass(frozen=True)
class Dependencies:
    """Everything that reconciliations share.

    Attributes:
        nodes: What nodes there are.
        readings: None: the runner's own figures are the record.
        open_model: How agents' models are reached.
    """

    api: ApiServer
    installation: Installation
    proposals: BackgroundProposals
    events: EventRecorder
    nodes: Nodes
    readings: PrometheusReadings | None = None
    publications: BackgroundPublications = field(default_factory=BackgroundPublications)
    publish: Publish = publish_apart
    trials: TrialCache = field(default_factory=TrialCache)
    open_model: OpenModel = LLMClient

    @classmethod
    def of(cls, api: ApiServer, installation: Installation, nodes: Nodes | None = None) -> Dependencies:
        return cls(
            api,
            installation,
            BackgroundProposals(),
            EventRecorder(api),
            nodes or ListedNodes(api),
            _readings(installation),
            open_model=_open_model(installation),
        )


def _open_model(installation: Installation) -> OpenModel:
    """By the agent's own process, where the installation has one."""
    return LLMClient if installation.agent_socket is None else partial(RemoteModel, installation.agent_socket)


def _readings(installation: Installation) -> PrometheusReadings | None:
    if installation.prometheus is None:
        return None
    interval_s = installation.scrape_interval_s
    source = PrometheusSource(installation.prometheus, installation.prometheus_labels, interval_s)
    return PrometheusReadings(source, interval_s)
