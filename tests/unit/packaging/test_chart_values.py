"""Values, their schema and their table say the same; what Helm renders of them is looked at in tests/cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "haqa"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
WHOLE = (
    "resources",
    "agent.resources",
    "metrics.dashboard.labels",
    "metrics.service.annotations",
    "policy.images",
    "policy.env",
)
"""Values that the table shows as one."""


def leaves(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        path = f"{above}{name}"
        if isinstance(value, dict) and value and path not in WHOLE:
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def shown(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)


def test_the_table_in_the_document_is_the_values() -> None:
    document = (ROOT / "docs" / "installing.md").read_text()
    rows = re.findall(r"^\| `([\w.]+)` \|.*\| (.+) \|$", document.partition("## Values")[2], re.MULTILINE)
    expected = {path: "see `values.yaml`" if path in WHOLE else f"`{shown(value)}`" for path, value in leaves(VALUES)}
    assert dict(rows) == expected
    assert [path for path, _ in rows] == list(expected), "in the order of values.yaml"


def test_the_defaults_fit_the_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(VALUES, SCHEMA)


@pytest.mark.parametrize("path", [path for path, _ in leaves(VALUES)])
def test_the_schema_knows_every_value(path: str) -> None:
    node = SCHEMA
    for name in path.split("."):
        assert node.get("additionalProperties") is False, f"{path}: a misspelt neighbour would be ignored"
        node = node["properties"][name]


def test_the_version_is_the_packages() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    package = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert package is not None
    assert chart["version"] == chart["appVersion"] == package[1]
    for name in ("operator", "runner"):
        assert f"ARG VERSION={package[1]}\n" in (ROOT / f"Dockerfile.{name}").read_text()
