"""The PodMonitor of docs/prometheus.md against the Prometheus operator's own definition, and against trials' pods."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from tests.cluster.building import pod_monitor_definition
from tests.cluster.documented import example
from tests.cluster.kubectl import Kubectl, Manifest, Refused, has_condition
from tests.unit.cluster.observe.pods import make_trial_pod

from haqa_operator.cluster.build.trial_job import build_trial_job

pytestmark = pytest.mark.nightly


@pytest.fixture
def monitors(kubectl: Kubectl) -> Iterator[Kubectl]:
    """A cluster that knows PodMonitor."""
    definition = yaml.safe_load(pod_monitor_definition().read_text())
    name = definition["metadata"]["name"]
    kubectl.run("apply", "--server-side", "-f", str(pod_monitor_definition()))
    kubectl.wait_for("customresourcedefinition", name, has_condition("Established"), "established", 60)
    yield kubectl
    kubectl.run("delete", "customresourcedefinition", name)


@pytest.fixture
def documented() -> Manifest:
    return example("prometheus.md", "Scraping by PodMonitor")


def test_the_documented_monitor_is_accepted(monitors: Kubectl, documented: Manifest) -> None:
    monitors.apply(documented, dry_run=True)
    documented["spec"]["podMetricsEndpoints"][0]["scrapeTimeout"] = "soon"
    with pytest.raises(Refused, match="scrapeTimeout"):
        monitors.apply(documented, dry_run=True)


def test_it_selects_the_engine_of_a_trial(documented: Manifest) -> None:
    template = build_trial_job(make_trial_pod())["spec"]["template"]
    for expression in documented["spec"]["selector"]["matchExpressions"]:
        assert expression["operator"] == "Exists"
        assert expression["key"] in template["metadata"]["labels"]
    (endpoint,) = documented["spec"]["podMetricsEndpoints"]
    containers = [*template["spec"]["initContainers"], *template["spec"]["containers"]]
    ports = [port["name"] for container in containers for port in container.get("ports", ())]
    assert ports.count(endpoint["port"]) == 1
