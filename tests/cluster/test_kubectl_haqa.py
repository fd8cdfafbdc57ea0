"""`kubectl haqa` against a real API server: what a person reads of a tuning, and what their word changes."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.cluster.kubectl import Kubectl
from tests.cluster.plugin import Plugin
from tests.cluster.tunings import tuning
from tests.cluster.workplace import Workplace, workplace

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]

SEARCH = {"strategy": "grid", "schemes": ["BF16", "W8A8-INT8"], "algorithms": ["rtn"], "engineDefaults": False}


@pytest.fixture(scope="module")
def place(
    cluster: Kubectl, definitions: None, python_image: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    with workplace(cluster, tmp_path_factory.mktemp("kubectl-haqa")) as found:
        yield found


@pytest.fixture(scope="module")
def haqa(place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Plugin:
    return Plugin(place.api, tmp_path_factory.mktemp("plugin"))


@pytest.fixture(scope="module")
def approved(place: Workplace, haqa: Plugin) -> str:
    """A tuning whose winner serves since somebody typed the command of the pool's message; its name."""
    place.api.apply(tuning("chat", pools=("full",), search=SEARCH, output={"approval": "Manual"}))
    place.until(lambda: "AwaitingApproval" in place.described("chat"), "the winner waits")
    assert "pool full waits for an approval" in haqa.says("status", "chat")
    (pool,) = place.tuning("chat")["status"]["pools"]
    command = shlex.split(pool["message"].partition("To deploy it: ")[2])
    assert command[:3] == ["kubectl", "haqa", "approve"]
    print(haqa.says(*command[2:], "--expires", "24h"))
    place.in_phase("Succeeded", name="chat")
    return "chat"


def test_one_screen_says_how_it_is(haqa: Plugin, approved: str) -> None:
    text = haqa.says("status", approved)
    print(text)
    assert text.startswith("chat  Succeeded  fine")
    assert "serves     answer 1 (W8A8-INT8/rtn), Deployment chat-full" in text
    table = haqa.says("status")
    print(table)
    assert "chat" in table
    assert json.loads(haqa.says("status", approved, "-o", "json"))["status"]["phase"] == "Succeeded"


def test_what_was_found_and_why(place: Workplace, haqa: Plugin, approved: str, tmp_path: Path) -> None:
    winner = place.tuning(approved)["status"]["pools"][0]["best"]["trial"]
    for words in (("trials", approved), ("why", winner), ("history", approved)):
        print(f"$ kubectl haqa {' '.join(words)}\n{haqa.says(*words)}")
    (answer,) = json.loads(haqa.says("history", approved, "-o", "json"))["items"]
    assert (
        answer["approvedBy"]
        == json.loads(place.api.run("auth", "whoami", "-o", "json"))["status"]["userInfo"]["username"]
    )
    kinds = {one["kind"] for one in yaml.safe_load_all(haqa.says("manifest", approved))}
    assert {"Deployment", "Service"} <= kinds
    assert "==> " in haqa.says("logs", winner)
    page, kept = tmp_path / "page.html", tmp_path / "kept.html"
    haqa.says("report", approved, "--out", str(page))
    haqa.says("report", approved, "--revision", "1", "--out", str(kept))
    assert "W8A8-INT8/rtn" in page.read_text()
    assert "W8A8-INT8/rtn" in kept.read_text()


def test_a_persons_word_changes_the_tuning(place: Workplace, haqa: Plugin, approved: str) -> None:
    assert haqa.says("suspend", approved) == "chat is suspended\n"
    assert place.tuning(approved)["spec"]["suspend"] is True
    assert haqa.says("resume", approved) == "chat goes on\n"
    assert haqa.says("prune", approved) == "chat has left nothing behind\n"
    code, text = haqa.run("rollback", approved)
    assert code == 2
    assert "answer 1 of pool full has none before it" in text
    haqa.says("retune", approved)
    assert place.tuning(approved)["metadata"]["annotations"]["haqa.dev/retune"]


def test_whoever_has_no_right_is_told_which(place: Workplace, haqa: Plugin) -> None:
    kubeconfig = yaml.safe_load(place.api.kubeconfig.read_text())
    for user in kubeconfig["users"]:
        user["user"] = {"token": place.api.run("create", "token", "default").strip()}
    file = haqa.folder / "default.kubeconfig"
    file.write_text(yaml.safe_dump(kubeconfig))
    code, text = Plugin(Kubectl(place.api.program, file, place.api.namespace), haqa.folder).run("status", "chat")
    print(text)
    assert code == 2
    assert f"{place.api.namespace}:default) have no right to get quantizationtunings.haqa.dev in namespace" in text
