"""`haqa tune` with real engines, killed and starved: nothing is lost, measured twice or read half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.this_cpu import two_quantized_schemes

HAQA = Path(__file__).parents[2] / ".venv" / "bin" / "haqa"

pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="module")
def model(models: dict[str, Path]) -> Path:
    return models["tiny"]


def tuning_file(folder: Path, model: Path, **spec: object) -> Path:
    document = {
        "apiVersion": "haqa.dev/v1alpha1",
        "kind": "QuantizationTuning",
        "metadata": {"name": "faults"},
        "spec": {
            "model": {"uri": f"file://{model}"},
            "nodePools": [{"name": "here"}],
            "workload": {"inputTokens": 16, "outputTokens": 8, "concurrency": [2], "requestsPerLevel": 8, "repeats": 2},
            "search": {
                "strategy": "grid",
                "schemes": [scheme.value for scheme in two_quantized_schemes()],
                "algorithms": ["rtn"],
                "engineDefaults": False,
                "fixedEngine": {"enforce-eager": True},
            },
            "evaluation": {"samples": 2, "sequenceLength": 32},
            "budget": {"maxTrials": 2},
            "confirmation": {"rounds": 0},
            **spec,
        },
    }
    file = folder / "tuning.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Tunings that a test has started; none outlives it."""
    tunings: list[subprocess.Popen[str]] = []
    yield tunings
    for tuning in tunings:
        tuning.kill()
        tuning.wait(30)


def start(started: list[subprocess.Popen[str]], file: Path, out: Path) -> subprocess.Popen[str]:
    log = (out.parent / "tune.log").open("a")
    command = [str(HAQA), "tune", str(file), "--out", str(out), "--json"]
    started.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True))
    return started[-1]


def haqa(*words: str | Path) -> str:
    """What a command of HAQA's prints that has to succeed."""
    done = subprocess.run([HAQA, *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def entries(out: Path) -> list[dict[str, Any]]:
    """What the journal holds; the line that a killed writer left half is not one."""
    found = []
    for journal in out.glob("faults/here/*/journal.jsonl"):
        for line in journal.read_text().splitlines():
            try:
                found.append(json.loads(line.partition(" ")[2]))
            except ValueError:
                continue
    return found


def finished(out: Path) -> dict[int, dict[str, Any]]:
    return {entry["data"]["number"]: entry["data"] for entry in entries(out) if entry["kind"] == "finished"}


def trials(out: Path) -> set[int]:
    return {entry["data"]["number"] for entry in entries(out) if entry["kind"] == "proposed"}


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool], log: Path, limit_s: float = 600) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)


def processes_of(folder: Path) -> list[int]:
    """Processes whose command line names a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) in command and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


@pytest.mark.nightly
def test_a_tuning_killed_at_every_stage_measures_nothing_twice(
    started: list[subprocess.Popen[str]], model: Path, tmp_path: Path
) -> None:
    """While the baseline loads, when it has just been recorded, while an artifact is made or served, and at the end.

    And what is recorded can be read, while the tuning runs as well as after it was killed.
    """
    out, file = tmp_path / "results", tuning_file(tmp_path, model)
    log = tmp_path / "tune.log"

    def trial_folder(number: int, name: str) -> bool:
        return any(out.glob(f"faults/here/*/trials/faults-here-{number:03d}/{name}"))

    stages: list[Callable[[], bool]] = [
        lambda: trial_folder(0, "engine.log"),
        lambda: 0 in finished(out),
        lambda: trial_folder(1, "request.json"),
        lambda: trial_folder(1, "measure.log"),
        lambda: trial_folder(2, "engine.log"),
    ]
    measured: dict[int, dict[str, Any]] = {}
    for reached in stages:
        tuning = start(started, file, out)
        wait_for(tuning, reached, log)
        os.kill(tuning.pid, signal.SIGKILL)
        tuning.wait(timeout=30)
        for number, trial in measured.items():
            assert finished(out)[number] == trial
        measured = finished(out)
        wait_until_gone(out)
    counts = f"{len(trials(out))} trials recorded, {len(measured)} of them finished; go on with `haqa tune {file}`"
    assert counts in haqa("report", file, "--out", out)
    tuning = start(started, file, out)
    wait_for(tuning, lambda: 2 in trials(out), log)
    assert "still running or interrupted" in haqa("show", file, "0", "--out", out)
    assert tuning.wait(timeout=600) == 0, log.read_text()[-3000:]
    ends = [entry["data"]["number"] for entry in entries(out) if entry["kind"] == "finished"]
    assert ends == [0, 1, 2]
    assert {number: finished(out)[number] for number in measured} == measured
    assert all(trial["status"]["phase"] == "Succeeded" for trial in finished(out).values())
    assert not list(out.glob("faults/store/partial/*"))
    assert "interrupted" not in haqa("report", file, "--out", out)


def wait_until_gone(out: Path, limit_s: float = 30) -> None:
    """Steps and engines end with the tuning that started them."""
    deadline = time.monotonic() + limit_s
    while left := processes_of(out):
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB: room for the records of a tuning and for no model."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.fail(f"this test mounts a tmpfs and needs root: {mounted.stderr}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_a_sentence_and_leaves_no_half_artifact(
    started: list[subprocess.Popen[str]], model: Path, tmp_path: Path, small_disk: Path
) -> None:
    file = tuning_file(tmp_path, model, artifacts={"path": str(small_disk / "store")})
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(5 << 20))
    out = tmp_path / "results"
    tuning = start(started, file, out)
    tuning.wait(timeout=600)
    failure = finished(out)[1]["status"]["failure"]
    assert failure["reason"] == "QuantizationFailed"
    assert "space" in failure["message"], failure
    assert str(small_disk) in failure["message"]
    assert not list((small_disk / "store").glob("artifacts/*/*"))
    assert finished(out)[0]["status"]["phase"] == "Succeeded"
