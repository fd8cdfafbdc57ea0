"""An LLM that is down, wrong or talkative never stops a tuning, and its key is seen by nobody but its server."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.test_operator import tuning
from tests.cluster.workplace import Workplace, workplace
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
        "engine": {"max-num-seqs": [64, 128]},
        "agent": agent,
    }
    budget = {"maxTrials": trials, "trialTimeout": "5m"}
    return tuning(pools=("full",), search=search, budget=budget, output={"mode": "Manifest"})


def proposers(place: Workplace) -> list[str]:
    return [trial["spec"]["proposer"] for trial in place.trials()]


def everything_written(place: Workplace) -> str:
    """All that the operator left where somebody may read it."""
    kinds = "quantizationtunings,quantizationtrials,jobs,pods,deployments,services,configmaps,events"
    described = place.described() + place.api.run("describe", "quantizationtrials")
    logs = [
        place.api.run("logs", pod["metadata"]["name"], "--all-containers", "--ignore-errors") for pod in place.pods()
    ]
    return "\n".join([place.api.run("get", kinds, "-o", "yaml"), described, place.operator.log.read_text(), *logs])


def test_a_tuning_goes_on_without_its_llm_and_asks_again_when_it_is_back(place: Workplace) -> None:
    with LLMServer(api_key=KEY) as server:
        url, port = server.url, int(server.url.split(":")[2].split("/")[0])
        place.behaviour.told(**{f"max-num-seqs={size}": {"measure": "wait"} for size in (64, 128)})
        place.api.apply(asking(url, trials=3))
        place.at_step("Evaluating", 1)
        assert server.requests
    # Down: the second choice has to be somebody else's.
    place.behaviour.told()
    place.until(lambda: len(place.trials()) == 3, "the next choice")
    with LLMServer(api_key=KEY, port=port):
        place.in_phase("Succeeded")
    assert proposers(place) == ["baseline", "agent", "bayesian", "agent"]
    alone = place.trials()[2]["spec"]
    assert "no reply" in alone["note"]
    assert KEY not in everything_written(place)
    assert base64.b64encode(KEY.encode()).decode() not in everything_written(place)


def test_a_server_that_repeats_the_key_in_its_errors_does_not_spread_it(place: Workplace) -> None:
    with LLMServer(script=[repeats_the_key(401)] * 8, api_key=KEY) as server:
        place.api.apply(asking(server.url, trials=1))
        place.in_phase("Succeeded")
        assert any(KEY in request.headers.get("authorization", "") for request in server.requests)
    assert proposers(place) == ["baseline", "bayesian"]
    assert "401" in place.trials()[1]["spec"]["note"] or "Incorrect API key" in place.trials()[1]["spec"]["note"]
    assert KEY not in everything_written(place)


def test_a_secret_that_is_missing_is_named_and_does_not_stop_the_tuning(place: Workplace) -> None:
    manifest = asking("http://127.0.0.1:9/v1", trials=1)
    manifest["spec"]["search"]["agent"]["secretRef"] = {"name": "no-such-secret", "key": "token"}
    place.api.apply(manifest)
    place.in_phase("Succeeded")
    assert proposers(place) == ["baseline", "bayesian"]
    assert "no-such-secret" in place.trials()[1]["spec"].get("note", "") + place.described()
