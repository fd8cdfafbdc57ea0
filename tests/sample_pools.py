"""Trials that turn out as a test says: the times, intervals and failures around a few given numbers."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from haqa_contract import Configuration, Estimate, Failure, FailureReason
from haqa_contract.statistics import estimate, geometric_estimate
from haqa_operator.api import Proposal, Proposer, QuantizationTuning, Trial, TrialPhase, TrialStatus
from haqa_operator.api.trial import Exchange
from haqa_operator.decision.choose import decide
from haqa_operator.decision.results import Confirmation, Exclusion, PoolResult, Verdict
from haqa_operator.hardware.accelerators import Accelerator, Vendor

STARTED = 1_795_420_800.0
"""Unix seconds of the first trial of every sample."""

CPU = Accelerator(
    vendor=Vendor.CPU, product="Intel Xeon Platinum 8581C", memory_gib=24, cores=2, isa="avx512_bf16", bandwidth_gb_s=40
)
L40S = Accelerator(
    vendor=Vendor.NVIDIA, product="NVIDIA-L40S", memory_gib=48, compute_capability=(8, 9), bandwidth_gb_s=864
)

_PHASES = {"load": 21.0, "sanity": 1.2, "accuracy": 9.5, "warmup": 6.0, "load_test": 38.0}


@dataclass(frozen=True)
class Sample:
    """One trial as it is going to turn out.

    Attributes:
        throughput: Output tokens/s at each level of the workload.
        perplexity: Over the baseline's.
    """

    configuration: Configuration
    throughput: tuple[float, ...] = ()
    perplexity: float = 1.0
    size_mib: float = 410
    proposer: Proposer = Proposer.BAYESIAN
    reasoning: str = ""
    note: str | None = None
    failure: Failure | None = None
    quantize_s: float = 0
    exchanges: tuple[Exchange, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass
class PoolSample:
    """A pool's trials, one after the other from `STARTED` on."""

    tuning: QuantizationTuning
    pool: str
    accelerator: Accelerator = CPU
    samples: list[Sample] = field(default_factory=list)
    noise: float = 0.01
    seed: int = 0
    exclusions: tuple[Exclusion, ...] = ()
    candidates: int = 24
    stopped: str = "budget.maxTrials 12 is used up"
    agent_note: str | None = None
    confirmed: bool = True

    def result(self) -> PoolResult:
        rng = random.Random(self.seed)
        now = STARTED
        trials = []
        for number, sample in enumerate(self.samples):
            trial = self._trial(number, sample, now, rng)
            trials.append(trial)
            now = (trial.status.finished or now) + 1.5
        spec = self.tuning.spec
        decision = decide(trials, spec.objectives, spec.constraints, spec.search.min_improvement_percent)
        confirmation = None
        if self.confirmed and decision.verdict is Verdict.WINNER:
            confirmation = self._confirmation(trials, decision.winner or "", rng)
            decision = decide(
                trials, spec.objectives, spec.constraints, spec.search.min_improvement_percent, confirmation
            )
            now += confirmation.seconds
        pool = next(pool for pool in spec.node_pools if pool.name == self.pool)
        return PoolResult(
            pool=self.pool,
            hardware=self.accelerator.describe(),
            env=pool.env,
            stopped=self.stopped,
            candidates=self.candidates,
            exclusions=self.exclusions,
            trials=tuple(trials),
            decision=decision,
            confirmation=confirmation,
            started=STARTED,
            finished=now,
            machine_hours=sum(trial.status.machine_hours for trial in trials),
            agent_tokens=sum(e.prompt_tokens + e.completion_tokens for s in self.samples for e in s.exchanges),
            agent_note=self.agent_note,
        )

    def _trial(self, number: int, sample: Sample, started: float, rng: random.Random) -> Trial:
        metrics: dict[str, Estimate] = {}
        samples: dict[str, tuple[float, ...]] = {}
        phases = {"fetch": 0.4, **({"quantize": sample.quantize_s, "publish": 0.9} if sample.quantize_s else {})}
        reached = _reached(sample.failure)
        phases |= {name: seconds * rng.uniform(0.9, 1.1) for name, seconds in _PHASES.items() if name in reached}
        if "accuracy" in reached:
            metrics |= _accuracy(sample)
        if sample.throughput and "load_test" in reached:
            metrics |= self._speed(sample, rng, samples)
        if "load" in reached:
            metrics["artifactBytes"] = _exact(sample.size_mib * 2**20)
        took = sum(phases.values()) + rng.uniform(1.5, 3)
        status = TrialStatus(
            phase=TrialPhase.FAILED if sample.failure else TrialPhase.SUCCEEDED,
            started=started,
            finished=started + took,
            metrics=metrics,
            samples=samples,
            source="engine-metrics" if samples else None,
            failure=sample.failure,
            artifact_digest=f"sha256:{rng.getrandbits(64):016x}" if sample.configuration.quantized else None,
            phase_seconds=phases,
            machine_hours=took / 3600,
            warnings=sample.warnings,
            machine={"cpu": self.accelerator.product, "kernel": "6.1.0", "torch": "2.13.0"},
            engine_version="0.32.0",
        )
        proposer = Proposer.BASELINE if number == 0 else sample.proposer
        proposal = Proposal(
            configuration=sample.configuration,
            proposer=proposer,
            reasoning=sample.reasoning,
            exchanges=sample.exchanges,
            note=sample.note,
        )
        name = f"{self.tuning.metadata.name}-{self.pool}-{number:03d}"
        return Trial(
            name=name,
            tuning=self.tuning.metadata.name,
            pool=self.pool,
            number=number,
            proposal=proposal,
            status=status,
        )

    def _speed(self, sample: Sample, rng: random.Random, samples: dict[str, tuple[float, ...]]) -> dict[str, Estimate]:
        metrics: dict[str, Estimate] = {}
        levels = self.tuning.spec.workload.concurrency
        by_level = {}
        for level, rate in zip(levels, sample.throughput, strict=True):
            repeats = [rate * math.exp(rng.gauss(0, self.noise)) for _ in range(3)]
            by_level[level] = repeats
            samples[f"throughput@{level}"] = tuple(repeats)
            metrics[f"throughput@{level}"] = geometric_estimate(repeats)
            itl = 1000 * level / rate
            for metric, mean in (("itl", itl), ("tpot", itl), ("ttft", itl * 4), ("e2e", itl * 132)):
                values = [mean * math.exp(rng.gauss(0, self.noise)) for _ in range(3)]
                for name, factor in (("", 1), (".p50", 0.97), (".p90", 1.12), (".p95", 1.2), (".p99", 1.5)):
                    scaled = [value * factor for value in values]
                    metrics[f"{metric}{name}@{level}"] = estimate(scaled)
                    metrics[f"{metric}{name}"] = estimate(scaled)
        overall = [math.prod(by_level[level][i] for level in levels) ** (1 / len(levels)) for i in range(3)]
        samples["throughput"] = tuple(overall)
        metrics["throughput"] = geometric_estimate(overall)
        return metrics

    def _confirmation(self, trials: list[Trial], winner: str, rng: random.Random) -> Confirmation:
        key = str(self.tuning.spec.objectives[0].key)
        own = next(trial for trial in trials if trial.name == winner).status.metrics[key].value
        reference = trials[0].status.metrics[key].value
        mine = [own * math.exp(rng.gauss(0, self.noise)) for _ in range(5)]
        theirs = [reference * math.exp(rng.gauss(0, self.noise)) for _ in range(5)]
        maximize = self.tuning.spec.objectives[0].maximize
        ratios = [a / b if maximize else b / a for a, b in zip(mine, theirs, strict=True)]
        return Confirmation(
            winner=winner,
            baseline=trials[0].name,
            metric=key,
            ratio=geometric_estimate(ratios),
            winner_values=tuple(mine),
            baseline_values=tuple(theirs),
            seconds=95,
        )


