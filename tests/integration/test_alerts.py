"""The chart's alerts and dashboard against real Prometheus: its promtool, the operator's metrics, and the runbooks."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import REGISTRY

from haqa_operator.cluster.edges import telemetry

ROOT = Path(__file__).parents[2]
FILES = ROOT / "charts" / "haqa" / "files"
RULES = FILES / "alerts.yaml"
CASES = Path(__file__).parent / "alerts.test.yaml"
RUNBOOKS = ROOT / "docs" / "operating.md"


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def alerts() -> list[dict[str, object]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, object]] = group["rules"]
    return found


def expressions() -> list[str]:
    """Of alerts and panels."""
    panels = json.loads((FILES / "dashboard.json").read_text())["panels"]
    return [str(one["expr"]) for one in alerts()] + [target["expr"] for panel in panels for target in panel["targets"]]


def test_every_alert_fires_when_it_should_and_not_before(tmp_path: Path) -> None:
    cases = tmp_path / "alerts.test.yaml"
    cases.write_text(CASES.read_text().replace("RULES", str(RULES)))
    promtool("check", "rules", str(RULES))
    promtool("test", "rules", str(cases))
    tried = set(re.findall(r"alertname: (\w+)", CASES.read_text()))
    assert tried == {one["alert"] for one in alerts()}


def test_every_alert_has_a_page() -> None:
    headings = {heading.lower() for heading in re.findall(r"^### (\w+)$", RUNBOOKS.read_text(), re.MULTILINE)}
    for one in alerts():
        annotations = one["annotations"]
        assert isinstance(annotations, dict)
        page, _, heading = annotations["runbook_url"].partition("#")
        assert (ROOT / page).is_file()
        assert heading in headings
        assert heading == str(one["alert"]).lower()


def test_the_panels_can_be_asked(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(expressions())]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(file))


@pytest.mark.parametrize("expression", expressions())
def test_only_what_the_operator_has_is_asked_for(expression: str) -> None:
    assert telemetry.QUEUE_DEPTH
    known = {
        f"{metric.name}{ending}"
        for metric in REGISTRY.collect()
        for ending in ("", "_total", "_count", "_sum", "_bucket")
    }
    asked = set(re.findall(r"\bhaqa_\w+", expression))
    assert asked
    assert asked <= known
