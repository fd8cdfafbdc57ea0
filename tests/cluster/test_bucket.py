"""A tuning whose model and artifacts lie in a bucket: the runner's own steps in the pods, against a real S3 server.

Only llm-compressor, measuring and the engine are stubs (`stub/real_steps.py`).
"""

from __future__ import annotations

import base64
import json
import secrets
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.adapters import write_adapter
from tests.checkpoints import write_checkpoint
from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.operator_process import ROOT
from tests.cluster.s3_pod import REGION, S3Pod
from tests.cluster.service_client import complete
from tests.cluster.tunings import pool_of, tuning
from tests.cluster.workplace import Workplace, namespace, workplace

from haqa_contract import TrialReport

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]

BUCKET = "haqa"
STORE = f"s3://{BUCKET}/store"
MODEL = f"s3://{BUCKET}/models/tiny"
CONFIG = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 32,
    "max_position_embeddings": 4096,
    "dtype": "bfloat16",
}
SHAPES = {
    "model.embed_tokens.weight": (32, 128),
    "model.layers.0.self_attn.q_proj.weight": (128, 128),
    "model.layers.0.mlp.gate_proj.weight": (256, 128),
    "model.layers.0.mlp.down_proj.weight": (128, 256),
    "lm_head.weight": (32, 128),
}
"""Wide enough for groups of 128 weights."""
SECRET = "bucket"
VARIABLES = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}
PATHS = {"source": ROOT / "runner", "packages": Path(sysconfig.get_path("purelib"))}


@dataclass(frozen=True)
class Buckets:
    """The server, and what of it is used."""

    server: S3Pod

    def credentials(self, **wrong: str) -> Manifest:
        """The Secret of a tuning's namespace."""
        right = {"id": self.server.access_key, "key": self.server.secret_key}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "stringData": right | wrong}

    def settings(self) -> dict[str, str]:
        """Variables of the operator: how the runner reaches the server, and where its credentials are."""
        env = {"AWS_ENDPOINT_URL": self.server.url, "AWS_REGION": REGION, "PYTHONPATH": "/source:/packages"}
        given = [{"name": name, "secret": SECRET, "key": key} for name, key in VARIABLES.items()]
        return {
            "HAQA_RUNNER_COMMAND": json.dumps(["python3", "/stub/real_steps.py"]),
            "HAQA_RUNNER_ENV": json.dumps(env),
            "HAQA_RUNNER_SECRETS": json.dumps(given),
            "HAQA_NOT_STARTING_SECONDS": "3",
        }

    def fill(self, model: Path) -> None:
        client = self.server.client()
        client.create_bucket(Bucket=BUCKET)
        for file in model.iterdir():
            client.upload_file(str(file), BUCKET, f"models/tiny/{file.name}")

    def keys(self, prefix: str) -> list[str]:
        """Of the store, without its own prefix."""
        found = self.server.client().list_objects_v2(Bucket=BUCKET, Prefix=f"store/{prefix}")
        return [entry["Key"].removeprefix("store/") for entry in found.get("Contents", ())]

    def read(self, key: str) -> Any:
        return json.loads(self.server.client().get_object(Bucket=BUCKET, Key=f"store/{key}")["Body"].read())


@pytest.fixture(scope="module")
def buckets(cluster: Kubectl, s3_image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buckets]:
    with namespace(cluster) as api:
        server = S3Pod(api)
        server.start()
        found = Buckets(server)
        found.fill(write_checkpoint(tmp_path_factory.mktemp("tiny"), SHAPES, config=CONFIG))
        yield found
        server.stop()


@pytest.fixture(scope="module")
def place(
    cluster: Kubectl,
    definitions: None,
    python_image: None,
    buckets: Buckets,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Workplace]:
    with workplace(cluster, tmp_path_factory.mktemp("bucket"), buckets.settings(), folders=PATHS) as found:
        found.api.apply(buckets.credentials())
        yield found


