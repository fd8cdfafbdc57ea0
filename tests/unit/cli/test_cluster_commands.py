"""`kubectl haqa` against whole tunings in memory: what a person reads, and what their word changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from tests.fakes.faulty_api import Call
from tests.fakes.kinds import CONTROLLER_REVISION, DEPLOYMENT, DISRUPTION_BUDGET, SERVICE
from tests.fakes.simulated_cluster import NAMESPACE, reporting
from tests.unit.cluster.played_kserve import with_kserve
from tests.unit.cluster.tunings import ONE_POOL, Operated
from typer.testing import CliRunner

from haqa_contract import FailureReason
from haqa_operator.api.labels import RETUNE_ANNOTATION, ROLLBACK_ANNOTATION
from haqa_operator.api.manifests import Manifest
from haqa_operator.cli import app
from haqa_operator.cli.cluster import commands
from haqa_operator.cli.cluster.connection import Connection
from haqa_operator.cli.cluster.found import FoundTuning, find_tuning
from haqa_operator.cli.cluster.watching import watch
from haqa_operator.cluster.edges.api_server import (
    APPROVAL,
    CONFIG_MAP,
    INFERENCE_SERVICE,
    POD,
    TRIAL,
    TUNING,
    ApiError,
    ApiRefused,
    ApiUnavailable,
    UnknownKind,
)

Run = Callable[..., tuple[int, str]]


def searching(*schemes: str) -> dict[str, Any]:
    return {"strategy": "grid", "schemes": list(schemes), "algorithms": ["rtn"], "engineDefaults": False}


FIRST = {**ONE_POOL, "search": searching("BF16", "W4A16")}
BETTER = {**ONE_POOL, "search": searching("BF16", "W4A16", "W8A8-INT8")}


@pytest.fixture
def operated() -> Operated:
    return Operated()


@pytest.fixture
def run(operated: Operated, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command as it is typed; exit code and what it prints."""

    def connected(namespace: str | None, *_: object) -> Connection:
        return Connection(operated.api, namespace or NAMESPACE)

    monkeypatch.setattr(commands, "connect", connected)

    def typed(*words: str, answer: str | None = None) -> tuple[int, str]:
        result = CliRunner(env={"COLUMNS": "200"}).invoke(app, words, input=answer)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output

    return typed


@pytest.fixture
def served(operated: Operated) -> Operated:
    """A first answer serves."""
    operated.submit(**FIRST)
    operated.run()
    return operated


@pytest.fixture
def served_twice(served: Operated) -> Operated:
    """A second answer has taken the place of the first."""
    served.submit(**BETTER)
    served.run(until=lambda status: (status["pools"][0].get("answer") or {}).get("revision") == 2)
    served.run()
    return served


@pytest.fixture
def rolled_back(served: Operated) -> Operated:
    """The second answer was slower where it was deployed."""
    served.cluster.deployed["full"] = 0.5
    served.submit(**BETTER)
    served.run(until=lambda status: (status["pools"][0].get("answer") or {}).get("phase") == "RolledBack")
    served.run()
    return served


def notes_on(operated: Operated) -> dict[str, str]:
    found = operated.cluster.api.get(TUNING, "demo", NAMESPACE)
    assert found is not None
    return found["metadata"].get("annotations") or {}


def test_a_tuning_on_one_screen(operated: Operated, run: Run) -> None:
    operated.submit()
    operated.run()
    code, text = run("status", "demo")
    assert code == 0
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "demo Succeeded fine"
    assert "model pvc://models/model" in lines
    assert "pool full Succeeded" in lines
    assert any(line.startswith("best W8A8-INT8/rtn (demo-full-") and "1.60×" in line for line in lines)
    assert any(line.startswith("serves answer 1 (W8A8-INT8/rtn), Deployment demo-full") for line in lines)
    assert any(line.startswith("spent 2 of 5 trials") for line in lines)


