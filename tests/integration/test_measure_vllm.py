"""Measuring a real engine: one vLLM on the CPU serves a tiny model to every test here."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from haqa_contract import (
    AccuracyGate,
    CompareReport,
    CompareRequest,
    Configuration,
    EngineLaunch,
    Evaluation,
    FailureReason,
    ModelSource,
    ServedEngine,
    TrialReport,
    TrialRequest,
    Workload,
)
from haqa_runner.serve.engine import EngineProcess
from haqa_runner.serve.launching import guarded

ROOT = Path(__file__).parents[2]
RUNNER_PYTHON = Path(os.environ.get("HAQA_RUNNER_PYTHON", ROOT / ".venvs" / "runner" / "bin" / "python"))
SERVING_PYTHON = Path(os.environ.get("HAQA_SERVING_PYTHON", ROOT / ".venvs" / "serving" / "bin" / "python"))
REFERENCE = ROOT / "tests" / "integration" / "transformers_reference.py"
NAME = "tiny"
LEVELS = (1, 4)
REPEATS = 2

pytestmark = pytest.mark.timeout(600)


def by_runner(*command: str, timeout_s: float = 300, code: int = 0) -> str:
    """Runs a program with the runner's Python; its output."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'runner'}", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [str(RUNNER_PYTHON), *command],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measure")
    by_runner(str(REFERENCE), "make", str(folder / "model"))
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[EngineProcess]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launch = EngineLaunch(
        args=(f"--model={folder / 'model'}", f"--served-model-name={NAME}", "--max-model-len=512", "--enforce-eager"),
        env={"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"},
        served_model_name=NAME,
        port=port,
        startup_timeout_s=300,
    )
    with EngineProcess(launch, folder, guarded(SERVING_PYTHON)) as engine:
        yield engine


def request(folder: Path, engine: EngineProcess, trial: str, **changes: Any) -> TrialRequest:
    """The folder of a trial with the shared model in it, and a request that measures it in seconds."""
    own = folder / trial
    own.mkdir()
    (own / "model").symlink_to(folder / "model")
    made = TrialRequest(
        **{
            "tuning": "t",
            "trial": trial,
            "pool": "p",
            "model": ModelSource(uri=(folder / "model").as_uri()),
            "configuration": Configuration(),
            "evaluation": Evaluation(samples=8, sequence_length=64),
            "workload": Workload(
                input_tokens=32, output_tokens=24, concurrency=LEVELS, requests_per_level=8, repeats=REPEATS
            ),
            "engine": engine.launch,
            "reference": str(folder / "reference.npz"),
            "store": str(folder),
            "directory": str(own),
            "cache": str(folder),
            **changes,
        }
    )
    (own / "request.json").write_text(made.model_dump_json())
    return made


def measure(asked: TrialRequest, code: int = 0) -> TrialReport:
    by_runner("-m", "haqa_runner", "measure", "--request", f"{asked.directory}/request.json", code=code)
    return TrialReport.model_validate_json((Path(asked.directory) / "measure.json").read_bytes())


@pytest.fixture(scope="module")
def baseline(folder: Path, engine: EngineProcess) -> TrialReport:
    evaluation = Evaluation(samples=8, sequence_length=64, tasks=("stdlib_cloze",), task_limit=8)
    return measure(request(folder, engine, "baseline", baseline=True, evaluation=evaluation))


@pytest.fixture(scope="module")
def judged(folder: Path, engine: EngineProcess) -> tuple[dict[str, float], TrialReport]:
    """transformers' figures for a disturbed baseline, and the report of the engine measured against it."""
    asked = request(folder, engine, "judged", reference=str(folder / "disturbed.npz"))
    by_runner(str(REFERENCE), "judge", f"{asked.directory}/request.json", str(folder / "figures.json"))
    return json.loads((folder / "figures.json").read_text()), measure(asked)


def test_the_engine_is_described_by_what_it_logged(engine: EngineProcess) -> None:
    assert engine.report.version
    assert engine.report.kv_cache_tokens is not None
    assert engine.report.kv_cache_tokens > 100_000
    assert any("dtype=torch.bfloat16" in note for note in engine.report.notes)


def test_every_part_of_a_trial_is_measured(baseline: TrialReport) -> None:
    assert baseline.failure is None
    assert baseline.accuracy is not None
    assert set(baseline.accuracy.metrics) == {
        "perplexity",
        "perplexityRatio",
        "klDivergence",
        "topTokenAgreement",
        "accuracy.stdlib_cloze",
    }
    assert baseline.accuracy.metrics["accuracy.stdlib_cloze"].n == 8
    assert {phase.name for phase in baseline.phases} == {"overhead", "sanity", "accuracy", "warmup", "load_test"}
    assert {"cpu", "cores", "guidellm", "lm-eval"} <= set(baseline.machine)


def test_the_load_generator_and_the_engine_count_the_same_tokens(baseline: TrialReport) -> None:
    assert baseline.load is not None
    windows = baseline.load.windows
    assert [(w.repeat, w.concurrency) for w in windows] == [(r, level) for r in range(REPEATS) for level in LEVELS]
    for window in windows:
        assert window.invalid is None
        assert window.disagreement < 0.1
        assert window.completed >= 8
        assert window.failed == 0
        assert window.output_tokens_per_s == pytest.approx(24 * window.requests_per_s, rel=0.15)
        assert window.total_tokens_per_s == pytest.approx(window.output_tokens_per_s * (32 + 24) / 24, rel=0.15)
        assert not window.saturated


