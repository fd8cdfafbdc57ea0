"""What a table knows and a search has to find out."""

from __future__ import annotations

from collections.abc import Sequence

from haqa_contract import Configuration
from haqa_operator.api.goals import Constraint, Objective
from haqa_operator.api.trial import Proposal, Proposer, Trial
from haqa_operator.decision.observations import Observation, observations_of
from haqa_operator.replay.executor import SOURCE, status_of
from haqa_operator.replay.tables.table import Table


def truth_of(
    table: Table, objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> dict[Configuration, Observation]:
    """What a trial of each configuration shows when nothing disturbs it."""
    trials = [
        Trial(
            name=f"row-{number}",
            tuning=SOURCE,
            pool=SOURCE,
            number=number,
            proposal=Proposal(
                configuration=row.configuration,
                proposer=Proposer.BASELINE if row.configuration == table.baseline else Proposer.GRID,
            ),
            status=status_of(row),
        )
        for number, row in enumerate(table.rows.values())
    ]
    return {seen.trial.configuration: seen for seen in observations_of(trials, objectives, constraints)}
