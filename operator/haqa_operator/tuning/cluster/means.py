"""What a look at a tuning works with; lives as long as the operator."""

from __future__ import annotations

from dataclasses import dataclass

from haqa_operator.tuning.cluster.asking import Asking
from haqa_operator.tuning.cluster.installation import Installation
from haqa_operator.tuning.cluster.news import Newsroom
from haqa_operator.tuning.cluster.objects import Objects


@dataclass(frozen=True)
class Means:
    objects: Objects
    installation: Installation
    asking: Asking
    news: Newsroom