def in_bucket(name: str, *schemes: str, pools: tuple[str, ...] = ("full",), **spec: Any) -> Manifest:
    search = {"strategy": "grid", "schemes": ["BF16", *schemes], "algorithms": ["rtn"], "engineDefaults": False}
    return tuning(name, pools, **{"model": {"uri": MODEL}, "artifacts": {"s3": STORE}, "search": search, **spec})


def quantizing(place: Workplace) -> list[str]:
    """The logs of all pods that make artifacts and have begun."""
    return [quantized_log(place, pod) for pod in making(place) if pod["status"].get("containerStatuses")]


def making(place: Workplace) -> list[Manifest]:
    return place.api.list("pod", "haqa.dev/component=artifact")


@pytest.fixture(scope="module")
def tuned(place: Workplace, buckets: Buckets) -> Manifest:
    """One tuning of two pools, which want the same artifact at the same time."""
    place.behaviour.told(hold=["quantize"])
    place.api.apply(in_bucket("demo", "W8A8-INT8", pools=("full", "avx2")))

    def one_makes_it_for_both() -> bool:
        waiting = [trial for trial in quantized_trials(place) if trial.get("status", {}).get("phase") == "Quantizing"]
        return len(waiting) == 2 and any("compressing" in log for log in quantizing(place))

    place.until(one_makes_it_for_both, "both pools to want the artifact")
    (lease,) = buckets.keys("leases/")
    assert buckets.keys("artifacts/") == []
    assert buckets.read(lease)["holder"].startswith("process ")
    place.behaviour.told()
    return place.in_phase("Succeeded")


def quantized_trials(place: Workplace) -> list[Manifest]:
    return [trial for trial in place.trials() if trial["spec"]["configuration"]["scheme"] != "BF16"]


def test_an_artifact_that_two_pools_want_at_once_is_made_once(
    place: Workplace, buckets: Buckets, tuned: Manifest
) -> None:
    assert sum("compressing" in log for log in quantizing(place)) == 1
    statuses = [trial["status"] for trial in quantized_trials(place)]
    assert sorted(status["artifactReused"] for status in statuses) == [False, True]
    (digest,) = {status["artifactDigest"] for status in statuses}
    published = buckets.read(f"artifacts/{digest}/manifest.json")
    assert published["manifest"]["key"]["scheme"] == "W8A8-INT8"
    assert {key.split("/")[1] for key in buckets.keys("artifacts/")} == {digest}
    assert buckets.keys("leases/") == []


def test_the_winner_fetches_its_artifact_by_digest_and_serves_it(
    place: Workplace, buckets: Buckets, tuned: Manifest
) -> None:
    assert pool_of(tuned, "full")["best"]["configuration"] == "W8A8-INT8/rtn"
    deployment = place.api.get("deployment", "demo-full")
    (digest,) = {trial["status"]["artifactDigest"] for trial in quantized_trials(place)}
    (fetching,) = deployment["spec"]["template"]["spec"]["initContainers"]
    assert fetching["command"][2:7] == ["fetch", "--store", STORE, "--digest", digest]
    assert deployment["status"]["availableReplicas"] == 1
    made_by = place.api.run("exec", "deployment/demo-full", "-c", "vllm", "--", "cat", "/haqa/model/made-by")
    makers = [pod["metadata"]["name"] for pod in making(place)]
    assert [made_by] == makers
    assert_answers(place, "demo-full")


def quantized_log(place: Workplace, pod: Manifest) -> str:
    return place.api.run("logs", pod["metadata"]["name"], "--container=quantize", "--ignore-errors")


def assert_answers(place: Workplace, service: str) -> None:
    asked = {"prompt_tokens": 4, "max_tokens": 8, "seconds": 0.1}
    answer = complete(place.api, place.api.get("service", service), **asked)
    assert answer["usage"]["completion_tokens"] == 8


def test_an_unquantized_winner_fetches_the_model_that_was_measured(place: Workplace, tuned: Manifest) -> None:
    assert pool_of(tuned, "avx2")["best"]["configuration"] == "BF16"
    deployment = place.api.get("deployment", "demo-avx2")
    (fetching,) = deployment["spec"]["template"]["spec"]["initContainers"]
    assert fetching["command"][2:6] == ["fetch", "--model", MODEL, "--digest"]
    assert deployment["status"]["availableReplicas"] == 1
    assert_answers(place, "demo-avx2")


