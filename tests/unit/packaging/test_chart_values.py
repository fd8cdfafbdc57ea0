"""Values, their schema and their table are made from one source; what Helm renders is for tests/cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from charts.values.models import ChartValues
from charts.values.writing import generated_files
from pydantic import BaseModel, ValidationError

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "haqa"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def leaves(section: BaseModel, above: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in type(section).model_fields.items():
        value, path = getattr(section, name), f"{above}{field.alias}"
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


LEAVES = dict(leaves(ChartValues()))


def changed(path: str, value: object) -> dict[str, Any]:
    """The defaults with one value more, or another."""
    values: dict[str, Any] = json.loads(json.dumps(VALUES))
    *sections, name = path.split(".")
    section = values
    for one in sections:
        section = section[one]
    section[name] = value
    return values


def by_schema(values: dict[str, Any]) -> None:
    jsonschema.validate(values, SCHEMA)


@pytest.mark.parametrize("name", generated_files(ROOT))
def test_generated_file_matches_the_models(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == generated_files(ROOT)[name], "out of date: run `make generate`"


def test_what_is_written_is_read_as_the_defaults() -> None:
    assert ChartValues.model_validate(VALUES).model_dump(mode="json", by_alias=True) == VALUES
    assert ChartValues().model_dump(mode="json", by_alias=True) == VALUES


def test_the_table_has_every_value_in_the_order_of_the_file() -> None:
    table = (ROOT / "docs" / "installing.md").read_text().partition("<!-- values -->")[2].partition("<!-- end -->")[0]
    names = re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE)
    assert [name for name in names if name in LEAVES] == list(LEAVES)
    assert all(any(leaf.startswith(f"{name}.") for leaf in LEAVES) for name in set(names) - LEAVES.keys())


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    by_schema(VALUES)
    by_schema({"global": {"imageRegistry": "registry.example"}} | VALUES)


@pytest.mark.parametrize("check", [by_schema, ChartValues.model_validate])
@pytest.mark.parametrize("section", sorted({path.rpartition(".")[0] for path in LEAVES}))
def test_a_misspelt_neighbour_is_refused(section: str, check: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises((jsonschema.ValidationError, ValidationError), match="enabeld"):
        check(changed(f"{section}.enabeld".removeprefix("."), True))


@pytest.mark.parametrize("check", [by_schema, ChartValues.model_validate])
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("image.pullPolicy", "Sometimes"),
        ("image.repository", ""),
        ("watchNamespaces", ["Team_A"]),
        ("policy.images", ["vllm/$(reboot)"]),
        ("policy.secretLabel", "no-value"),
        ("policy.supplementalGroups", [0]),
        ("policy.maxTrials", -1),
        ("userId", 0),
        ("runner.secrets", [{"name": "A", "secret": "bucket"}]),
        ("runner.secrets", [{"name": "A-B", "secret": "bucket", "key": "k"}]),
        ("extraVolumes", [{"name": "models", "mountPath": "models", "source": {"emptyDir": {}}}]),
        ("extraVolumes", [{"name": "models", "mountPath": "/models", "source": {}}]),
        ("extraEnv", [{"value": "without a name"}]),
        ("prometheus.url", "http://user:secret@prometheus:9090"),
        ("prometheus.timeoutSeconds", 0),
        ("networkPolicies.public.ports", [70000]),
        ("networkPolicies.public.except", ["everything"]),
        ("metrics.serviceMonitor.interval", "often"),
        ("log.level", "TRACE"),
        ("tmpSizeLimit", "a lot"),
        ("limits.startupSeconds", "15m"),
    ],
)
def test_what_cannot_be_is_refused(path: str, value: object, check: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises((jsonschema.ValidationError, ValidationError)):
        check(changed(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("userId", None),
        ("limits.startupSeconds", 1.5),
        ("extraEnv", [{"name": "HTTPS_PROXY", "valueFrom": {"secretKeyRef": {"name": "proxy", "key": "url"}}}]),
        ("tolerations", [{"key": "dedicated", "operator": "Exists"}]),
        ("resources", {}),
    ],
)
def test_what_can_be_is_taken(path: str, value: object) -> None:
    by_schema(changed(path, value))


def test_the_version_is_the_packages() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    package = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert package is not None
    assert chart["version"] == chart["appVersion"] == package[1]
    for name in ("operator", "runner"):
        assert f"ARG VERSION={package[1]}\n" in (ROOT / f"Dockerfile.{name}").read_text()