def test_the_client_sees_what_the_engine_s_histograms_saw_and_what_lies_between_them(baseline: TrialReport) -> None:
    assert baseline.load is not None
    for window in baseline.load.windows:
        assert window.ttft_ms.p50 <= window.ttft_ms.p90 <= window.ttft_ms.p99
        assert window.e2e_ms.mean == pytest.approx(window.engine_mean_ms["e2e"], rel=0.3)
        assert window.ttft_ms.mean > 0.9 * window.engine_mean_ms["ttft"], "no token is seen before it is made"
        assert window.ttft_ms.mean + 23 * window.tpot_ms.mean == pytest.approx(window.e2e_ms.mean, rel=0.1)


def test_more_streams_give_more_tokens(baseline: TrialReport) -> None:
    assert baseline.load is not None
    rates = {
        level: [w.output_tokens_per_s for w in baseline.load.windows if w.concurrency == level] for level in LEVELS
    }
    assert min(rates[4]) > 1.3 * max(rates[1])


def test_the_same_engine_measured_again_is_as_accurate_as_the_baseline(
    folder: Path, engine: EngineProcess, baseline: TrialReport
) -> None:
    workload = Workload(input_tokens=16, output_tokens=8, concurrency=(1,), repeats=1)
    report = measure(request(folder, engine, "again", workload=workload))
    assert report.failure is None
    assert report.accuracy is not None
    metrics = report.accuracy.metrics
    assert metrics["klDivergence"].value < 1e-3
    assert metrics["topTokenAgreement"].value > 0.98
    assert metrics["perplexityRatio"].value == pytest.approx(1, abs=0.002)


def test_perplexity_is_what_transformers_computes(judged: tuple[dict[str, float], TrialReport]) -> None:
    expected, report = judged
    assert report.accuracy is not None
    measured = report.accuracy.metrics["perplexity"].value
    assert math.log(measured) == pytest.approx(math.log(expected["perplexity"]), abs=0.03)


def test_kl_divergence_is_a_close_lower_bound_of_what_transformers_computes(
    judged: tuple[dict[str, float], TrialReport],
) -> None:
    expected, report = judged
    assert report.accuracy is not None
    bound = report.accuracy.metrics["klDivergence"].value
    assert expected["klDivergence"] > 0.05, "the disturbance shows"
    assert 0.6 * expected["klDivergence"] < bound < 1.05 * expected["klDivergence"]
    agreement = report.accuracy.metrics["topTokenAgreement"].value
    assert agreement == pytest.approx(expected["topTokenAgreement"], abs=0.03)


def test_a_missed_gate_leaves_out_the_load_test(folder: Path, engine: EngineProcess) -> None:
    gates = (AccuracyGate(metric="perplexity", max=1.5),)
    report = measure(request(folder, engine, "gated", gates=gates, reference=None), code=3)
    assert report.failure is not None
    assert report.failure.reason is FailureReason.ACCURACY_GATE
    assert "above its limit 1.5" in report.failure.message
    assert report.load is None


def test_an_unknown_task_is_a_sentence(folder: Path, engine: EngineProcess) -> None:
    evaluation = Evaluation(samples=2, sequence_length=16, tasks=("no_such_task",))
    report = measure(request(folder, engine, "unknown", evaluation=evaluation, reference=None), code=3)
    assert report.failure is not None
    assert "'no_such_task', which lm-eval does not know" in report.failure.message


def test_an_engine_compared_with_itself_is_as_fast_as_itself(folder: Path, engine: EngineProcess) -> None:
    served = ServedEngine(name="t", base_url=engine.base_url, served_model_name=NAME, model=str(folder / "model"))
    workload = Workload(input_tokens=32, output_tokens=16, concurrency=(1, 4), requests_per_level=8)
    asked = CompareRequest(winner=served, baseline=served, workload=workload, rounds=3, directory=str(folder / "pair"))
    (folder / "compare.json").write_text(asked.model_dump_json())
    output = by_runner("-m", "haqa_runner", "compare", "--request", str(folder / "compare.json"))
    report = CompareReport.model_validate_json((folder / "pair" / "compare.json").read_bytes())
    assert 'HAQA {"phase":"compare"' in output
    assert report.failure is None
    assert report.ratio is not None
    assert report.ratio.low < 1.1
    assert report.ratio.high > 0.9
    assert {level.concurrency for level in report.levels} == {1, 4}


def test_an_engine_that_loses_its_worker_is_diagnosed(folder: Path, engine: EngineProcess) -> None:
    """The last test: it ends the engine."""
    worker = next(line for line in engine.log_text().splitlines() if line.startswith("(Worker pid="))
    os.kill(int(worker.partition("pid=")[2].partition(")")[0]), 9)
    report = measure(request(folder, engine, "orphaned", reference=None), code=3)
    assert report.failure is not None
    failure = engine.failure(wait_s=60)
    assert failure is not None
    assert failure.reason is FailureReason.ENGINE_OOM
