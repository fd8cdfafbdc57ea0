"""What a search is after."""

from __future__ import annotations

from dataclasses import dataclass, field

from haqa_operator.api.goals import Constraint, Objective


@dataclass(frozen=True)
class Goals:
    """The objective that decides and the limits that a configuration has to keep."""

    objective: Objective = field(default_factory=Objective)
    constraints: tuple[Constraint, ...] = ()
