"""An installation's settings, or a sentence that names the variable."""

from __future__ import annotations

import pytest

from haqa_operator.cluster.installation import Installation, InstallationError
from haqa_operator.cluster.observe.failures import Limits
from haqa_operator.cluster.policy import Policy
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.metrics.prometheus_http import Connection
from haqa_operator.metrics.prometheus_series import Labels
from haqa_operator.serving.startup import StartupLimit
from haqa_operator.serving.volumes import ExtraVolume


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Installation.from_environment({}) == Installation()


def test_everything_can_be_set() -> None:
    found = Installation.from_environment(
        {
            "HAQA_NAMESPACES": '["serving", "models"]',
            "HAQA_POLICY": '{"artifacts": ["s3://models/**"], "maxTrials": 20}',
            "HAQA_RUNNER_COMMAND": '["python3", "-m", "haqa_runner"]',
            "HAQA_EXTRA_VOLUMES": '[{"name": "v", "mountPath": "/opt/v", "source": {"hostPath": {"path": "/opt/v"}}}]',
            "HAQA_PROMETHEUS_URL": "http://prometheus:9090",
            "HAQA_PROMETHEUS_USERNAME": "haqa",
            "HAQA_PROMETHEUS_PASSWORD": "s3cret",
            "HAQA_PROMETHEUS_VERIFY": "false",
            "HAQA_PROMETHEUS_TIMEOUT_SECONDS": "3",
            "HAQA_PROMETHEUS_POD_LABEL": "kubernetes_pod_name",
            "HAQA_SCRAPE_INTERVAL_SECONDS": "5",
            "HAQA_STARTUP_SECONDS": "1800",
            "HAQA_LOAD_MEGABYTES_PER_SECOND": "150",
            "HAQA_UNSCHEDULABLE_SECONDS": "3600",
            "HAQA_IMAGE_PULL_SECONDS": "120",
            "HAQA_NODE_LOST_SECONDS": "30",
        }
    )
    assert found.namespaces == ("serving", "models")
    assert found.policy == Policy(artifacts=("s3://models/**",), max_trials=20)
    assert found.extra == (ExtraVolume("v", "/opt/v", {"hostPath": {"path": "/opt/v"}}),)
    assert found.prometheus == Connection(
        "http://prometheus:9090", username="haqa", password="s3cret", verify=False, timeout_s=3
    )
    assert "s3cret" not in repr(found)
    assert found.prometheus_labels == Labels(namespace="namespace", pod="kubernetes_pod_name")
    assert found.scrape_interval_s == 5
    assert found.startup == StartupLimit(base_s=1800, megabytes_per_s=150)
    assert found.limits == Limits(unschedulable_s=3600, image_pull_s=120, node_lost_s=30)


@pytest.mark.parametrize(
    ("vendor", "image"),
    [
        (Vendor.NVIDIA, "runner:1"),
        (Vendor.AMD, "runner:1-rocm"),
        (Vendor.CPU, "runner:1-cpu"),
        (Vendor.INTEL, "runner:1-cpu"),
    ],
)
def test_a_pool_gets_the_runner_whose_torch_can_use_its_hardware(vendor: Vendor, image: str) -> None:
    found = Installation.from_environment(
        {"HAQA_RUNNER_IMAGE": "runner:1", "HAQA_RUNNER_IMAGES": '{"amd": "runner:1-rocm", "cpu": "runner:1-cpu"}'}
    )
    assert found.runner_image_for(Accelerator(vendor=vendor, product="any")) == image


@pytest.mark.parametrize("vendor", Vendor)
def test_one_runner_is_for_all_hardware(vendor: Vendor) -> None:
    found = Installation.from_environment({"HAQA_RUNNER_IMAGE": "runner:1"})
    assert found.runner_image_for(Accelerator(vendor=vendor, product="any")) == "runner:1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HAQA_NAMESPACES", "serving"),
        ("HAQA_POLICY", "open"),
        ("HAQA_POLICY", '{"image": ["vllm/vllm-openai"]}'),
        ("HAQA_POLICY", '{"images": ["vllm (any)"]}'),
        ("HAQA_RUNNER_COMMAND", "python3"),
        ("HAQA_RUNNER_COMMAND", "{}"),
        ("HAQA_RUNNER_IMAGES", "haqa-runner:1"),
        ("HAQA_RUNNER_IMAGES", '{"intel": "haqa-runner:1"}'),
        ("HAQA_RUNNER_IMAGES", '{"amd": ""}'),
        ("HAQA_EXTRA_VOLUMES", '[{"name": "v"}]'),
        ("HAQA_PROMETHEUS_URL", "prometheus:9090"),
        ("HAQA_PROMETHEUS_TIMEOUT_SECONDS", "soon"),
        ("HAQA_PROMETHEUS_VERIFY", "no"),
        ("HAQA_PROMETHEUS_POD_LABEL", "pod-name"),
        ("HAQA_SCRAPE_INTERVAL_SECONDS", "often"),
        ("HAQA_SCRAPE_INTERVAL_SECONDS", "0"),
        ("HAQA_SCRAPE_INTERVAL_SECONDS", "inf"),
        ("HAQA_UNSCHEDULABLE_SECONDS", "0"),
        ("HAQA_LOAD_MEGABYTES_PER_SECOND", "0"),
        ("HAQA_LOAD_MEGABYTES_PER_SECOND", "fast"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(InstallationError, match="HAQA_PROMETHEUS" if "PROMETHEUS" in name else name):
        Installation.from_environment({"HAQA_PROMETHEUS_URL": "http://prometheus:9090", name: value})