def test_the_whole_report_of_every_trial_is_in_the_bucket(place: Workplace, buckets: Buckets, tuned: Manifest) -> None:
    for trial in place.trials():
        name, status = trial["metadata"]["name"], trial["status"]
        kept = TrialReport.model_validate(buckets.read(f"reports/{place.api.namespace}/demo/{name}/1.json"))
        assert kept.artifact is not None
        assert kept.artifact.digest == status["artifactDigest"]
        assert kept.load is not None
        read = [window.output_tokens_per_s for window in kept.load.windows if window.concurrency == 8]
        assert status["samples"]["throughput@8"] == pytest.approx(read, rel=1e-5)
        assert not status["warnings"]
    assert len(buckets.keys("reports/")) == len(place.trials())


def test_the_credentials_are_nowhere(place: Workplace, buckets: Buckets, tuned: Manifest) -> None:
    written = place.everything_written()
    assert "secretKeyRef" in written
    for value in (buckets.server.access_key, buckets.server.secret_key):
        assert value not in written
        assert base64.b64encode(value.encode()).decode() not in written


@pytest.fixture
def restored(place: Workplace, buckets: Buckets) -> Iterator[None]:
    """The right credentials, afterwards."""
    yield
    place.api.apply(buckets.credentials())


@pytest.mark.usefixtures("restored")
def test_a_winner_that_cannot_fetch_says_why(place: Workplace, buckets: Buckets, tuned: Manifest) -> None:
    place.api.apply(buckets.credentials(key=secrets.token_hex(20)))
    selector = place.api.get("deployment", "demo-full")["spec"]["selector"]["matchLabels"]
    serving = ",".join(f"{name}={value}" for name, value in selector.items())
    place.api.run("delete", "pods", f"--selector={serving}", "--force", "--grace-period=0")
    said = f"ModelFetch: spec.artifacts: artifact store {STORE}: access denied (SignatureDoesNotMatch)"

    def told(described: str) -> bool:
        return said in " ".join(described.split())

    place.until(
        lambda: told(place.api.run("describe", "pods", f"--selector={serving}")), "the new pod says what is wrong"
    )
    place.until(lambda: told(place.described()), "the tuning repeats it")


@pytest.fixture
def free(place: Workplace, restored: None) -> None:
    """Nodes without engines."""
    place.tidied()


@pytest.mark.usefixtures("free")
def test_a_published_checkpoint_and_an_adapter_are_measured_and_served(
    place: Workplace, buckets: Buckets, tmp_path: Path
) -> None:
    gptq = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False}
    theirs = write_checkpoint(tmp_path / "theirs", SHAPES, config=CONFIG | {"quantization_config": gptq})
    changed = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    adapter = write_adapter(tmp_path / "sql", {changed: (8, 128)})
    for folder, prefix in ((theirs, "models/theirs"), (adapter, "adapters/sql")):
        for file in folder.iterdir():
            buckets.server.client().upload_file(str(file), BUCKET, f"{prefix}/{file.name}")
    model = {
        "uri": MODEL,
        "variants": [{"label": "theirs", "uri": f"s3://{BUCKET}/models/theirs"}],
        "adapters": [{"name": "sql", "uri": f"s3://{BUCKET}/adapters/sql"}],
    }
    place.api.apply(in_bucket("published", model=model))
    found = place.in_phase("Succeeded", name="published")
    assert pool_of(found, "full")["best"]["configuration"] == "W4A16/published g128 (theirs)"
    (variant,) = found["status"]["model"]["variants"]
    assert (variant["format"], variant["scheme"]) == ("gptq 4 bit group 128", "W4A16")
    deployment = place.api.get("deployment", "published-full")
    names = [container["name"] for container in deployment["spec"]["template"]["spec"]["initContainers"]]
    assert names == ["fetch-model", "fetch-adapters"]
    assert deployment["status"]["availableReplicas"] == 1
    served = ("exec", "deployment/published-full", "-c", "vllm", "--", "cat")
    assert json.loads(place.api.run(*served, "/haqa/model/config.json"))["quantization_config"] == gptq
    assert json.loads(place.api.run(*served, "/adapters/sql/adapter_config.json"))["peft_type"] == "LORA"
    assert_answers(place, "published-full")


