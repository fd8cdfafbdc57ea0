"""What a look at a tuning works with; lives as long as the operator."""

from __future__ import annotations

from dataclasses import dataclass

from haqa_operator.cluster.edges.api_server import Objects
from haqa_operator.cluster.edges.events import EventRecorder
from haqa_operator.cluster.edges.prometheus_readings import PrometheusReadings
from haqa_operator.cluster.edges.proposals import BackgroundProposals
from haqa_operator.cluster.installation import Installation
from haqa_operator.metrics.prometheus import PrometheusSource


@dataclass(frozen=True)
class Dependencies:
    """Everything that is shared by the looks.

    Attributes:
        readings: None: the runner's own figures are the record.
    """

    objects: Objects
    installation: Installation
    proposals: BackgroundProposals
    events: EventRecorder
    readings: PrometheusReadings | None = None

    @classmethod
    def of(cls, objects: Objects, installation: Installation) -> Dependencies:
        return cls(objects, installation, BackgroundProposals(), EventRecorder(objects), _readings(installation))


def _readings(installation: Installation) -> PrometheusReadings | None:
    if installation.prometheus is None:
        return None
    interval_s = installation.scrape_interval_s
    source = PrometheusSource(installation.prometheus, installation.prometheus_labels, interval_s)
    return PrometheusReadings(source, interval_s)
