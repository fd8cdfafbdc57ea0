"""A trial's Job: what it measures is what is deployed, it tells no secret, and nothing in it is privileged."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.builders import make_tuning
from tests.unit.cluster.observe.pods import CLAIM, CPU, make_request, make_trial_pod
from tests.unit.serving.kubernetes_fields import assert_fits

from haqa_contract import Configuration, Evaluation, TrialRequest, Workload
from haqa_contract.termination import TERMINATION_LOG_VARIABLE
from haqa_operator.api.labels import REQUEST_ANNOTATION
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.pools import Toleration
from haqa_operator.api.tuning import Artifacts
from haqa_operator.cluster.build.trial_job import (
    build_model_job,
    build_trial_job,
    fetch_request,
    hub_secrets,
    trial_places,
    trial_volume,
)
from haqa_operator.cluster.names import job_name, label
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.serving.deployment import Provenance, build_deployment
from haqa_operator.serving.images import engine_image
from haqa_operator.serving.launch import engine_launch
from haqa_operator.serving.pod import EnginePod, pod_spec
from haqa_operator.serving.volumes import (
    MODEL_MOUNT,
    AdaptersVolume,
    ExtraVolume,
    Fetching,
    LinkedVolume,
    ModelVolume,
    SecretVariable,
    artifact_volume,
    served_volume,
)

L40S = Accelerator(vendor=Vendor.NVIDIA, product="NVIDIA-L40S", count=2, memory_gib=48, compute_capability=(8, 9))
MI300X = Accelerator(vendor=Vendor.AMD, product="MI300X", memory_gib=192)
BUCKET = Artifacts(s3="s3://models/haqa/")
TOKEN = SecretVariable("HF_TOKEN", "hub", "token")


def pod_of(job: Manifest) -> dict[str, Any]:
    spec: dict[str, Any] = job["spec"]["template"]["spec"]
    return spec


def containers_of(job: Manifest) -> dict[str, dict[str, Any]]:
    spec = pod_of(job)
    return {entry["name"]: entry for entry in [*spec.get("initContainers", []), *spec["containers"]]}


def mounts_of(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {mount["mountPath"]: mount for mount in container["volumeMounts"]}


ENGINES = [
    (CPU, Configuration()),
    (CPU, Configuration.of("W8A8-INT8", "smoothquant-gptq", max_num_seqs=64, VLLM_CPU_OMP_THREADS_BIND="0-1|$(X)")),
    (L40S, Configuration.of("FP8-DYNAMIC", "rtn", kv_cache_dtype="fp8", compilation_config='{"level": "$(HOME)"}')),
    (L40S, Configuration.of("W4A16", "gptq", 128, pipeline_parallel_size=2)),
    (MI300X, Configuration.of("BF16", "none", enforce_eager=True)),
]


@pytest.mark.parametrize(("accelerator", "configuration"), ENGINES)
@pytest.mark.parametrize(
    "served",
    [
        artifact_volume("artifacts", "3fa1"),
        served_volume("/store/cache/hub/snapshots/1", store="artifacts"),
        LinkedVolume(fetching=Fetching("example/runner", ("fetch",))),
    ],
    ids=["artifact", "model", "fetched"],
)
def test_winner_runs_exactly_what_its_trial_measured(
    accelerator: Accelerator, configuration: Configuration, served: ModelVolume
) -> None:
    launch = engine_launch(
        configuration, accelerator, model_path=MODEL_MOUNT, served_model_name="demo", pool_env={"A": "$(B)"}
    )
    extra = (ExtraVolume("vllm", "/opt/vllm", {"hostPath": {"path": "/opt/vllm"}}),)
    winner = EnginePod(launch, accelerator, engine_image(accelerator), served, secrets=(TOKEN,), extra=extra)
    trial = make_trial_pod(engine=replace(winner, model=trial_volume(CLAIM, None)))
    measured = containers_of(build_trial_job(trial))["vllm"]
    deployment = build_deployment(winner, Provenance("t", "t-0", "here", configuration), name="t-here")
    (deployed,) = deployment["spec"]["template"]["spec"]["containers"]
    for field in ("image", "command", "args", "env", "resources", "ports", "startupProbe", "securityContext"):
        assert measured[field] == deployed[field]
    where_the_model_is = {"/haqa", "/store", MODEL_MOUNT}
    others = [{k: m for k, m in mounts_of(c).items() if k not in where_the_model_is} for c in (measured, deployed)]
    assert others[0] == others[1]
    assert f"--model={MODEL_MOUNT}" in measured["args"]


def test_order_is_quantize_then_the_engine_as_a_sidecar_then_measure() -> None:
    spec = pod_of(build_trial_job(make_trial_pod()))
    assert [entry["name"] for entry in spec["initContainers"]] == ["quantize", "vllm"]
    assert [entry["name"] for entry in spec["containers"]] == ["measure"]
    assert [entry.get("restartPolicy") for entry in spec["initContainers"]] == [None, "Always"]
    assert spec["restartPolicy"] == "Never"


def test_disruption_is_ignored_and_every_failure_is_final() -> None:
    spec = build_trial_job(make_trial_pod(timeout=timedelta(minutes=90)))["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["activeDeadlineSeconds"] == 5400
    first, second = spec["podFailurePolicy"]["rules"]
    assert (first["action"], first["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert (second["action"], second["onExitCodes"]) == ("FailJob", {"operator": "NotIn", "values": [0]})
    assert "ttlSecondsAfterFinished" not in spec


@pytest.mark.parametrize("request_", [make_request(), make_request(gates=(), artifacts=BUCKET, uri="hf://org/name")])
def test_request_travels_with_the_job_and_comes_out_unchanged(request_: TrialRequest) -> None:
    job = build_trial_job(make_trial_pod(request_))
    annotation = job["spec"]["template"]["metadata"]["annotations"][REQUEST_ANNOTATION]
    assert TrialRequest.model_validate_json(annotation) == request_
    for name in ("quantize", "measure"):
        container = containers_of(job)[name]
        assert container["args"] == [name, "--request", "/etc/haqa/request.json"]
        assert "/etc/haqa" in mounts_of(container)
    volume = next(entry for entry in pod_of(job)["volumes"] if entry["name"] == "request")
    (item,) = volume["downwardAPI"]["items"]
    assert (item["path"], REQUEST_ANNOTATION in item["fieldRef"]["fieldPath"]) == ("request.json", True)


def test_folders_are_the_same_for_all_and_the_engine_writes_to_none_of_them() -> None:
    job = build_trial_job(make_trial_pod(make_request()))
    volumes = {entry["name"]: entry for entry in pod_of(job)["volumes"]}
    assert volumes["store"]["persistentVolumeClaim"] == {"claimName": "artifacts"}
    assert volumes["models"]["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    assert "emptyDir" in volumes["trial"]
    for name, read_only in (("quantize", False), ("vllm", True), ("measure", False)):
        mounts = mounts_of(containers_of(job)[name])
        assert mounts["/haqa"]["readOnly"] is mounts["/store"]["readOnly"] is read_only
        assert mounts["/models"]["readOnly"] is True


def test_bucket_needs_no_claim_and_keeps_the_reference_for_later_trials() -> None:
    job = build_trial_job(make_trial_pod(make_request(artifacts=BUCKET, uri="hf://org/name"), BUCKET))
    volumes = {entry["name"]: entry for entry in pod_of(job)["volumes"]}
    assert volumes["store"] == {"name": "store", "emptyDir": {}}
    assert "models" not in volumes
    places = trial_places("team", "demo", "here", BUCKET, None)
    assert places.store == "s3://models/haqa"
    assert places.reference == "s3://models/haqa/references/team/demo/here/reference.npz"
    assert places.reports == "s3://models/haqa/reports/team/demo"
    assert (places.cache, places.mount) == ("/store/cache", None)


@pytest.mark.parametrize(("artifacts", "words"), [(None, "missing"), (Artifacts(path="/x"), 'path "/x"')])
def test_store_that_no_pod_reaches_is_refused(artifacts: Artifacts | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        trial_places("team", "demo", "here", artifacts, None)


def test_secrets_are_references_and_reach_the_runner_alone() -> None:
    job = build_trial_job(make_trial_pod(runner_secrets=(TOKEN,)))
    names = {
        name: {entry["name"]: entry for entry in container["env"]} for name, container in containers_of(job).items()
    }
    for step in ("quantize", "measure"):
        assert names[step]["HF_TOKEN"] == {
            "name": "HF_TOKEN",
            "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}},
        }
        assert TERMINATION_LOG_VARIABLE in names[step]
    assert "HF_TOKEN" not in names["vllm"]


@pytest.mark.parametrize(
    ("measured_with", "steps"),
    [
        ({}, ["quantize"]),
        ({"workload": Workload(dataset="s3://models/chats.jsonl")}, ["quantize"]),
        ({"evaluation": Evaluation(tasks=("arc_easy",))}, ["quantize", "measure"]),
        ({"evaluation": Evaluation(dataset="hf://datasets/org/text")}, ["quantize", "measure"]),
        ({"workload": Workload(dataset="hf://datasets/org/chats")}, ["quantize", "measure"]),
    ],
)
def test_the_hubs_token_is_where_something_comes_from_the_hub(measured_with: dict[str, Any], steps: list[str]) -> None:
    store = SecretVariable("AWS_SECRET_ACCESS_KEY", "bucket", "key")
    request = make_request(**measured_with)
    job = build_trial_job(make_trial_pod(request, runner_secrets=(store,), hub_secrets=(TOKEN,)))

    def having(name: str) -> list[str]:
        return [step for step, one in containers_of(job).items() if name in {entry["name"] for entry in one["env"]}]

    assert having("HF_TOKEN") == steps
    assert having("AWS_SECRET_ACCESS_KEY") == ["quantize", "measure"]


def writable(container: dict[str, Any]) -> set[str]:
    """Volumes that it can write to."""
    return {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}


def test_the_runner_mounts_nothing_that_the_engine_can_write_to() -> None:
    adapters = AdaptersVolume()
    engine = EnginePod(make_request().engine, CPU, engine_image(CPU), trial_volume(CLAIM, "models"), adapters=adapters)
    job = build_trial_job(make_trial_pod(engine=engine))
    containers = containers_of(job)
    written = writable(containers["vllm"])
    assert written == {"shm", "cache", "tmp"}
    for step in ("quantize", "measure"):
        assert not written & {mount["name"] for mount in containers[step]["volumeMounts"]}
        variables = {entry["name"]: entry.get("value") for entry in containers[step]["env"]}
        assert (variables["PYTHONSAFEPATH"], variables["PYTHONNOUSERSITE"]) == ("1", "1")


def test_what_brings_a_winners_model_mounts_no_scratch_of_the_engine() -> None:
    served = LinkedVolume(fetching=Fetching("example/runner", ("fetch",)))
    pod = pod_spec(EnginePod(make_request().engine, CPU, engine_image(CPU), served, adapters=AdaptersVolume()))
    (fetching,), (engine,) = pod["initContainers"], pod["containers"]
    assert not writable(engine) & {mount["name"] for mount in fetching["volumeMounts"]}
    assert {"name": "PYTHONSAFEPATH", "value": "1"} in fetching["env"]
    assert {volume["name"] for volume in pod["volumes"]} == writable(engine) | writable(fetching) | {"adapters"}


def test_a_pod_has_the_volumes_that_its_containers_mount() -> None:
    for job in JOBS.values():
        mounted = {mount["name"] for one in containers_of(job).values() for mount in one["volumeMounts"]}
        assert {volume["name"] for volume in pod_of(job)["volumes"]} == mounted


def test_token_has_the_name_that_the_request_gives_it() -> None:
    tuning = make_tuning().model("hf://org/name", tokenSecretRef={"name": "hub", "key": "k"}).obj()
    places = trial_places("team", "demo", "here", CLAIM, None)
    (secret,) = hub_secrets(tuning.spec.model)
    request = fetch_request(tuning.spec, "demo", "here", places)
    assert (secret.name, secret.secret, secret.key) == (request.model.token_env, "hub", "k")


def test_labels_queue_and_owner() -> None:
    owner = {"apiVersion": "haqa.dev/v1alpha1", "kind": "QuantizationTrial", "name": "t", "uid": "1"}
    plain, queued = (build_trial_job(make_trial_pod(queue_name=q, owner=owner, attempt=2)) for q in (None, "gpus"))
    expected = {
        "haqa.dev/tuning": "demo",
        "haqa.dev/pool": "here",
        "haqa.dev/trial": "demo-here-003",
        "haqa.dev/component": "trial",
        "haqa.dev/attempt": "2",
    }
    for job in (plain, queued):
        assert expected.items() <= job["metadata"]["labels"].items()
        assert expected.items() <= job["spec"]["template"]["metadata"]["labels"].items()
        assert job["metadata"]["ownerReferences"] == [owner]
    assert queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert (queued["spec"]["suspend"], plain["spec"].get("suspend")) == (True, None)


def test_prometheus_is_told_where_to_scrape() -> None:
    annotations = build_trial_job(make_trial_pod())["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/scrape"] == "true"
    assert annotations["prometheus.io/port"] == "8000"


def test_names_that_are_too_long_stay_different() -> None:
    one, other = (f"{'a' * 60}-pool-{i:03d}" for i in (1, 2))
    assert label(one) != label(other)
    assert max(len(label(one)), len(job_name(one)), len(job_name(one, 3))) <= 63
    assert job_name("demo-here-003") == "demo-here-003"
    assert len({job_name(one), job_name(one, 2), job_name(one, 3)}) == 3


def test_only_the_engine_has_the_accelerators() -> None:
    launch = engine_launch(Configuration(), L40S, model_path=MODEL_MOUNT, served_model_name="demo")
    engine = EnginePod(launch, L40S, engine_image(L40S), trial_volume(CLAIM, None))
    containers = containers_of(build_trial_job(make_trial_pod(engine=engine)))
    assert containers["vllm"]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert all("nvidia.com/gpu" not in containers[step]["resources"]["requests"] for step in ("quantize", "measure"))
    assert "limits" not in containers_of(build_model_job(make_trial_pod(engine=engine)))["quantize"]["resources"]


def test_model_is_fetched_on_the_pool_by_quantize_alone() -> None:
    tuning = make_tuning().model("hf://org/name").obj()
    places = trial_places("team", "demo", "here", CLAIM, None)
    job = build_model_job(make_trial_pod(fetch_request(tuning.spec, "demo", "here", places)))
    assert job["metadata"]["name"] == "demo-here-model"
    assert job["metadata"]["labels"]["haqa.dev/component"] == "model"
    assert list(containers_of(job)) == ["quantize"]
    assert pod_of(job)["nodeSelector"] == {"pool": "here"}
    assert "prometheus.io/scrape" not in job["spec"]["template"]["metadata"]["annotations"]


JOBS = {
    "claim": build_trial_job(make_trial_pod()),
    "bucket": build_trial_job(make_trial_pod(make_request(artifacts=BUCKET, uri="hf://a/b"), BUCKET, queue_name="q")),
    "model": build_model_job(make_trial_pod(make_request("fetch"))),
    "amd": build_trial_job(
        make_trial_pod(
            engine=EnginePod(
                make_request().engine,
                MI300X,
                engine_image(MI300X),
                trial_volume(CLAIM, "models"),
                tolerations=(Toleration(key="amd.com/gpu", operator="Exists"),),
            ),
            runner_extra=(ExtraVolume("runner", "/opt/runner", {"hostPath": {"path": "/opt/runner"}}),),
            runner_env={"AWS_ENDPOINT_URL": "http://minio:9000", "HOME": "/elsewhere"},
        )
    ),
}


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_job_has_only_fields_that_kubernetes_has(job: Manifest) -> None:
    assert_fits(job, "V1Job")


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_pod_keeps_the_restricted_standard_and_names_no_variable_twice(job: Manifest) -> None:
    spec = pod_of(job)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    mounted = {mount["name"] for container in containers_of(job).values() for mount in container["volumeMounts"]}
    volumes = [volume["name"] for volume in spec["volumes"]]
    assert len(volumes) == len(set(volumes))
    assert mounted <= set(volumes)
    for container in containers_of(job).values():
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"] is True
        names = [entry["name"] for entry in container["env"]]
        assert len(names) == len(set(names))
        assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