def test_a_screen_says_what_it_does_and_may_still_cost(operated: Operated, run: Run) -> None:
    operated.submit(**ONE_POOL, budget={"maxTrials": 5, "maxGpuHours": 2, "trialTimeout": "5m"})
    operated.run(until=lambda status: status.get("trialsDone") == "1/2")
    code, text = run("status", "demo")
    assert code == 0
    assert "Running" in text
    assert "trial 1 (" in text
    assert "5 more trials of 5 min each; 2 accelerator-hours" in text.replace("1.99", "2")


def test_what_is_stuck_needs_a_person(rolled_back: Operated, run: Run) -> None:
    code, text = run("status", "demo")
    assert code == 1
    assert "needs a person" in text.splitlines()[0]
    assert "answer 2 was rolled back, and 1 serves" in " ".join(text.split())
    assert "serves answer 1" in " ".join(text.split())


def test_all_tunings_are_a_table(operated: Operated, run: Run) -> None:
    assert run("status") == (0, f"no tuning in namespace {NAMESPACE}; -A shows those of all namespaces\n")
    operated.submit(**ONE_POOL)
    operated.submit("other", **ONE_POOL)
    operated.run()
    operated.run(name="other")
    code, text = run("status")
    assert code == 0
    assert "demo" in text
    assert "other" in text
    assert run("status", "-A")[1].count(NAMESPACE) == 2


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_a_program_gets_the_status(served: Operated, run: Run, form: str) -> None:
    code, text = run("status", "demo", "-o", form)
    read = json.loads(text) if form == "json" else yaml.safe_load(text)
    assert code == 0
    assert read["status"] == served.status()
    listed = run("status", "-o", form)[1]
    assert (json.loads(listed) if form == "json" else yaml.safe_load(listed))["items"] == [read]


def test_trials_are_listed_with_their_figures(operated: Operated, run: Run) -> None:
    operated.submit()
    operated.run()
    code, text = run("trials", "demo", "--pool", "avx2")
    assert code == 0
    assert "Trials of pool avx2" in text
    assert "pool full" not in text
    found = json.loads(run("trials", "demo", "-o", "json")[1])["items"]
    assert {one["pool"] for one in found} == {"full", "avx2"}
    assert len(found) == 6


def test_a_trial_says_why_it_was_tried_and_what_came_of_it(operated: Operated, run: Run) -> None:
    operated.cluster.endings["full", "W8A8-INT8"] = [reporting(FailureReason.ENGINE_OOM)]
    operated.submit(**ONE_POOL)
    operated.run()
    trials = {one["spec"]["configuration"]["scheme"]: one for one in operated.cluster.api.list(TRIAL, NAMESPACE)}
    failed = trials["W8A8-INT8"]["metadata"]["name"]
    code, text = run("why", failed)
    assert code == 0
    assert "grid" in text
    assert "failed" in text
    assert "EngineOOM" in text or "memory" in text
    assert json.loads(run("why", failed, "-o", "json")[1])["status"]["failure"]["reason"] == "EngineOOM"


def test_a_window_that_confirms_says_so(operated: Operated, run: Run) -> None:
    operated.submit(**ONE_POOL, confirmation={"rounds": 3})
    operated.run()
    windows = [one for one in operated.cluster.api.list(TRIAL, NAMESPACE) if one["spec"]["proposer"] == "confirmation"]
    code, text = run("why", windows[0]["metadata"]["name"])
    assert code == 0
    assert "Round 1 of measuring" in text


def test_expected_and_measured_stand_side_by_side(operated: Operated, run: Run) -> None:
    operated.submit(**ONE_POOL)
    operated.run()
    best = operated.pool("full")["best"]["trial"]
    manifest = operated.cluster.api.get(TRIAL, best, NAMESPACE)
    assert manifest is not None
    expected = {"expectedPercent": 120, "expectedLowPercent": 100, "expectedHighPercent": 140, "feasibleChance": 0.9}
    operated.cluster.api.stand_in({**manifest, "spec": {**manifest["spec"], **expected}})
    text = " ".join(run("why", best)[1].split())
    assert "expected 120 % of the baseline's objective, 95 % interval 100 to 140 %" in text
    assert "reached 160 % of the baseline's objective, more than expected" in text


