"""The manifests of a winner: what was measured, safe to run, and valid for Kubernetes."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st
from tests.unit.serving.engine_pods import ARC, CPU, GAUDI, L40S, MEASURED, MI300X, VOLUMES, make_pod, provenance
from tests.unit.serving.kubernetes_fields import assert_fits

from haqa_contract import Configuration
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.pools import Toleration
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.serving.deployment import (
    Provenance,
    build_deployment,
    build_service,
    deployment_name,
    render_yaml,
)
from haqa_operator.serving.pod import EnginePod, Resources, engine_container, init_containers, pod_spec
from haqa_operator.serving.volumes import (
    MODEL_MOUNT,
    ClaimVolume,
    ExtraVolume,
    LinkedVolume,
    ModelVolume,
    SecretVariable,
    artifact_volume,
    served_volume,
)

GOLDEN = Path(__file__).parent / "golden"


def manifests(pod: EnginePod, source: Provenance = MEASURED, namespace: str | None = None) -> list[Manifest]:
    return [
        build_deployment(pod, source, name="demo-here", namespace=namespace),
        build_service(pod, source, name="demo-here", namespace=namespace),
    ]


@pytest.mark.parametrize(
    ("name", "pod", "namespace"),
    [
        ("cpu-from-a-claim", make_pod(), None),
        (
            "nvidia-fetched",
            make_pod(
                L40S,
                Configuration.of("FP8-DYNAMIC", "rtn", kv_cache_dtype="fp8", compilation_config='{"level": 3}'),
                VOLUMES["fetched"],
                node_selector={"nvidia.com/gpu.product": "NVIDIA-L40S"},
                tolerations=(Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule"),),
                secrets=(SecretVariable("HF_TOKEN", "hub", "token"),),
            ),
            "serving",
        ),
    ],
)
def test_manifest_is_the_reviewed_one(name: str, pod: EnginePod, namespace: str | None) -> None:
    """After an intended change: write the new text to the golden file and read the difference."""
    text = render_yaml(manifests(pod, namespace=namespace), comment="Made by HAQA.")
    assert text == (GOLDEN / f"{name}.yaml").read_text()


CONFIGURATIONS = st.builds(
    lambda engine: Configuration(engine=tuple(sorted(engine.items()))),
    st.fixed_dictionaries(
        {},
        optional={
            "max-num-seqs": st.integers(1, 1024),
            "enforce-eager": st.booleans(),
            "compilation-config": st.sampled_from(['{"a": "$(HOME)"}', '{"$$": 1}']),
            "chat-template": st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1),
            "VLLM_CPU_OMP_THREADS_BIND": st.sampled_from(["0-1", "0-31|32-63", "$(X)"]),
        },
    ),
)


def as_kubernetes_passes_it(text: str) -> str:
    """`$$` becomes `$`; a reference would be replaced (kubernetes.io, "Define Dependent Environment Variables")."""
    assert not re.search(r"(?<!\$)(\$\$)*\$\(", text), f"{text} would be expanded"
    return text.replace("$$", "$")


@run(deadline=None)
@given(configuration=CONFIGURATIONS)
def test_deployment_runs_exactly_the_command_that_the_trial_measured(configuration: Configuration) -> None:
    pod = make_pod(configuration=configuration)
    trial = engine_container(pod, sidecar=True)
    (winner,) = build_deployment(pod, MEASURED, name="demo-here")["spec"]["template"]["spec"]["containers"]
    for field in ("image", "command", "args", "env", "resources", "volumeMounts", "securityContext"):
        assert trial[field] == winner[field]
    passed = tuple(as_kubernetes_passes_it(text) for text in winner["args"])
    assert passed == (*pod.launch.args, "--host=0.0.0.0", "--port=8000")
    env = {e["name"]: as_kubernetes_passes_it(e["value"]) for e in winner["env"]}
    assert pod.launch.env.items() <= env.items()


@run(max_examples=20, deadline=None)
@given(configuration=CONFIGURATIONS)
def test_yaml_gives_the_manifests_back(configuration: Configuration) -> None:
    documents = manifests(make_pod(configuration=configuration))
    assert list(yaml.safe_load_all(render_yaml(documents, comment="two\nlines"))) == documents


@pytest.mark.parametrize("accelerator", [CPU, L40S, MI300X, ARC, GAUDI], ids=lambda a: a.product)
@pytest.mark.parametrize("model", VOLUMES.values(), ids=VOLUMES)
def test_every_field_is_one_that_kubernetes_has(accelerator: Accelerator, model: ModelVolume) -> None:
    pod = make_pod(
        accelerator,
        model=model,
        image="example/engine:1",
        tolerations=(Toleration(key="a", operator="Exists", toleration_seconds=3),),
        resources=Resources(cpu="4", memory="16Gi", memory_limit="32Gi"),
    )
    deployment, service = manifests(pod)
    assert_fits(deployment, "V1Deployment")
    assert_fits(service, "V1Service")
    assert_fits(engine_container(pod, sidecar=True), "V1Container")


@pytest.mark.parametrize("accelerator", [CPU, L40S, MI300X], ids=lambda a: a.product)
@pytest.mark.parametrize("model", VOLUMES.values(), ids=VOLUMES)
def test_pod_keeps_the_restricted_standard_and_gets_no_token(accelerator: Accelerator, model: ModelVolume) -> None:
    spec = pod_spec(make_pod(accelerator, model=model))
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"] is True


def test_secrets_are_references_only() -> None:
    pod = make_pod(model=VOLUMES["fetched"], secrets=(SecretVariable("HF_TOKEN", "hub", "token"),))
    entries = [*engine_container(pod)["env"], *init_containers(pod)[0]["env"]]
    secret = {e["name"]: e for e in entries if e["name"] in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY")}
    assert len(secret) == 2
    assert all("value" not in entry and "secretKeyRef" in entry["valueFrom"] for entry in secret.values())


@pytest.mark.parametrize(
    ("accelerator", "resource", "count"),
    [(L40S, "nvidia.com/gpu", "2"), (MI300X, "amd.com/gpu", "1"), (GAUDI, "habana.ai/gaudi", "1")],
)
def test_accelerators_are_whole_and_equal_in_requests_and_limits(
    accelerator: Accelerator, resource: str, count: str
) -> None:
    resources = engine_container(make_pod(accelerator, image="x"))["resources"]
    assert resources["requests"][resource] == resources["limits"][resource] == count
    assert int(resources["requests"]["cpu"]) > 0


def test_cpu_engine_leaves_room_on_its_node_and_is_never_throttled() -> None:
    resources = engine_container(make_pod(CPU))["resources"]
    assert resources["requests"] == {"cpu": "1500m", "memory": "18432Mi"}
    assert resources["limits"] == {"memory": "18432Mi"}


def test_engine_may_take_its_whole_deadline_to_start() -> None:
    pod = make_pod()
    slow = replace(pod, launch=pod.launch.model_copy(update={"startup_timeout_s": 3600.0}))
    probe = engine_container(slow)["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 3600
    assert build_deployment(slow, MEASURED, name="n")["spec"]["progressDeadlineSeconds"] > 3600


def test_requests_in_flight_outlive_the_stop_signal() -> None:
    spec = pod_spec(make_pod(configuration=Configuration.of(shutdown_timeout=300)))
    stop = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] > 300 + stop


def test_engine_is_not_restarted_in_the_middle_of_a_measurement() -> None:
    sidecar = engine_container(make_pod(), sidecar=True)
    assert sidecar["restartPolicy"] == "Always"
    assert "livenessProbe" not in sidecar


def test_user_id_is_left_to_a_cluster_that_assigns_it() -> None:
    security = pod_spec(make_pod(user_id=None))["securityContext"]
    assert security == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_selector_is_in_the_labels_of_the_pods_and_of_nothing_that_changes() -> None:
    deployment, service = manifests(make_pod())
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert selector == service["spec"]["selector"]
    assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert set(selector) == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}


def test_nothing_without_an_owner_bears_the_label_that_argo_cd_tracks() -> None:
    for manifest in manifests(make_pod()):
        assert "app.kubernetes.io/instance" not in manifest["metadata"]["labels"]


def test_unmeasured_facts_are_left_out_of_the_annotations() -> None:
    annotations = build_deployment(make_pod(), provenance(), name="n")["metadata"]["annotations"]
    assert set(annotations) == {"haqa.dev/tuning", "haqa.dev/trial", "haqa.dev/pool", "haqa.dev/configuration"}


def test_deployment_is_named_after_tuning_and_pool() -> None:
    assert deployment_name("llama", "l40s") == "llama-l40s"


@pytest.mark.parametrize(
    ("path", "volume"),
    [
        ("/store/artifacts/3fa1/model", artifact_volume("artifacts", "3fa1")),
        ("/store/cache/hub/snapshots/1", LinkedVolume("artifacts", target="/store/cache/hub/snapshots/1")),
        ("/models/llama", ClaimVolume("weights", "llama")),
        ("/models", ClaimVolume("weights")),
        ("/somewhere/else", None),
    ],
)
def test_winner_is_served_from_where_its_trial_had_it(path: str, volume: ModelVolume | None) -> None:
    assert served_volume(path, store="artifacts", model_claim="weights") == volume


def test_what_lay_in_the_trials_own_pod_has_to_be_fetched_again() -> None:
    assert served_volume("/store/cache/store/artifacts/3fa1/model", store=None) is None


def test_linked_model_is_at_the_same_path() -> None:
    pod = make_pod(model=VOLUMES["linked"])
    (link,) = init_containers(pod)
    assert link["command"] == ["ln", "-sfn", "/store/cache/hub/snapshots/1", MODEL_MOUNT]
    mounts = {mount["mountPath"]: mount for mount in engine_container(pod)["volumeMounts"]}
    assert mounts["/haqa"]["readOnly"] is mounts["/store"]["readOnly"] is True


def test_extra_folder_of_an_installation_is_mounted_read_only() -> None:
    extra = ExtraVolume("vllm", "/opt/vllm", {"hostPath": {"path": "/opt/vllm"}})
    spec = pod_spec(make_pod(extra=(extra,)))
    assert {"name": "vllm", "mountPath": "/opt/vllm", "readOnly": True} in spec["containers"][0]["volumeMounts"]
    assert {"name": "vllm", "hostPath": {"path": "/opt/vllm"}} in spec["volumes"]


@pytest.mark.parametrize("text", ["y", "N", "on", "yes", "1", "1e3", "1.5", "0x10", "0o7", "null"])
def test_text_that_kubernetes_could_take_for_something_else_is_quoted(text: str) -> None:
    (line,) = render_yaml([{"value": text}]).splitlines()[1:]
    assert line == f"value: '{text}'"
