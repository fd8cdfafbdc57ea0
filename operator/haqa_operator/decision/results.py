"""What a tuning ends with: a verdict for every pool, and the evidence."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from haqa_contract import Estimate
from haqa_operator.api.base import ResourceModel
from haqa_operator.api.status import MeasuredWith
from haqa_operator.api.trial import Trial


class Verdict(StrEnum):
    WINNER = "Winner"
    """A configuration beats the baseline by more than the noise and meets every constraint"""
    BASELINE_BEST = "BaselineBest"
    """Nothing beats the model as it was given with the engine's defaults"""
    NOTHING_FEASIBLE = "NothingFeasible"
    """No trial meets the constraints; `binding` names the one that ruled out most"""
    NO_MEASUREMENT = "NoMeasurement"
    """No trial finished, or one was faster than the load generator, so that the fastest are not known"""


class Rejection(ResourceModel):
    trial: str
    reason: str


class Decision(ResourceModel):
    verdict: Verdict
    winner: str | None = None
    """Name of the winning trial; the baseline's, where that is best"""
    reason: str
    """One or two sentences a person can act on"""
    binding: str | None = None
    """The constraint that decided, where one did"""
    speedup: Estimate | None = None
    """Objective of the winner over the baseline's, turned so that above 1 is better"""
    confirmed: bool = False
    """The speed-up is from measuring winner and baseline alternately"""
    speedup_over: str | None = None
    """Name of the trial that it is over, where the baseline was not served"""
    pareto: tuple[str, ...] = ()
    """Names of the trials that no other beats in everything"""
    rejections: tuple[Rejection, ...] = ()


class Confirmation(ResourceModel):
    """Winner and baseline measured alternately, engines warm side by side."""

    winner: str
    baseline: str
    metric: str
    """Metric key of the objective"""
    ratio: Estimate
    """Winner over baseline, round by round; above 1 is better"""
    winner_values: tuple[float, ...] = ()
    baseline_values: tuple[float, ...] = ()
    seconds: float = 0


class Exclusion(ResourceModel):
    """Part of the search space that was not tried, and why."""

    parameters: dict[str, bool | int | float | str]
    """What the excluded configurations have in common, for example {scheme: FP8-DYNAMIC}"""
    reason: str
    configurations: int = 1
    """How many this rules out; 0 where that is not recorded"""
    trial: int | None = None
    """Number of the trial that has shown it; none where it was known before any of them"""


class PoolResult(ResourceModel):
    pool: str
    hardware: str
    measured_with: MeasuredWith | None = None
    """Workload, evaluation and calibration with the defaults for its hardware; none: as the tuning has them"""
    env: dict[str, str] = Field(default_factory=dict)
    stopped: str = ""
    """Why the search ended"""
    candidates: int = 0
    """Feasible configurations there were to try"""
    exclusions: tuple[Exclusion, ...] = ()
    expected: dict[str, float] = Field(default_factory=dict)
    """Name of a trial -> how many times as fast as the baseline its configuration was expected to be, by what was known
    before anything was measured"""
    trials: tuple[Trial, ...] = ()
    decision: Decision
    confirmation: Confirmation | None = None
    started: float | None = None
    finished: float | None = None
    machine_hours: float = 0
    agent_tokens: int = 0
    agent_note: str | None = None
    """For example that no agent was configured and which strategy took its place"""
