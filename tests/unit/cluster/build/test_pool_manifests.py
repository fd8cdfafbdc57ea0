"""A winner's pod finds what was measured: mounted from a claim, or fetched by its digest."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.cluster.build.pool_pods import DIGEST, INSTALLATION, hub, quantized
from tests.unit.tuning.pool_states import BASELINE, INT8, trial

from haqa_contract import Algorithm, Configuration, Scheme
from haqa_operator.api import NodePool, Trial, TuningSpec
from haqa_operator.api.labels import REQUEST_ANNOTATION
from haqa_operator.api.status import FetchedAdapter, FetchedModel, FetchedVariant
from haqa_operator.cluster.build.pool_manifests import CannotDeploy, PoolManifests
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.serving.model_length import MaxModelLen
from haqa_operator.serving.volumes import CLAIM_MOUNT

CPU = Accelerator(vendor=Vendor.CPU, product="a CPU", memory_gib=24, cores=2)
POOL = NodePool.model_validate({"name": "cpu", "nodeSelector": {"pool": "cpu"}})


def winner(won: Trial, facts: FetchedModel | None, **spec: Any) -> dict[str, Any]:
    given = {"model": {"uri": "hf://org/name"}, "nodePools": [{"name": "cpu"}], "artifacts": {"s3": "s3://b/haqa"}}
    pods = PoolManifests("team", "demo", TuningSpec.model_validate(given | spec), POOL, CPU, INSTALLATION, model=facts)
    deployment, *_ = pods.winner(won)
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return found


def words(pod: dict[str, Any]) -> list[str]:
    (fetching,) = pod["initContainers"]
    command: list[str] = fetching["command"]
    assert fetching["name"] == "fetch-model"
    return command


def test_every_attempt_at_a_trial_has_a_place_for_its_report() -> None:
    spec = {"model": {"uri": "hf://org/name"}, "nodePools": [{"name": "cpu"}], "artifacts": {"pvc": "artifacts"}}
    pods = PoolManifests("team", "demo", TuningSpec.model_validate(spec), POOL, CPU, INSTALLATION)
    trial = quantized()
    job = pods.trial_job(trial, (), 2, {})
    request = json.loads(job["spec"]["template"]["metadata"]["annotations"][REQUEST_ANNOTATION])
    assert request["report"] == f"/store/reports/team/demo/{trial.name}/2.json"


@pytest.mark.parametrize(("length", "written"), [("auto", ["auto"]), (16384, ["16384"]), (None, [])])
def test_a_winner_takes_the_requests_that_its_trial_took(length: MaxModelLen, written: list[str]) -> None:
    spec = {"model": {"uri": "hf://org/name"}, "nodePools": [{"name": "cpu"}], "artifacts": {"pvc": "artifacts"}}
    pods = PoolManifests("team", "demo", TuningSpec.model_validate(spec), POOL, CPU, INSTALLATION, length, hub())
    job, (deployment, *_) = pods.trial_job(quantized(), (), 1, {}), pods.winner(quantized())
    (served,) = deployment["spec"]["template"]["spec"]["containers"]
    measured = json.loads(job["spec"]["template"]["metadata"]["annotations"][REQUEST_ANNOTATION])["engine"]["args"]
    assert lengths(measured) == lengths(served["args"]) == written


def lengths(args: list[str]) -> list[str]:
    return [text.partition("=")[2] for text in args if text.startswith("--max-model-len")]


def test_an_artifact_in_a_bucket_is_fetched_by_its_digest() -> None:
    pod = winner(quantized(), hub())
    assert words(pod)[:4] == ["python3", "-m", "haqa_runner", "fetch"]
    assert words(pod)[4:8] == ["--store", "s3://b/haqa", "--digest", DIGEST]
    (fetching,) = pod["initContainers"]
    env = {entry["name"]: entry for entry in fetching["env"]}
    assert env["AWS_ENDPOINT_URL"]["value"] == "https://s3.example"
    assert env["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"] == {"name": "bucket", "key": "key"}


def test_an_artifact_in_a_claim_is_mounted() -> None:
    pod = winner(quantized(), hub(), artifacts={"pvc": "artifacts"})
    assert "initContainers" not in pod
    (mount,) = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "model"]
    assert mount["subPath"] == f"artifacts/{DIGEST}/model"


def test_a_hub_model_is_pinned_to_the_commit_that_was_measured() -> None:
    given = {"uri": "hf://org/name", "revision": "main", "tokenSecretRef": {"name": "hub"}}
    pod = winner(trial(0, BASELINE, 100), hub(), model=given)
    command = words(pod)
    assert command[command.index("--revision") + 1] == "abc"
    assert command[command.index("--digest") + 1] == "commit-abc"
    assert command[command.index("--token-env") + 1] == "HF_TOKEN"
    assert "--trust-remote-code" not in command


@pytest.mark.parametrize("name", ["PYTHONPATH", "LD_PRELOAD", "AWS_ENDPOINT_URL"])
def test_a_secret_of_the_tuning_becomes_no_variable_but_the_token(name: str) -> None:
    given = {"uri": "hf://org/name", "tokenSecretRef": {"name": "hub", "env": name}}
    pod = winner(trial(0, BASELINE, 100), hub(), model=given)
    secrets = {one["name"]: one["valueFrom"] for one in pod["initContainers"][0]["env"] if "valueFrom" in one}
    assert secrets["HF_TOKEN"]["secretKeyRef"]["name"] == "hub"
    assert "hub" not in [found["secretKeyRef"]["name"] for variable, found in secrets.items() if variable != "HF_TOKEN"]
    command = words(pod)
    assert command[command.index("--token-env") + 1] == "HF_TOKEN"


def test_a_model_of_a_bucket_is_checked_against_what_was_measured() -> None:
    pod = winner(trial(0, BASELINE, 100), hub("etags-1"), model={"uri": "s3://models/demo"})
    command = words(pod)
    assert command[command.index("--model") + 1] == "s3://models/demo"
    assert command[command.index("--digest") + 1] == "etags-1"
    assert "--revision" not in command


def test_an_unknown_artifact_is_not_served() -> None:
    with pytest.raises(CannotDeploy, match="does not say which artifact it served"):
        winner(trial(1, INT8, 150), hub())


THEIRS = FetchedVariant(
    label="theirs", variant="theirs@def", digest="commit-def", path="/store/cache/hub/y", weight_bytes=1
)


def published(variant: str = THEIRS.variant) -> Trial:
    return trial(1, Configuration(scheme=Scheme.NVFP4, algorithm=Algorithm.PUBLISHED, variant=variant), 150)


def naming_theirs(uri: str = "hf://nvidia/name-NVFP4") -> dict[str, Any]:
    return {"model": {"uri": "hf://org/name", "variants": [{"label": "theirs", "uri": uri, "revision": "main"}]}}


def test_a_published_checkpoint_is_fetched_at_the_commit_that_was_measured() -> None:
    known = hub().model_copy(update={"variants": (THEIRS,)})
    command = words(winner(published(), known, **naming_theirs()))
    assert command[command.index("--model") + 1] == "hf://nvidia/name-NVFP4"
    assert command[command.index("--digest") + 1] == "commit-def"
    assert command[command.index("--revision") + 1] == "def"


def test_a_published_checkpoint_in_the_models_claim_is_mounted_from_there() -> None:
    lies = THEIRS.model_copy(update={"path": f"{CLAIM_MOUNT}/nvfp4", "digest": "sha256-def"})
    known = FetchedModel(digest="sha256-abc", path=f"{CLAIM_MOUNT}/base", variants=(lies,))
    model = {"uri": "pvc://weights/base", "variants": [{"label": "theirs", "uri": "pvc://weights/nvfp4"}]}
    pod = winner(published(), known, model=model)
    assert {"claimName": "weights", "readOnly": True} in [v.get("persistentVolumeClaim") for v in pod["volumes"]]
    (engine,) = pod["containers"]
    assert any(mount.get("subPath") == "nvfp4" for mount in engine["volumeMounts"])


def test_a_published_checkpoint_that_is_not_named_any_more_is_not_served() -> None:
    with pytest.raises(CannotDeploy, match=r"spec\.model\.variants has no theirs@def any more"):
        winner(published(), hub().model_copy(update={"variants": (THEIRS,)}))


def test_only_the_variant_that_a_trial_serves_is_in_its_request() -> None:
    given = naming_theirs() | {"nodePools": [{"name": "cpu"}], "artifacts": {"pvc": "artifacts"}}
    pods = PoolManifests("team", "demo", TuningSpec.model_validate(given), POOL, CPU, INSTALLATION)
    for one, labels in ((published(), ["theirs"]), (quantized(), [])):
        job = pods.trial_job(one, (), 1, {})
        request = json.loads(job["spec"]["template"]["metadata"]["annotations"][REQUEST_ANNOTATION])
        assert [variant["label"] for variant in request["variants"]] == labels
    look = pods.model_job(1, {})["spec"]["template"]["metadata"]["annotations"][REQUEST_ANNOTATION]
    assert [variant["source"]["uri"] for variant in json.loads(look)["variants"]] == ["hf://nvidia/name-NVFP4"]


SQL = FetchedAdapter(name="sql", digest="commit-abc", rank=16, targets=("q_proj",))


def with_adapter(uri: str = "hf://org/sql-lora", adapter: FetchedAdapter = SQL) -> PoolManifests:
    model = {"uri": "hf://org/name", "adapters": [{"name": "sql", "uri": uri}]}
    spec = {"model": model, "nodePools": [{"name": "cpu"}], "artifacts": {"pvc": "artifacts"}}
    known = hub().model_copy(update={"adapters": (adapter,)})
    return PoolManifests("team", "demo", TuningSpec.model_validate(spec), POOL, CPU, INSTALLATION, model=known)


def mounts_of(container: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [mount for mount in container["volumeMounts"] if mount["name"] == name]


def test_a_trials_adapters_are_written_by_quantize_and_read_by_the_engine() -> None:
    job = with_adapter().trial_job(quantized(), (), 1, {})
    pod = job["spec"]["template"]["spec"]
    request = json.loads(job["spec"]["template"]["metadata"]["annotations"][REQUEST_ANNOTATION])
    assert request["adapters_directory"] == "/adapters"
    assert [(one["name"], one["digest"]) for one in request["adapters"]] == [("sql", "commit-abc")]
    quantize, engine = pod["initContainers"]
    assert mounts_of(quantize, "adapters") == [{"name": "adapters", "mountPath": "/adapters", "readOnly": False}]
    assert mounts_of(engine, "adapters") == [{"name": "adapters", "mountPath": "/adapters", "readOnly": True}]
    assert "sql=/adapters/sql" in engine["args"]
    assert {"name": "adapters", "emptyDir": {}} in pod["volumes"]


def test_a_winners_adapters_are_fetched_at_the_commit_that_was_measured() -> None:
    deployment, *_ = with_adapter().winner(quantized())
    pod = deployment["spec"]["template"]["spec"]
    (fetching,) = pod["initContainers"]
    assert fetching["name"] == "fetch-adapters"
    words = fetching["command"]
    place = words.index("--adapter")
    assert words[place + 1 : place + 4] == ["sql", "hf://org/sql-lora@abc", "commit-abc"]
    assert mounts_of(fetching, "adapters")[0]["readOnly"] is False
    assert "sql=/adapters/sql" in pod["containers"][0]["args"]


def test_an_adapter_in_a_claim_is_read_from_there() -> None:
    local = SQL.model_copy(update={"digest": "sha256-abc"})
    deployment, *_ = with_adapter("pvc://weights/sql", local).winner(quantized())
    pod = deployment["spec"]["template"]["spec"]
    claim = {"name": "models", "persistentVolumeClaim": {"claimName": "weights", "readOnly": True}}
    assert claim in pod["volumes"]
    (fetching,) = pod["initContainers"]
    assert mounts_of(fetching, "models") == [{"name": "models", "mountPath": CLAIM_MOUNT, "readOnly": True}]
    assert fetching["command"][-2:] == ["--mount", CLAIM_MOUNT]


def test_a_model_named_at_a_revision_is_fetched_at_the_commit_that_was_measured() -> None:
    command = words(winner(trial(1, BASELINE, 150), hub(), model={"uri": "hf://org/name@v1"}))
    assert command[command.index("--model") + 1] == "hf://org/name"
    assert command[command.index("--revision") + 1] == "abc"


def test_trials_ask_for_the_commits_that_were_looked_at() -> None:
    given = naming_theirs("hf://nvidia/name@v2") | {"nodePools": [{"name": "cpu"}], "artifacts": {"pvc": "artifacts"}}
    given["model"]["variants"][0].pop("revision")
    known = hub().model_copy(update={"variants": (THEIRS,), "adapters": (SQL,)})
    given["model"]["adapters"] = [{"name": "sql", "uri": "hf://org/sql-lora"}]
    pods = PoolManifests("team", "demo", TuningSpec.model_validate(given), POOL, CPU, INSTALLATION, model=known)
    job = pods.trial_job(published(), (), 1, {})
    request = json.loads(job["spec"]["template"]["metadata"]["annotations"][REQUEST_ANNOTATION])
    sources = [request["model"], request["variants"][0]["source"], request["adapters"][0]["source"]]
    assert [(source["uri"], source["revision"]) for source in sources] == [
        ("hf://org/name", "abc"),
        ("hf://nvidia/name", "def"),
        ("hf://org/sql-lora", "abc"),
    ]
