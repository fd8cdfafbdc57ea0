"""Winner and baseline measured in turn, both engines warm: what their ratio is once the machine's drift is taken out.

One round has a window of each at every level. Which goes first alternates (A B, B A, A B, ...), so that neither
profits from a machine that gets steadily slower or faster, and both get the same prompts. The ratio is formed within a
round; the interval is Student's t over the rounds' logarithms, because what disturbs throughput is a factor.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean

from pydantic import ValidationError

from haqa_contract import (
    ComparedRound,
    CompareReport,
    CompareRequest,
    Failure,
    FailureReason,
    LevelRatio,
    ServedEngine,
    Window,
    Workload,
)
from haqa_contract.failures import TrialFailure, cause_of
from haqa_contract.statistics import FEWEST_PAIRS, geometric_estimate, settled
from haqa_runner.durable import write_atomically
from haqa_runner.measure.endpoint import connect, keep_requests_out_of_the_log
from haqa_runner.measure.load import LoadTest
from haqa_runner.measure.placement import beside_the_engine
from haqa_runner.measure.prompts import prompt_source
from haqa_runner.measure.tokens import load_tokenizer
from haqa_runner.progress import ProgressLines, ProgressSink, no_progress
from haqa_runner.steps import EXIT_DONE, EXIT_REPORTED_FAILURE, RequestError

REPORT_NAME = "compare.json"
_FEWEST_TO_END = 3
"""Rounds after which it may end early: the interval of two is three times as wide as that of three."""
_PRECISE = 1.25
"""Upper over lower end of an interval that says not only that there is a difference, but also how large it is."""


def compare_file(path: Path) -> int:
    """Carries out the CompareRequest in a file, progress on standard output; the process's exit code.

    Raises:
        RequestError: the file cannot be read.
    """
    try:
        request = CompareRequest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise RequestError(
            f"request {path} is no CompareRequest as JSON ({cause_of(error)}); check --request"
        ) from error
    report = compare(request, ProgressLines())
    return EXIT_DONE if report.failure is None else EXIT_REPORTED_FAILURE


def compare(request: CompareRequest, progress: ProgressSink = no_progress) -> CompareReport:
    """Measures the pair; never raises. The report, a failure in it, is also written to `compare.json`."""
    keep_requests_out_of_the_log()
    began = time.monotonic()
    try:
        winner, baseline = _side(request.winner, request.workload), _side(request.baseline, request.workload)
        with beside_the_engine():
            measuring = measure_rounds(request, winner, baseline, progress)
            rounds = asyncio.run(asyncio.wait_for(measuring, request.timeout_s))
        report = summarize(request, rounds, tuple(winner.warnings + baseline.warnings))
    except TrialFailure as failure:
        report = _failed(request, failure.failure)
    except TimeoutError:
        message = f"the comparison took longer than its limit of {request.timeout_s:g} s; ask for fewer rounds"
        report = _failed(request, Failure(reason=FailureReason.TIMEOUT, message=message))
    except Exception as error:
        message = f"the comparison ended unexpectedly ({cause_of(error)})"
        report = _failed(request, Failure(reason=FailureReason.LOAD_ERRORS, message=message))
    report = report.model_copy(update={"seconds": time.monotonic() - began})
    path = Path(request.directory) / REPORT_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, report.model_dump_json(indent=1).encode())
    return report


def summarize(
    request: CompareRequest, rounds: Sequence[ComparedRound], warnings: tuple[str, ...] = ()
) -> CompareReport:
    """The ratios of measured rounds, level by level and over all levels; a round with an invalid window does not count.

    Raises:
        TrialFailure: fewer than two rounds count.
    """
    counted = _counted(rounds)
    if len({compared.round for compared in counted}) < FEWEST_PAIRS:
        doubtful = {compared.round for compared in rounds} - {compared.round for compared in counted}
        raise TrialFailure(
            FailureReason.METRICS_MISSING,
            f"{len(doubtful)} of {request.rounds} rounds have a window that cannot be trusted; {'; '.join(warnings)}",
        )
    return CompareReport(
        winner=request.winner.name,
        baseline=request.baseline.name,
        rounds=tuple(counted),
        ratio=geometric_estimate(_ratios(counted)),
        levels=tuple(
            LevelRatio(concurrency=level, ratio=geometric_estimate(_ratios(counted, level)))
            for level in request.workload.concurrency
        ),
        warnings=warnings,
    )


def _counted(rounds: Sequence[ComparedRound]) -> list[ComparedRound]:
    doubtful = {compared.round for compared in rounds if compared.winner.invalid or compared.baseline.invalid}
    return [compared for compared in rounds if compared.round not in doubtful]


def _ratios(counted: Sequence[ComparedRound], level: int | None = None) -> list[float]:
    """Round by round, at one level; None: the geometric mean over all of them."""
    by_round: dict[int, list[float]] = {}
    for compared in counted:
        if level in (None, compared.concurrency):
            by_round.setdefault(compared.round, []).append(compared.ratio)
    return [geometric_mean(ratios) for ratios in by_round.values()]


def _settled(request: CompareRequest, rounds: Sequence[ComparedRound]) -> bool:
    if request.least_ratio is None:
        return False
    ratios = _ratios(_counted(rounds), request.decisive_level)
    if len(ratios) < _FEWEST_TO_END or not settled(ratios, request.rounds, request.least_ratio):
        return False
    interval = geometric_estimate(ratios)
    return interval.high <= _PRECISE * interval.low


def _side(engine: ServedEngine, workload: Workload) -> LoadTest:
    endpoint = connect(engine.base_url, engine.served_model_name, engine.adapters)
    tokenizer = load_tokenizer(Path(engine.model))
    return LoadTest(endpoint, workload, prompt_source(workload, tokenizer, endpoint.max_model_len))


async def measure_rounds(
    request: CompareRequest, winner: LoadTest, baseline: LoadTest, progress: ProgressSink = no_progress
) -> list[ComparedRound]:
    """Every round at every level, in the order in which they are measured, until the request has its answer."""
    sides = {"winner": winner, "baseline": baseline}
    metrics = {name: side.open_metrics(side.endpoint) for name, side in sides.items()}
    levels = request.workload.concurrency
    rounds: list[ComparedRound] = []
    try:
        for number in range(request.rounds):
            for done, level in enumerate(levels):
                share = (number + done / len(levels)) / request.rounds
                progress("compare", share, f"round {number + 1}, concurrency {level}")
                windows: dict[str, Window] = {}
                for name in sides if number % 2 == 0 else reversed(sides):
                    windows[name] = (await sides[name].measure(metrics[name], level, number))[-1]
                rounds.append(ComparedRound(concurrency=level, round=number, **windows))
            if _settled(request, rounds):
                break
    finally:
        for reader in metrics.values():
            await reader.close()
        for side in sides.values():
            side.close()
    progress("compare", 1.0, f"{rounds[-1].round + 1} rounds")
    return rounds


def _failed(request: CompareRequest, failure: Failure) -> CompareReport:
    return CompareReport(winner=request.winner.name, baseline=request.baseline.name, failure=failure)
