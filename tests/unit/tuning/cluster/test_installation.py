"""An installation's settings, or a sentence that names the variable."""

from __future__ import annotations

import pytest

from haqa_operator.serving.volumes import ExtraVolume
from haqa_operator.tuning.cluster.installation import Installation, InstallationError


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Installation.from_environment({}) == Installation()


def test_everything_can_be_set() -> None:
    found = Installation.from_environment(
        {
            "HAQA_NAMESPACE": "serving",
            "HAQA_RUNNER_COMMAND": '["python3", "-m", "haqa_runner"]',
            "HAQA_EXTRA_VOLUMES": '[{"name": "v", "mountPath": "/opt/v", "source": {"hostPath": {"path": "/opt/v"}}}]',
            "HAQA_PROMETHEUS_URL": "http://prometheus:9090",
            "HAQA_SCRAPE_INTERVAL_SECONDS": "5",
        }
    )
    assert found.namespace == "serving"
    assert found.extra == (ExtraVolume("v", "/opt/v", {"hostPath": {"path": "/opt/v"}}),)
    assert found.prometheus is not None
    assert found.scrape_interval_s == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HAQA_RUNNER_COMMAND", "python3"),
        ("HAQA_RUNNER_COMMAND", "{}"),
        ("HAQA_EXTRA_VOLUMES", '[{"name": "v"}]'),
        ("HAQA_PROMETHEUS_URL", "prometheus:9090"),
        ("HAQA_SCRAPE_INTERVAL_SECONDS", "often"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(InstallationError, match="HAQA_PROMETHEUS" if "PROMETHEUS" in name else name):
        Installation.from_environment({name: value})