@pytest.mark.usefixtures("free")
def test_a_bucket_that_is_not_there_is_named_before_anything_is_measured(place: Workplace) -> None:
    place.api.apply(in_bucket("lost", artifacts={"s3": "s3://no-such-bucket/store"}))
    said = "spec.artifacts: artifact store s3://no-such-bucket/store does not exist (NoSuchBucket); check bucket"
    assert said in degraded(place, "lost")


@pytest.mark.usefixtures("free")
def test_a_wrong_key_is_named_before_anything_is_measured(place: Workplace, buckets: Buckets) -> None:
    place.api.apply(buckets.credentials(key=secrets.token_hex(20)))
    place.api.apply(in_bucket("denied"))
    said = f"spec.artifacts: artifact store {STORE}: access denied (SignatureDoesNotMatch); check AWS_ACCESS_KEY_ID"
    assert said in degraded(place, "denied")


@pytest.mark.usefixtures("free")
def test_a_secret_that_is_missing_is_named(place: Workplace) -> None:
    place.api.run("delete", "secret", SECRET)
    place.api.apply(in_bucket("keyless"))
    assert f'secret "{SECRET}" not found' in degraded(place, "keyless")
    assert "check the Secrets and volumes that the tuning and the installation (runner.secrets) name" in degraded(
        place, "keyless"
    )


def degraded(place: Workplace, name: str) -> str:
    """What the tuning says once it has given up; without a trial."""
    found = place.in_phase("Failed", name=name)
    assert place.trials(name) == []
    (message,) = [c["message"] for c in found["status"]["conditions"] if c["type"] == "Degraded"]
    assert message in " ".join(place.described(name).split())
    return str(message)


@pytest.mark.usefixtures("free")
def test_credentials_that_cease_to_work_end_a_trial_and_say_why(place: Workplace, buckets: Buckets) -> None:
    """While one trial measures: nothing of it is lost, and the next one does not get the artifact that they share."""
    write_checkpoint(place.folder / "models" / "model", SHAPES, config=CONFIG)
    search = {"strategy": "grid", "schemes": ["W4A16"], "algorithms": ["rtn"], "engineDefaults": False}
    search["engine"] = {"max-num-seqs": [64, 128]}
    manifest = {"mode": "Manifest"}
    place.behaviour.told(hold=["quantize"])
    place.api.apply(in_bucket("later", model={"uri": "pvc://models/model"}, search=search, output=manifest))
    place.until(lambda: any("compressing" in log for log in quantizing(place)), "it quantizes")
    place.behaviour.told(hold=["measure"])
    place.until(lambda: measures(place, "later"), "its trial measures")
    place.api.apply(buckets.credentials(key=secrets.token_hex(20)))
    place.behaviour.told()
    place.in_phase("Succeeded", name="later")
    (_, measured, failed) = place.trials("later")
    assert measured["status"]["phase"] == "Succeeded"
    failure = failed["status"]["failure"]
    said = f"spec.artifacts: artifact store {STORE}: access denied (SignatureDoesNotMatch); check AWS_ACCESS_KEY_ID"
    assert failure["reason"] == "ModelFetch"
    assert said in failure["message"]
    assert failed["status"]["attempts"] == 3
    described = place.api.run("describe", "quantizationtrial", failed["metadata"]["name"])
    assert said in " ".join(described.split())


def measures(place: Workplace, name: str) -> bool:
    """Whether a pod of the tuning has come to its step `measure`."""
    states = (
        status["state"]
        for pod in place.pods()
        if pod["metadata"]["labels"]["haqa.dev/tuning"] == name
        for status in pod["status"].get("containerStatuses", ())
        if status["name"] == "measure"
    )
    return any("running" in state for state in states)