def test_the_report_is_the_same_page_as_on_one_machine(operated: Operated, run: Run, tmp_path: Path) -> None:
    operated.submit(confirmation={"rounds": 3})
    operated.run()
    page = tmp_path / "page.html"
    assert run("report", "demo", "--out", str(page)) == (0, f"report  {page}\n")
    text = page.read_text()
    assert "W8A8-INT8/rtn" in text
    assert "kind: Deployment" in text
    assert "plotly" in text
    found = json.loads(run("report", "demo", "--json")[1])
    assert [pool["decision"]["verdict"] for pool in found["pools"]] == ["Winner", "Winner"]
    assert found["pools"][0]["decision"]["confirmed"]


def test_the_report_of_an_answer_outlives_its_trials(served_twice: Operated, run: Run, tmp_path: Path) -> None:
    for trial in served_twice.cluster.api.list(TRIAL, NAMESPACE):
        served_twice.cluster.api.delete(TRIAL, trial["metadata"]["name"], NAMESPACE)
    found = json.loads(run("report", "demo", "--revision", "1", "--json")[1])
    assert found["pools"][0]["decision"]["winner"] == served_twice.records()[0]["data"]["trial"]
    page = tmp_path / "first.html"
    assert run("report", "demo", "--revision", "1", "--out", str(page))[0] == 0
    assert "W4A16/rtn" in page.read_text()
    code, text = run("report", "demo", "--revision", "7")
    assert code == 2
    assert "has no answer 7; on record are 1, 2" in text


def test_the_report_goes_with_its_answer(served: Operated) -> None:
    (record,) = served.records()
    name = f"{record['metadata']['name']}-report"
    assert served.cluster.api.get(CONFIG_MAP, name, NAMESPACE) is not None
    served.cluster.api.delete(CONTROLLER_REVISION, record["metadata"]["name"], NAMESPACE)
    assert served.cluster.api.get(CONFIG_MAP, name, NAMESPACE) is None


def test_an_answer_holds_without_its_report(operated: Operated, run: Run) -> None:
    def refused(call: Call) -> ApiError | None:
        return ApiRefused("configmaps is forbidden", 403) if call.kind == CONFIG_MAP and call.verb == "create" else None

    operated.api.faults.append(refused)
    operated.submit(**ONE_POOL)
    assert operated.run()["phase"] == "Succeeded"
    code, text = run("report", "demo", "--revision", "1")
    assert code == 2
    assert "was not kept" in text


def test_the_manifests_are_those_on_record(served: Operated, run: Run) -> None:
    code, text = run("manifest", "demo")
    assert code == 0
    (record,) = served.records()
    assert list(yaml.safe_load_all(text)) == record["data"]["manifests"]
    assert text.startswith("# Pool full, answer 1 (Serving)")
    assert json.loads(run("manifest", "demo", "-o", "json")[1])["items"] == record["data"]["manifests"]


def test_the_history_says_why_an_answer_was_taken_back(rolled_back: Operated, run: Run) -> None:
    code, text = run("history", "demo")
    assert code == 0
    assert "RolledBack" in text
    assert "Serving" in text
    first, second = json.loads(run("history", "demo", "-o", "json")[1])["items"]
    assert (first["revision"], first["phase"]) == (1, "Serving")
    assert (second["revision"], second["phase"], second["confirmed"]) == (2, "RolledBack", False)
    assert second["message"]


