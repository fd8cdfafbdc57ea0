"""Many searches, in parallel processes, the finished ones kept as they come."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

from haqa_operator.api.search_spec import Patience
from haqa_operator.replay.bench import rivals
from haqa_operator.replay.bench.null import null_problem
from haqa_operator.replay.bench.outcomes import Outcome, Store, Task, digest, outcome_of
from haqa_operator.replay.bench.problems import Problem
from haqa_operator.replay.bench.runs import Trace, run

_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Small matrices on many threads are slower than on one, and the processes would take each other's cores."""

_DRAWING = frozenset({"random", "tpe", *rivals.EXTRA})
"""Strategies that a seed changes; without noise and agents the others are run once."""


@dataclass(frozen=True)
class Plan:
    """What is to be run."""

    problems: Sequence[Problem]
    strategies: Sequence[str]
    seeds: int
    trials: int
    noise_percent: float = 0.0
    agent: str | None = None
    patience: Patience = Patience.UNLIMITED

    def tasks(self) -> list[tuple[Task, Problem]]:
        """Seed by seed, so that what is there when somebody interrupts is a benchmark of fewer seeds."""
        digests = [digest(problem) for problem in self.problems]
        return [
            (self._task(problem, table, strategy, seed), problem)
            for seed in range(self.seeds)
            for problem, table in zip(self.problems, digests, strict=True)
            for strategy in self.strategies
            if seed == 0 or self.noise_percent or strategy in _DRAWING or self._agent_of(strategy)
        ]

    def _agent_of(self, strategy: str) -> str | None:
        return self.agent if rivals.plain(strategy) in rivals.WITH_AGENT else None

    def _task(self, problem: Problem, table: str, strategy: str, seed: int) -> Task:
        return Task(
            problem=problem.name,
            strategy=strategy,
            agent=self._agent_of(strategy),
            seed=seed,
            trials=self.trials,
            noise_percent=self.noise_percent,
            patience=self.patience if rivals.plain(strategy) in rivals.OWN else Patience.UNLIMITED,
            table=table,
        )


def search(plan: Plan, store: Store, jobs: int, on_done: Callable[[int, int, Outcome], None]) -> list[Outcome]:
    """Runs what the store does not have yet.

    Args:
        jobs: Processes at a time; 1 = in this process.
        on_done: Called after each search with how many are done, of how many, and its outcome.

    Returns:
        The outcomes of the plan's tasks, the earlier ones among them, in the plan's order.
    """
    tasks = plan.tasks()
    known = {outcome.task: outcome for outcome in store.read() if outcome.error is None}
    left = [(task, problem) for task, problem in tasks if task not in known]
    done = len(tasks) - len(left)
    for outcome in _outcomes(left, jobs):
        store.add([outcome])
        known[outcome.task] = outcome
        done += 1
        on_done(done, len(tasks), outcome)
    return [known[task] for task, _ in tasks]


def _outcomes(tasks: Sequence[tuple[Task, Problem]], jobs: int) -> Iterator[Outcome]:
    if jobs == 1:
        yield from (carry_out(task, problem) for task, problem in tasks)
        return
    for name in _ONE_THREAD:
        os.environ.setdefault(name, "1")
    # Fork would copy threads of whatever is loaded here.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        futures = [pool.submit(carry_out, task, problem) for task, problem in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def carry_out(task: Task, problem: Problem) -> Outcome:
    """One search; a strategy that fails is an outcome too: the others' figures are not lost with it."""
    try:
        trace = _run(task, problem)
        null = _run(task, null_problem(problem)) if task.noise_percent else None
    except Exception as error:
        name = type(error).__name__
        return Outcome(
            task=task, half=problem.half, family=problem.family, source=problem.source, error=f"{name}: {error}"
        )
    return outcome_of(task, problem, trace, null)


def _run(task: Task, problem: Problem) -> Trace:
    return run(
        problem,
        rivals.make(task.strategy, problem, task.seed, task.agent, task.patience),
        task.seed,
        task.trials,
        name=task.strategy,
        noise_percent=task.noise_percent,
        closing=rivals.closing(task.strategy, problem),
        early_stopping=rivals.ends_early(task.strategy),
    )
