"""A table in which nothing is better than anything else: whoever finds a winner in it was deceived by noise."""

from __future__ import annotations

from dataclasses import replace

from haqa_operator.replay.bench.problems import Problem


def null_problem(problem: Problem) -> Problem:
    """The same space where every configuration has the figures of the best one."""
    if problem.best is None:
        return problem
    model = problem.table.rows[problem.best.trial.configuration]
    rows = {
        configuration: replace(
            row, metrics=model.metrics, samples=model.samples, failure=None, machine_hours=row.machine_hours
        )
        for configuration, row in problem.table.rows.items()
    }
    return replace(problem, table=replace(problem.table, rows=rows))