def test_a_winner_is_approved_in_the_name_of_whoever_types(operated: Operated, run: Run) -> None:
    operated.submit(**ONE_POOL, output={"approval": "Manual"})
    operated.run(until=lambda status: status["pools"][0]["phase"] == "AwaitingApproval")
    assert "pool full waits for an approval" in run("status", "demo")[1]
    code, text = run("approve", "demo", "--expires", "24h")
    assert code == 0
    (made,) = operated.cluster.api.list(APPROVAL, NAMESPACE)
    trial = operated.pool("full")["best"]["trial"]
    assert made["spec"].pop("expires") in text
    assert made["spec"] == {"tuning": "demo", "trial": trial, "approvedBy": "jane"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("approve", "demo"), "no pool of demo waits for an approval"),
        (("approve", "demo", "--trial", "demo-full-00"), "no trial 'demo-full-00'"),
        (("approve", "demo", "--expires", "soon"), "--expires: 'soon' is not a duration"),
        (("status", "demmo"), "did you mean demo?"),
        (("why", "nothing-like-it"), "there are demo-full-"),
        (("trials", "demo", "--pool", "ful"), "did you mean full?"),
        (("rollback", "demo"), "answer 1 of pool full has none before it"),
        (("rollback", "demo", "--revision", "3"), "has no answer 3; on record are 1"),
        (("retry", "demo"), "nothing of pool full was rolled back"),
        (("status", "demo", "-n", "elsewhere"), "in namespace elsewhere, where there is none at all"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(served: Operated, run: Run, words: tuple[str, ...], said: str) -> None:
    code, text = run(*words)
    assert code == 2
    assert said in " ".join(text.split())


def test_an_earlier_answer_serves_again(served_twice: Operated, run: Run) -> None:
    code, text = run("rollback", "demo")
    assert code == 0
    assert text.startswith("pool full goes to answer 1: W4A16/rtn")
    second = served_twice.records()[1]["metadata"]["name"]
    assert notes_on(served_twice)[ROLLBACK_ANNOTATION] == second
    served_twice.run(until=lambda status: status["pools"][0]["answer"].get("serving") == 1)
    assert "rejected" in run("history", "demo")[1]
    assert run("rollback", "demo", "--revision", "2")[0] == 0
    assert ROLLBACK_ANNOTATION not in notes_on(served_twice)
    served_twice.run(until=lambda status: status["pools"][0]["answer"].get("serving") == 2)


def test_what_a_person_rejected_is_tried_again(served_twice: Operated, run: Run) -> None:
    run("rollback", "demo")
    served_twice.run(until=lambda status: status["pools"][0]["answer"].get("serving") == 1)
    code, text = run("retry", "demo")
    assert code == 0
    assert "answer 2 of pool full" in text
    served_twice.run(until=lambda status: status["pools"][0]["answer"].get("serving") == 2)


def test_what_the_operator_rolled_back_is_tried_again(rolled_back: Operated, run: Run) -> None:
    del rolled_back.cluster.deployed["full"]
    code, text = run("retry", "demo", "--pool", "full")
    assert code == 0
    assert "is worked out and tried again" in text
    rolled_back.run(until=lambda status: (status["pools"][0].get("answer") or {}).get("serving") == 2)
    assert run("status", "demo")[0] == 0


def test_a_failed_trial_is_forgotten(operated: Operated, run: Run) -> None:
    operated.cluster.endings["full", "W8A8-INT8"] = [reporting(FailureReason.ENGINE_OOM)]
    operated.submit(**ONE_POOL)
    operated.run()
    trials = {one["spec"]["configuration"]["scheme"]: one for one in operated.cluster.api.list(TRIAL, NAMESPACE)}
    failed, good = (trials[scheme]["metadata"]["name"] for scheme in ("W8A8-INT8", "W4A16"))
    assert "has not failed, it is Succeeded" in run("retry", "demo", "--trial", good)[1]
    assert run("retry", "demo", "--trial", failed)[0] == 0
    assert operated.cluster.api.get(TRIAL, failed, NAMESPACE) is None


def test_everything_is_measured_anew(served: Operated, run: Run) -> None:
    assert run("retune", "demo")[0] == 0
    assert notes_on(served)[RETUNE_ANNOTATION].endswith("Z")
    served.run(until=lambda status: status["pools"][0]["phase"] == "Searching")


def test_a_tuning_is_suspended_and_goes_on(operated: Operated, run: Run) -> None:
    operated.submit(**ONE_POOL)
    operated.reconcile()
    assert run("suspend", "demo") == (0, "demo is suspended\n")
    assert run("suspend", "demo") == (0, "demo is suspended already\n")
    assert "spec.suspend is true" in run("status", "demo")[1]
    assert run("resume", "demo") == (0, "demo goes on\n")
    operated.run()


def test_what_is_left_behind_is_removed_once_somebody_agrees(served: Operated, run: Run) -> None:
    assert run("prune", "demo") == (0, "demo has left nothing behind\n")
    served.submit(**{**FIRST, "output": {"deployment": {"name": "chat"}}})
    served.run(until=lambda status: (status["pools"][0].get("answer") or {}).get("leftBehind") == ["demo-full"])
    assert "Deployment demo-full; `haqa prune demo` removes it" in " ".join(run("status", "demo")[1].split())

    def there() -> set[str]:
        kinds = (DEPLOYMENT, SERVICE, DISRUPTION_BUDGET)
        found = [one for kind in kinds for one in served.cluster.api.list(kind, NAMESPACE)]
        return {one["metadata"]["name"] for one in found}

    assert run("prune", "demo", answer="n\n")[0] == 1
    assert there() == {"chat", "demo-full"}
    code, text = run("prune", "demo", "--yes")
    assert code == 0
    assert "removed  Deployment demo-full" in text
    assert there() == {"chat"}


def test_another_target_leaves_the_old_one_behind_and_is_removed_too(served: Operated, run: Run) -> None:
    def left() -> list[str]:
        return list(served.pool("full")["answer"]["leftBehind"])

    served.submit(**{**FIRST, "output": {"target": "KServe", "deployment": {"name": "by-kserve"}}})
    with_kserve(served, lambda: left() == ["demo-full"])
    served.submit(**{**FIRST, "output": {"deployment": {"name": "again"}}})
    with_kserve(served, lambda: left() == ["demo-full", "InferenceService/by-kserve"])
    said = " ".join(run("status", "demo")[1].split())
    assert "Deployment demo-full, InferenceService by-kserve; `haqa prune demo` removes it" in said
    code, text = run("prune", "demo", "--yes")
    assert code == 0
    assert "removed  InferenceService by-kserve" in text
    assert served.cluster.api.list(INFERENCE_SERVICE, NAMESPACE) == []
    assert {one["metadata"]["name"] for one in served.cluster.api.list(DEPLOYMENT, NAMESPACE)} == {
        "again",
        "by-kserve-predictor",
    }, "KServe's own go with their owner"


def test_what_another_controller_has_made_is_not_left_behind(served: Operated, run: Run) -> None:
    found = served.cluster.api.get(DEPLOYMENT, "demo-full", NAMESPACE)
    assert found is not None
    owner = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "name": "demo-full"}
    metadata = {"name": "demo-full-predictor", "namespace": NAMESPACE, "labels": found["metadata"]["labels"]}
    owned = {**metadata, "ownerReferences": [{**owner, "uid": found["metadata"]["uid"]}]}
    served.cluster.api.stand_in({**found, "metadata": owned})
    served.reconcile()
    assert "leftBehind" not in served.pool("full")["answer"] or not served.pool("full")["answer"]["leftBehind"]
    assert run("prune", "demo", "--yes") == (0, "demo has left nothing behind\n")


