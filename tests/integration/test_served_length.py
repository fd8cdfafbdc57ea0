"""Requests longer than the benchmark's, answered by real engines with the arguments of a winner's Deployment."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.builders import make_baseline, make_tuning

from haqa_contract import Configuration, EngineLaunch, Evaluation, LoadGate, ModelSource, TrialReport, TrialRequest
from haqa_operator.api import QuantizationTuning
from haqa_operator.api.status import FetchedModel
from haqa_operator.cluster.build.pool_manifests import PoolManifests
from haqa_operator.cluster.installation import Installation
from haqa_operator.hardware.this_machine import detect
from haqa_operator.search.model_profile import ModelProfile
from haqa_operator.serving.settings import catalogue
from haqa_operator.tuning.pool_setup import PoolSetup
from haqa_runner.models.facts import model_facts
from haqa_runner.serve.engine import EngineProcess
from haqa_runner.serve.launching import guarded

ROOT = Path(__file__).parents[2]
RUNNER_PYTHON = Path(os.environ.get("HAQA_RUNNER_PYTHON", ROOT / ".venvs" / "runner" / "bin" / "python"))
SERVING_PYTHON = Path(os.environ.get("HAQA_SERVING_PYTHON", ROOT / ".venvs" / "serving" / "bin" / "python"))
POSITIONS = 2048
"""Longest sequence of the model."""
CUT = "documents were cut from the left"
TO_BEAT = LoadGate(metric="throughput", min=1e9, deviation=0.03, because="trial 3 has 1e+09 tokens/s")

pytestmark = pytest.mark.timeout(900)


def by_runner(*command: str) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'runner'}", "HF_HUB_OFFLINE": "1"}
    argv = [str(RUNNER_PYTHON), *command]
    done = subprocess.run(argv, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "model"
    by_runner(str(ROOT / "tests" / "tiny_model.py"), str(folder))
    return folder


def tuning(**serving: int) -> QuantizationTuning:
    """A benchmark of short requests."""
    made = make_tuning("long").on_pool("here").workload(inputTokens=32, outputTokens=16, concurrency=[1], repeats=2)
    made = made.workload(requestsPerLevel=4).search(fixedEngine={"enforce-eager": True})
    return made.having(serving=serving, evaluation={"samples": 2, "sequenceLength": 64}, artifacts={"pvc": "x"}).obj()


def deployed_arguments(asked: QuantizationTuning, model: Path) -> list[str]:
    """Of the Deployment that would serve the baseline as the winner."""
    spec, pool = asked.spec, asked.spec.node_pools[0]
    accelerator = detect(dict(os.environ), pool.hardware)
    setup = PoolSetup(spec, pool, accelerator, ModelProfile(model_facts(model, "file:///model")), catalogue().version)
    space = setup.space()
    assert space.baseline_problem is None
    installation = Installation(runner_image="runner")
    known = FetchedModel(digest="files-1", path="/store/models/tiny")
    manifests = PoolManifests(
        "team", asked.metadata.name, spec, pool, accelerator, installation, setup.max_model_len, known
    )
    deployment, *_ = manifests.winner(make_baseline().of(space.baseline).obj())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return [text for text in container["args"] if not text.startswith(("--model=", "--host=", "--port="))]


@contextmanager
def served(asked: QuantizationTuning, model: Path, folder: Path) -> Iterator[EngineProcess]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launch = EngineLaunch(
        args=(f"--model={model}", *deployed_arguments(asked, model)),
        env={"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"},
        served_model_name=asked.metadata.name,
        port=port,
        startup_timeout_s=600,
    )
    folder.mkdir()
    with EngineProcess(launch, folder, guarded(SERVING_PYTHON)) as engine:
        yield engine


def asked_for(engine: EngineProcess, tokens: int, answer: int) -> httpx.Response:
    body = {
        "model": engine.launch.served_model_name,
        "prompt": [100] * tokens,
        "max_tokens": answer,
        "ignore_eos": True,
    }
    return httpx.post(f"{engine.base_url}/v1/completions", json=body, timeout=120, trust_env=False)


def measured(
    asked: QuantizationTuning, engine: EngineProcess, model: Path, folder: Path, *gates: LoadGate
) -> TrialReport:
    """The engine measured as in a trial, an lm-eval task included."""
    folder.mkdir()
    (folder / "model").symlink_to(model)
    evaluation = Evaluation(**{**dict(asked.spec.evaluation), "tasks": ("stdlib_cloze",), "task_limit": 8})
    request = TrialRequest(
        tuning=asked.metadata.name,
        trial="t",
        pool="here",
        model=ModelSource(uri=model.as_uri()),
        configuration=Configuration(),
        evaluation=evaluation,
        workload=asked.spec.workload,
        engine=engine.launch,
        load_gates=gates,
        store=str(folder),
        directory=str(folder),
        cache=str(folder),
    )
    (folder / "request.json").write_text(request.model_dump_json())
    by_runner("-m", "haqa_runner", "measure", "--request", str(folder / "request.json"))
    return TrialReport.model_validate_json((folder / "measure.json").read_bytes())


def usage(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == httpx.codes.OK, response.text
    found: dict[str, Any] = response.json()["usage"]
    return found


def test_by_default_a_request_of_the_model_s_own_limit_is_answered_and_no_prompt_of_a_task_is_cut(
    model: Path, tmp_path: Path
) -> None:
    asked = tuning()
    with served(asked, model, tmp_path / "engine") as engine:
        used = usage(asked_for(engine, POSITIONS - 64, 64))
        assert (used["prompt_tokens"], used["completion_tokens"]) == (POSITIONS - 64, 64)
        report = measured(asked, engine, model, tmp_path / "trial")
    assert report.max_model_len == POSITIONS
    assert not [warning for warning in report.warnings if CUT in warning]


def test_a_length_in_the_spec_is_what_is_served_and_what_a_task_loses_by_it_is_said(
    model: Path, tmp_path: Path
) -> None:
    asked = tuning(maxModelLen=100)
    with served(asked, model, tmp_path / "engine") as engine:
        assert usage(asked_for(engine, 92, 8))["total_tokens"] == 100
        refused = asked_for(engine, 101, 8)
        assert refused.status_code == httpx.codes.BAD_REQUEST
        report = measured(asked, engine, model, tmp_path / "trial", TO_BEAT)
    assert report.max_model_len == 100
    assert report.accuracy is not None
    assert report.accuracy.metrics["accuracy.stdlib_cloze"].n == 8
    (warning,) = [warning for warning in report.warnings if CUT in warning]
    assert warning.startswith("evaluation.tasks stdlib_cloze: prompts of ")
    assert f" of 8 {CUT}" in warning
    assert "the engine's max-model-len is 100" in warning
    # An engine that cannot win is looked at and no more.
    assert report.load is not None
    assert [(window.look, window.completed) for window in report.load.windows] == [(True, 1)]
    assert str(report.load.ended_early).endswith("out of reach: trial 3 has 1e+09 tokens/s")