def _reached(failure: Failure | None) -> tuple[str, ...]:
    """The phases that a trial came through before it failed."""
    match failure.reason if failure else None:
        case None:
            return tuple(_PHASES)
        case FailureReason.ACCURACY_GATE:
            return ("load", "sanity", "accuracy")
        case FailureReason.QUANTIZATION_FAILED | FailureReason.QUANTIZATION_OOM:
            return ()
        case FailureReason.ENGINE_LOAD_FAILED | FailureReason.ENGINE_OOM:
            return ("load",)
        case _:
            return ("load", "sanity", "accuracy", "warmup")


def _accuracy(sample: Sample) -> dict[str, Estimate]:
    loss = math.log(sample.perplexity)
    perplexity = 12.26 * sample.perplexity
    metrics = {"perplexity": Estimate(value=perplexity, low=perplexity * 0.94, high=perplexity * 1.06, n=32)}
    if sample.configuration.quantized:
        ratio = Estimate(
            value=sample.perplexity,
            low=math.exp(loss * 0.86 - 0.0004),
            high=math.exp(loss * 1.14 + 0.0004),
            n=32,
        )
        metrics["perplexityRatio"] = ratio
        divergence = 0.6 * abs(loss) + 0.001
        metrics["klDivergence"] = Estimate(value=divergence, low=divergence * 0.9, high=divergence * 1.1, n=32)
        agreement = 1 - 1.5 * abs(loss)
        metrics["topTokenAgreement"] = Estimate(value=agreement, low=agreement - 0.01, high=agreement + 0.005, n=32)
    return metrics


def _exact(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value, n=1)