def test_approving_takes_no_right_to_read_answers(operated: Operated, run: Run) -> None:
    operated.submit(**ONE_POOL, output={"approval": "Manual"})
    operated.run(until=lambda status: status["pools"][0]["phase"] == "AwaitingApproval")

    def refused(call: Call) -> ApiError | None:
        return ApiRefused("controllerrevisions is forbidden", 403) if call.kind == CONTROLLER_REVISION else None

    operated.api.faults.append(refused)
    assert run("approve", "demo")[0] == 0


def test_logs_of_each_container_are_told_apart(operated: Operated, run: Run) -> None:
    operated.submit(**ONE_POOL)
    operated.run()
    pod = next(
        one for one in operated.cluster.api.list(POD, NAMESPACE) if len(one["spec"].get("initContainers", ())) == 2
    )
    name, pod = pod["metadata"]["labels"]["haqa.dev/trial"], pod["metadata"]["name"]
    operated.cluster.api.logs[pod, "measure"] = "level 1\x1b[2J\n"
    code, text = run("logs", name)
    assert code == 0
    assert text == f"==> {pod}/measure <==\nlevel 1\N{REPLACEMENT CHARACTER}[2J\n"
    assert run("logs", name, "-c", "measure")[1].startswith("level 1")
    assert "has no container 'vlm'" in run("logs", name, "-c", "vlm")[1]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ApiRefused(
                'get QuantizationTuning demo: quantizationtunings.haqa.dev "demo" is forbidden: User "jane" cannot get '
                'resource "quantizationtunings" in API group "haqa.dev" in the namespace "team"',
                403,
            ),
            "you (jane) have no right to get quantizationtunings.haqa.dev in namespace team",
        ),
        (
            UnknownKind("get QuantizationTuning demo: the API server does not know"),
            "HAQA, or this part of it, is not installed",
        ),
    ],
)
def test_an_error_says_what_to_do(operated: Operated, run: Run, error: ApiError, said: str) -> None:
    operated.api.faults.append(lambda call: error)
    code, text = run("status", "demo")
    assert code == 2
    assert said in " ".join(text.split())


