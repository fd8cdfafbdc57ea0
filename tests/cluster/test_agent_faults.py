"""An LLM that is down, wrong or talkative never stops a tuning, and its key is seen by nobody but its server."""

from __future__ import annotations

import base64
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.tunings import tuning
from tests.cluster.workplace import Workplace, workplace
from tests.fakes import llm_server
from tests.fakes.llm_server import MODEL, LLMServer, repeats_the_key

pytestmark = pytest.mark.timeout(600)

KEY = "sk-haqa-4f1d9c0b7e3a"
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "llm"},
    "stringData": {"token": KEY},
}


@pytest.fixture(scope="module")
def place(
    cluster: Kubectl, definitions: None, python_image: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    with workplace(cluster, tmp_path_factory.mktemp("agent")) as found:
        found.api.apply(SECRET)
        yield found


@pytest.fixture(autouse=True)
def tidy(place: Workplace) -> Iterator[None]:
    yield
    place.tidied()


def asking(url: str, trials: int) -> Manifest:
    agent = {
        "model": f"openai/{MODEL}",
        "apiBase": url,
        "secretRef": {"name": "llm", "key": "token"},
        "timeout": "20s",
        "retries": 0,
    }
    search = {
        "strategy": "agent",
        "schemes": ["BF16", "W8A8-INT8", "W4A16"],
        "algorithms": ["rtn"],
        "engineDefaults": False,
        "engine": {"max-num-seqs": [64, 128]},
        "agent": agent,
    }
    budget = {"maxTrials": trials, "trialTimeout": "5m"}
    return tuning(pools=("full",), search=search, budget=budget, output={"mode": "Manifest"})


def proposers(place: Workplace) -> list[str]:
    return [trial["spec"]["proposer"] for trial in place.trials()]


@contextmanager
def serving(port: int) -> Iterator[None]:
    """The LLM as a process, whose end also ends the connections that are kept open."""
    command = [sys.executable, llm_server.__file__, "--port", str(port), "--api-key", KEY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert b"serving" in process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def test_a_tuning_goes_on_without_its_llm_and_asks_again_when_it_is_back(place: Workplace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with serving(port):
        place.behaviour.told(misbehaviours={f"max-num-seqs={size}": {"measure": "wait"} for size in (64, 128)})
        place.api.apply(asking(f"http://127.0.0.1:{port}/v1", trials=3))
        place.at_step("Evaluating", 1)
    # Down: the second choice has to be somebody else's.
    place.behaviour.told()
    place.until(lambda: len(place.trials()) == 3, "the next choice")
    with serving(port):
        place.in_phase("Succeeded")
    assert proposers(place) == ["baseline", "agent", "bayesian", "agent"]
    assert "no reply" in place.trials()[2]["spec"]["note"]
    written = place.everything_written()
    assert KEY not in written
    assert base64.b64encode(KEY.encode()).decode() not in written


def test_a_server_that_repeats_the_key_in_its_errors_does_not_spread_it(place: Workplace) -> None:
    with LLMServer(script=[repeats_the_key(401)] * 8, api_key=KEY) as server:
        place.api.apply(asking(server.url, trials=1))
        place.in_phase("Succeeded")
        assert any(KEY in request.headers.get("authorization", "") for request in server.requests)
    assert proposers(place) == ["baseline", "bayesian"]
    assert "401" in place.trials()[1]["spec"]["note"] or "Incorrect API key" in place.trials()[1]["spec"]["note"]
    assert KEY not in place.everything_written()


def test_a_secret_that_is_missing_is_named_and_does_not_stop_the_tuning(place: Workplace) -> None:
    manifest = asking("http://127.0.0.1:9/v1", trials=1)
    manifest["spec"]["search"]["agent"]["secretRef"] = {"name": "no-such-secret", "key": "token"}
    place.api.apply(manifest)
    place.in_phase("Succeeded")
    assert proposers(place) == ["baseline", "bayesian"]
    assert "no-such-secret" in place.trials()[1]["spec"].get("note", "") + place.described()
