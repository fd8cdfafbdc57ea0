"""A table in which nothing is better than anything else: whoever finds a winner in it was deceived by noise.

All configurations get the figures of the feasible one that has most room to the limits: at a limit's edge noise decides
which of them keep it, the baseline among them, and that is no question of who is better (`Outcome.wrong_winner` is).
"""

from __future__ import annotations

from dataclasses import replace

from haqa_operator.replay.bench.problems import Problem


def null_problem(problem: Problem) -> Problem:
    """The same space where every configuration has the figures of one."""
    kept = [c for c, seen in problem.truth.items() if seen.score is not None and not seen.violation]
    if not kept:
        return problem
    model = problem.table.rows[max(kept, key=problem.room)]
    rows = {
        configuration: replace(
            row, metrics=model.metrics, samples=model.samples, failure=None, machine_hours=row.machine_hours
        )
        for configuration, row in problem.table.rows.items()
    }
    return replace(problem, table=replace(problem.table, rows=rows))
