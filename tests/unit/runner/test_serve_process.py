"""An engine's process: waited for, diagnosed, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fakes.vllm_server import Behaviour, fake_vllm
from tests.unit.runner.engines import ENVIRONMENT, ROOT, engine, free_port, spawn_fake

from haqa_contract import EngineLaunch, FailureReason
from haqa_contract.failures import TrialFailure
from haqa_runner.serve.engine import EngineProcess


def wait_for(condition: Callable[[], bool], limit_s: float = 15) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[EngineProcess]:
    with engine(tmp_path) as process:
        yield process


def test_an_engine_is_described_once_it_serves(started: EngineProcess) -> None:
    report = started.report
    assert report.version == "0.0.fake"
    assert report.kv_cache_tokens == 1234
    assert report.args == started.launch.args
    assert 0 < report.startup_s < 30
    assert started.failure() is None


def test_the_log_is_kept(started: EngineProcess) -> None:
    assert "KV cache size" in (started.log_path).read_text()


def test_nothing_is_left_after_the_block(tmp_path: Path) -> None:
    noted = tmp_path / "child"
    with engine(tmp_path, "child", FAKE_CHILD=str(noted)) as process:
        pids = [process.report.pid, int(noted.read_text())]
        assert all(pid is not None and running(pid) for pid in pids)
    wait_for(lambda: not any(running(pid) for pid in pids if pid is not None))


def test_the_port_is_free_again_for_the_next_engine(tmp_path: Path) -> None:
    port = free_port()
    for number in range(2):
        with engine(tmp_path / str(number), port=port) as process:
            assert process.base_url == f"http://127.0.0.1:{port}"


def test_an_engine_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haqa_runner.serve.engine._STOP_S", 0.2)
    with engine(tmp_path, "stubborn") as process:
        pid = process.report.pid
    assert pid is not None
    assert not running(pid)


def test_an_engine_that_ends_while_it_starts_is_noticed_at_once_and_diagnosed(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(TrialFailure, match="does not know the argument --flux 9") as caught:
        engine(tmp_path, "die", timeout_s=300).start()
    assert caught.value.reason is FailureReason.ENGINE_LOAD_FAILED
    assert time.monotonic() - began < 20


def test_an_engine_that_is_killed_while_it_starts_ran_out_of_memory(tmp_path: Path) -> None:
    with pytest.raises(TrialFailure) as caught:
        engine(tmp_path, "killed").start()
    assert caught.value.reason is FailureReason.ENGINE_OOM


def test_an_engine_that_never_answers_times_out_with_the_last_line_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(TrialFailure, match="within 4 s; it was at: warming up") as caught:
        engine(tmp_path, "hang", timeout_s=4).start()
    assert caught.value.reason is FailureReason.TIMEOUT


def test_a_port_that_is_taken_is_noticed_before_anything_is_started(tmp_path: Path) -> None:
    with fake_vllm(Behaviour(model="tiny")) as other:
        port = int(other.base_url.rpartition(":")[2])
        with pytest.raises(TrialFailure, match=f"port {port} on 127.0.0.1 is taken by another process"):
            engine(tmp_path, port=port).start()
    assert not (tmp_path / "engine.log").exists()


def test_a_server_of_another_model_is_not_taken_for_ours(tmp_path: Path) -> None:
    with pytest.raises(TrialFailure, match="answered by a server of other, not of tiny"):
        engine(tmp_path, "other").start()


def test_an_engine_that_dies_later_says_why(started: EngineProcess) -> None:
    assert started.report.pid is not None
    os.kill(started.report.pid, signal.SIGKILL)
    failure = started.failure(wait_s=15)
    assert failure is not None
    assert failure.reason is FailureReason.ENGINE_OOM


def test_an_engine_that_died_behind_its_api_server_says_why(tmp_path: Path) -> None:
    with engine(tmp_path, "dead-core") as process:
        failure = process.failure(wait_s=0.2)
    assert failure is not None
    assert "no such kernel for this device: f " in failure.message


def test_an_engine_that_serves_on_has_no_failure(started: EngineProcess) -> None:
    assert started.failure(wait_s=0.2) is None


def test_an_address_for_all_interfaces_is_reached_through_the_loopback(tmp_path: Path) -> None:
    launch = EngineLaunch(args=(), served_model_name="tiny", host="0.0.0.0", port=8000)
    assert EngineProcess(launch, tmp_path, spawn_fake).base_url == "http://127.0.0.1:8000"


def test_progress_is_told_while_it_loads(tmp_path: Path) -> None:
    heard: list[tuple[str, float, str]] = []
    launch = engine(tmp_path).launch
    watched = EngineProcess(
        launch, tmp_path, spawn_fake, lambda phase, done, message="": heard.append((phase, done, message)), ENVIRONMENT
    )
    with watched:
        pass
    assert {phase for phase, _, _ in heard} == {"load"}
    assert heard[-1] == ("load", 1.0, "ready")


def test_an_engine_dies_with_whoever_started_it(tmp_path: Path) -> None:
    """Even with SIGKILL, and its children too."""
    noted = tmp_path / "child"
    program = f"""
        import os, signal
        from pathlib import Path
        from tests.unit.runner.engines import engine
        process = engine(Path({str(tmp_path)!r}), "child", FAKE_CHILD={str(noted)!r})
        print(process.start().pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    starter = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=ENVIRONMENT,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert starter.returncode == -signal.SIGKILL, starter.stderr
    pids = [int(starter.stdout), int(noted.read_text())]
    wait_for(lambda: not any(map(running, pids)))
