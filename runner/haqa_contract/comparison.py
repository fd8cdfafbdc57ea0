"""Winner and baseline, measured alternately: the request and its report."""

from __future__ import annotations

from statistics import geometric_mean
from typing import Literal

from pydantic import Field

from haqa_contract.base import CONTRACT_VERSION, Contract
from haqa_contract.failures import Failure
from haqa_contract.reports import Estimate, Window
from haqa_contract.requests import Workload


class ServedEngine(Contract):
    """An engine that is already running, as the comparison reaches it."""

    name: str
    """Name of the trial whose configuration it runs"""
    base_url: str
    """For example http://127.0.0.1:8000"""
    served_model_name: str
    model: str
    """Folder with the model's tokenizer"""
    adapters: tuple[str, ...] = ()
    """Names that requests take turns with, in the model's place"""


class CompareRequest(Contract):
    """Winner and baseline, both warm and side by side, measured alternately so that the machine's drift cancels out."""

    contract: Literal[1] = CONTRACT_VERSION
    winner: ServedEngine
    baseline: ServedEngine
    workload: Workload = Workload()
    rounds: int = Field(default=5, ge=2, le=50)
    """Most pairs of windows at every level; an interval needs two"""
    least_ratio: float | None = Field(default=None, gt=0)
    """It ends before `rounds`, after three at the least, where it is settled on which side of this the ratio lies and
    how large it is; None: all rounds are measured"""
    decisive_level: int | None = None
    """Requests in flight at which the ratio counts; None: over all levels"""
    directory: str
    """Where compare.json and the log go"""
    timeout_s: float = Field(default=3600, gt=0)


class ComparedRound(Contract):
    """Two windows of one level, measured one after the other; which came first alternates."""

    concurrency: int
    round: int
    winner: Window
    baseline: Window

    @property
    def ratio(self) -> float:
        """Output tokens/s of the winner over the baseline's."""
        return self.winner.output_tokens_per_s / self.baseline.output_tokens_per_s


class LevelRatio(Contract):
    concurrency: int
    ratio: Estimate
    """Output tokens/s, winner over baseline: 95 % interval over the rounds' log ratios"""


class CompareReport(Contract):
    """What came of a comparison; written to compare.json in the request's folder."""

    contract: Literal[1] = CONTRACT_VERSION
    winner: str
    baseline: str
    rounds: tuple[ComparedRound, ...] = ()
    """In the order they were measured"""
    ratio: Estimate | None = None
    """Geometric mean over the levels, interval over the rounds; none if it failed"""
    levels: tuple[LevelRatio, ...] = ()
    failure: Failure | None = None
    seconds: float = 0
    warnings: tuple[str, ...] = ()

    def ratio_at(self, concurrency: int) -> Estimate:
        """Raises KeyError if that level was not measured."""
        return {level.concurrency: level.ratio for level in self.levels}[concurrency]

    @property
    def winner_values(self) -> tuple[float, ...]:
        """Output tokens/s round by round, the geometric mean over the levels of each."""
        return self._values("winner")

    @property
    def baseline_values(self) -> tuple[float, ...]:
        return self._values("baseline")

    def _values(self, side: Literal["winner", "baseline"]) -> tuple[float, ...]:
        by_round: dict[int, list[float]] = {}
        for compared in self.rounds:
            window: Window = getattr(compared, side)
            by_round.setdefault(compared.round, []).append(window.output_tokens_per_s)
        return tuple(geometric_mean(values) for _, values in sorted(by_round.items()))