def test_without_a_cluster_a_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 2
    assert "error: no cluster: " in result.output


def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "team"}}
    users = [{"name": "u", "user": {"token": "t"}}]
    document: Manifest = {"clusters": [cluster], "contexts": [context], "users": users, "current-context": "x"}
    file.write_text(yaml.safe_dump(document))
    result = CliRunner().invoke(app, ["status", "--kubeconfig", str(file)])
    assert result.exit_code == 2
    assert "no cluster answers at http://127.0.0.1:9" in result.output
    wrong = CliRunner().invoke(app, ["status", "--kubeconfig", str(file), "--context", "y"])
    assert wrong.exit_code == 2
    assert "error: no cluster: " in wrong.output


def test_a_tuning_is_watched_until_it_is_over(operated: Operated, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    operated.submit(**FIRST)

    def time_passes(_: float) -> None:
        operated.reconcile()
        operated.cluster.step()

    monkeypatch.setattr("haqa_operator.cli.cluster.commands.watch", partial(watch, sleep=time_passes))
    code, printed = run("status", "demo", "--watch")
    assert code == 0
    assert "no operator has looked at it yet" in printed
    assert "Searching" in printed
    assert printed.rstrip().splitlines()[-1].startswith("spent")
    assert "Succeeded" in printed


def test_watching_takes_a_name(run: Run) -> None:
    code, printed = run("status", "--watch")
    assert code == 2
    assert "--watch: name the tuning" in printed


def test_watching_outlasts_an_api_server_that_is_away(served: Operated) -> None:
    found = find_tuning(Connection(served.api, NAMESPACE), "demo")
    answers: list[FoundTuning | ApiUnavailable] = [ApiUnavailable("away"), ApiUnavailable("away"), found]

    def look() -> FoundTuning:
        answer = answers.pop(0)
        if isinstance(answer, ApiUnavailable):
            raise answer
        return answer

    assert watch(look, Console(file=StringIO()), lambda _: None) is found
    answers = [ApiUnavailable("away")] * 3
    with pytest.raises(ApiUnavailable):
        watch(look, Console(file=StringIO()), lambda _: None, patience_s=6)
