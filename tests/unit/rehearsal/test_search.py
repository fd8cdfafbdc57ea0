"""Whole searches on rehearsed GPUs, held against the best that there is."""

from __future__ import annotations

import json

import pytest
from tests.cluster.rehearsal.checkpoints import Checkpoint
from tests.cluster.rehearsal.devices import L40S
from tests.cluster.rehearsal.rig import CONFIG
from tests.cluster.rehearsal.tunings import POOLS, rehearsed
from tests.model_headers import facts
from tests.unit.rehearsal.tuning import RehearsedExecutor

from haqa_operator.api import Trial
from haqa_operator.api.tuning import QuantizationTuning
from haqa_operator.decision.goals import Goals
from haqa_operator.decision.results import Confirmation, PoolResult
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.hardware.catalogue import completed
from haqa_operator.search.factory import make_strategy
from haqa_operator.search.model_profile import ModelProfile
from haqa_operator.serving.settings import catalogue
from haqa_operator.tuning.executor import TrialProgress
from haqa_operator.tuning.loop import PoolRun
from haqa_operator.tuning.pool_setup import PoolSetup
from haqa_operator.tuning.record import TuningRecord

LENGTH = 8192
BEST_ON_L40S = 631.0
"""Output tokens/s of the best of 900 configurations of the space, tried at random: W4A16/gptq on two replicas."""
LEAST_SHARE = 0.95


class Forgetful:
    """Records nothing and shows nothing."""

    def read(self) -> TuningRecord:
        return TuningRecord()

    def started(self, time: float) -> None: ...
    def proposed(self, trial: Trial) -> None: ...
    def finished(self, trial: Trial) -> None: ...
    def confirmed(self, confirmation: Confirmation) -> None: ...
    def on_trials(self, pool: str, trials: tuple[Trial, ...]) -> None: ...
    def on_progress(self, pool: str, trial: Trial, progress: TrialProgress) -> None: ...
    def on_note(self, pool: str, note: str) -> None: ...


@pytest.fixture(scope="module")
def result(models: dict[str, Checkpoint]) -> PoolResult:
    l40s = Accelerator(Vendor.NVIDIA, "NVIDIA-L40S", count=4, memory_gib=45.0, compute_capability=(8, 9))
    spec = QuantizationTuning.model_validate(rehearsed("one", {"l40s": POOLS["l40s"]})).spec
    profile = ModelProfile(facts(json.loads(CONFIG.read_text())))
    setup = PoolSetup(spec, spec.node_pools[0], completed(l40s), profile, catalogue().version)
    goals = Goals(spec.objectives[0], tuple(spec.constraints))
    strategy = make_strategy(spec.search.strategy, spec.search.seed, goals, (), spec.search.patience)
    executor = RehearsedExecutor(L40S, setup.accelerator, spec, models, LENGTH)
    run = PoolRun(
        *("one", "l40s", spec, setup.space(), "", strategy, executor, Forgetful(), Forgetful(), {}),
        # As `haqa tune` on accelerators, which one engine fills.
        one_engine=True,
    )
    return run.run()


def test_eight_trials_come_close_to_the_best_of_thousands(result: PoolResult) -> None:
    winner = next(trial for trial in result.trials if trial.name == result.decision.winner)
    assert winner.status.metrics["throughput"].value > LEAST_SHARE * BEST_ON_L40S, winner.configuration.describe()


def test_it_is_confirmed_by_windows_of_one_engine_at_a_time(result: PoolResult) -> None:
    assert result.decision.confirmed
    assert result.decision.speedup is not None
    assert result.decision.speedup.low > 1
    assert len(result.trials) == 9, "windows are no trials of the search: eight, and the baseline"


def test_what_was_expected_of_each_trial_is_in_the_result(result: PoolResult) -> None:
    assert set(result.expected) == {trial.name for trial in result.trials if not trial.is_baseline}


def test_a_format_that_breaks_the_model_does_not_take_another_one_along(result: PoolResult) -> None:
    """GPTQ with INT8 activations misses the limit by far; GPTQ with 4-bit weights keeps it, and wins."""
    tried = {trial.configuration.describe().partition(",")[0]: trial for trial in result.trials}
    broken = tried["W8A8-INT8/gptq"].status.failure
    assert broken is not None
    assert broken.reason == "AccuracyGate"
    assert tried["W4A16/gptq"].succeeded
