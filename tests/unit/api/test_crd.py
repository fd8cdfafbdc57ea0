"""The custom resource definitions are what the API server takes, say what every field is for, and match the models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from haqa_operator.api.crd import definitions, generated_files
from haqa_operator.api.loading import load_tuning
from haqa_operator.api.rules import RULES

ROOT = Path(__file__).parents[3]
SCHEMAS = {
    manifest["spec"]["names"]["kind"]: manifest["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for manifest in definitions()
}
TUNING = SCHEMAS["QuantizationTuning"]
SPEC = TUNING["properties"]["spec"]["properties"]
PRESERVE = "x-kubernetes-preserve-unknown-fields"


def nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}.{key}")


ALL = [found for kind, schema in SCHEMAS.items() for found in nodes(schema, kind)]


@pytest.mark.parametrize("name", generated_files())
def test_generated_file_matches_the_models(name: str) -> None:
    path = ROOT / name
    assert path.exists(), f"{name} is missing: run `make generate`"
    assert path.read_text(encoding="utf-8") == generated_files()[name], f"{name} is out of date: run `make generate`"


def test_no_name_is_a_boolean_for_kubectl() -> None:
    for name, text in generated_files().items():
        if name.startswith("crds/"):
            assert [line for line in text.splitlines() if line.strip(" -").rstrip(":") in ("y", "n")] == []


def test_every_node_has_a_type_or_is_kept_as_it_is() -> None:
    untyped = [node for _, node in ALL if "type" not in node]
    assert [node for node in untyped if not (node.get(PRESERVE) or node.get("x-kubernetes-int-or-string"))] == []


def test_nothing_is_in_the_schema_that_kubernetes_does_not_know() -> None:
    foreign = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "const", "title", "prefixItems", "default"}
    assert [(path, foreign & node.keys()) for path, node in ALL if foreign & node.keys()] == []
    assert [path for path, node in ALL if "properties" in node and "additionalProperties" in node] == []
    assert [path for path, node in ALL if not isinstance(node.get("exclusiveMinimum", True), bool)] == []


def test_every_field_has_a_description() -> None:
    silent = [
        f"{path}.{name}"
        for path, node in ALL
        for name, inner in node.get("properties", {}).items()
        if name != "metadata" and len(inner.get("description", "")) < len("Name.")
    ]
    assert silent == []


def test_entries_of_keyed_lists_have_the_key() -> None:
    keyed = {path: node for path, node in ALL if node.get("x-kubernetes-list-type") == "map"}
    assert {path.removeprefix("QuantizationTuning.") for path in keyed} == {
        "spec.model.adapters",
        "spec.model.variants",
        "spec.nodePools",
        "status.conditions",
        "status.model.adapters",
        "status.model.variants",
        "status.pools",
    }
    for node in keyed.values():
        assert set(node["x-kubernetes-list-map-keys"]) <= set(node["items"]["required"])


def test_lists_and_texts_that_rules_go_through_are_bounded() -> None:
    for field in ("nodePools", "constraints", "paretoObjectives"):
        assert "maxItems" in SPEC[field]
    assert "maxItems" in SPEC["workload"]["properties"]["concurrency"]
    assert "maxItems" in SPEC["evaluation"]["properties"]["tasks"]
    assert "maxLength" in SPEC["budget"]["properties"]["maxDuration"]


def test_every_rule_reaches_a_definition_and_ends_in_a_remedy() -> None:
    written = {rule["rule"] for _, node in ALL for rule in node.get("x-kubernetes-validations", ())}
    for rules in RULES.values():
        for rule in rules:
            assert rule.expression in written
            assert "\n" not in rule.message
            assert len(rule.message.split()) >= 8


def test_a_status_has_no_rules() -> None:
    """In its lists the API server estimates them as too expensive, and refuses the definition."""
    for schema in SCHEMAS.values():
        assert "x-kubernetes-validations" not in str(schema["properties"].get("status", {}))


def test_only_what_has_a_status_has_one_to_write() -> None:
    for manifest in definitions():
        (version,) = manifest["spec"]["versions"]
        has_status = "status" in version["schema"]["openAPIV3Schema"]["properties"]
        assert ("status" in version.get("subresources", {})) == has_status


def test_defaults_are_told_in_words() -> None:
    budget = SPEC["budget"]["properties"]
    assert budget["trialTimeout"]["description"].endswith("Default: 2h")
    assert budget["maxTrials"]["description"].endswith("Default: 12")
    assert SPEC["suspend"]["description"].endswith("Default: false")


def test_bounds_and_choices_of_the_models_are_in_the_schema() -> None:
    pool = SPEC["nodePools"]["items"]["properties"]
    assert (pool["costPerHour"]["minimum"], pool["costPerHour"]["exclusiveMinimum"]) == (0, True)
    assert pool["name"]["maxLength"] == 30
    assert SPEC["search"]["properties"]["strategy"]["enum"] == ["haqa", "agent", "bayesian", "tpe", "random", "grid"]
    assert SPEC["search"]["properties"]["engine"]["additionalProperties"]["items"] == {PRESERVE: True}


@pytest.mark.parametrize("name", ["demo.yaml", "demo-two-pools.yaml"])
def test_example_is_valid_and_comes_back_valid_from_the_model(name: str) -> None:
    path = ROOT / "examples" / name
    tuning = load_tuning(path)
    closed = jsonschema.Draft4Validator(without_unknown_fields(TUNING))
    closed.validate(yaml.safe_load(path.read_text()))
    closed.validate(tuning.model_dump(mode="json", by_alias=True, exclude_none=True))


def test_the_schema_refuses_a_wrong_type_and_an_unknown_field() -> None:
    document = yaml.safe_load((ROOT / "examples" / "demo.yaml").read_text())
    document["spec"]["budget"] = {"maxTrials": "six", "maxTrails": 6}
    errors = jsonschema.Draft4Validator(without_unknown_fields(TUNING)).iter_errors(document)
    assert sorted(error.validator for error in errors) == ["additionalProperties", "type"]


def test_columns_show_fields_that_exist() -> None:
    for manifest in definitions():
        schema = SCHEMAS[manifest["spec"]["names"]["kind"]]
        for column in manifest["spec"]["versions"][0]["additionalPrinterColumns"]:
            names = column["jsonPath"].split("[")[0].strip(".").split(".")
            if names[0] == "metadata":
                continue
            node = schema
            for name in names:
                assert name in node["properties"], column
                node = node["properties"][name]


def without_unknown_fields(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as `kubectl` applies it: a field that it does not know is an error."""
    closed = dict(schema)
    if "properties" in schema:
        closed["properties"] = {name: without_unknown_fields(inner) for name, inner in schema["properties"].items()}
        closed["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if key in schema:
            closed[key] = without_unknown_fields(schema[key])
    return closed
