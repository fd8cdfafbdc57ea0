"""What a look at a tuning works with; lives as long as the operator."""

from __future__ import annotations

from dataclasses import dataclass

from haqa_operator.metrics.prometheus import PrometheusSource
from haqa_operator.tuning.cluster.asking import Asking
from haqa_operator.tuning.cluster.installation import Installation
from haqa_operator.tuning.cluster.news import Newsroom
from haqa_operator.tuning.cluster.objects import Objects
from haqa_operator.tuning.cluster.reading import Readings


@dataclass(frozen=True)
class Means:
    """Everything that is shared by the looks.

    Attributes:
        readings: None: the runner's own figures are the record.
    """

    objects: Objects
    installation: Installation
    asking: Asking
    news: Newsroom
    readings: Readings | None = None

    @classmethod
    def of(cls, objects: Objects, installation: Installation) -> Means:
        return cls(objects, installation, Asking(), Newsroom(objects), _readings(installation))


def _readings(installation: Installation) -> Readings | None:
    if installation.prometheus is None:
        return None
    interval_s = installation.scrape_interval_s
    source = PrometheusSource(installation.prometheus, installation.prometheus_labels, interval_s)
    return Readings(source, interval_s)
