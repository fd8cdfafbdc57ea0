"""Pydantic's JSON schema of a model as the structural OpenAPI v3 schema that a custom resource definition may have.

Kubernetes knows no `$ref`, no `anyOf` of types and no numeric `exclusiveMinimum`, and wants a type at every node. What
may be number, text or boolean has no type there and is marked to be kept as it is.

Defaults are described and not declared: a default that the API server wrote into an object would stay there when a
later version of HAQA has a better one, and would take the field away from whoever applies the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from haqa_operator.api.base import format_duration
from haqa_operator.api.rules import RULES, Rule

Schema = dict[str, Any]

_BOUNDS: Final[Mapping[tuple[str, str], Schema]] = {
    # CEL rules go through these lists, and their cost is estimated from the longest that can be.
    ("Workload", "concurrency"): {"minItems": 1, "maxItems": 32},
    ("Evaluation", "tasks"): {"maxItems": 64, "items": {"type": "string", "maxLength": 128}},
}
_KEPT: Final = (
    "type",
    "description",
    "enum",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "maxProperties",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
)
_RULES: Final = "x-kubernetes-validations"
_ANY_SCALAR: Final = {"x-kubernetes-preserve-unknown-fields": True}


class _WithDurations(GenerateJsonSchema):
    """Writes default durations as people write them: 2h and not PT2H."""

    def encode_default(self, dft: Any) -> Any:
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def json_schema(model: type[BaseModel]) -> Schema:
    return model.model_json_schema(by_alias=True, schema_generator=_WithDurations)


def structural_schema(model: type[BaseModel]) -> Schema:
    """The `openAPIV3Schema` of a resource."""
    document = json_schema(model)
    definitions = {**document.get("$defs", {}), model.__name__: document}
    schema = _object(model.__name__, document, definitions)
    # Kubernetes knows these itself and takes no schema for them.
    schema["properties"]["apiVersion"] = {"type": "string", "description": "Group and version of the resource"}
    schema["properties"]["kind"] = {"type": "string", "description": "Kind of the resource"}
    schema["properties"]["metadata"] = {"type": "object"}
    if "status" in schema["properties"]:
        # Written by the operator alone. A rule inside its lists costs the API server more than it allows.
        schema["properties"]["status"] = _without_rules(schema["properties"]["status"])
    schema["required"] = ["spec"]
    return schema


def _without_rules(schema: Any) -> Any:
    match schema:
        case dict():
            return {name: _without_rules(inside) for name, inside in schema.items() if name != _RULES}
        case list():
            return [_without_rules(inside) for inside in schema]
        case _:
            return schema


def default_text(property_: Schema) -> str | None:
    """A default as it is written in YAML; None where there is none worth saying."""
    default = property_.get("default")
    if default is None or default in ("", [], {}) or isinstance(default, dict):
        return None
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, list):
        return f"[{', '.join(map(str, default))}]"
    return f"{default:g}" if isinstance(default, float) else str(default)


def rules_of(name: str) -> tuple[Rule, ...]:
    return next((rules for model, rules in RULES.items() if model.__name__ == name), ())


def _object(name: str, definition: Schema, definitions: Mapping[str, Schema]) -> Schema:
    properties = {}
    for field, given in definition["properties"].items():
        bounds = _BOUNDS.get((name, field), {})
        properties[field] = {**_field(given, definitions), **bounds}
    schema: Schema = {"type": "object", "properties": properties}
    if "description" in definition:
        schema["description"] = sentence(definition["description"])
    if "required" in definition:
        schema["required"] = definition["required"]
    if rules := rules_of(name):
        schema[_RULES] = [_validation(rule) for rule in rules]
    return schema


def _field(given: Schema, definitions: Mapping[str, Schema]) -> Schema:
    schema = _node(given, definitions)
    text = sentence(given.get("description") or schema.get("description") or "")
    if (default := default_text(given)) is not None:
        text += f" Default: {default}"
    return {**schema, "description": text}


def _node(given: Schema, definitions: Mapping[str, Schema]) -> Schema:
    if "$ref" in given:
        name = given["$ref"].rpartition("/")[2]
        definition = definitions[name]
        return _object(name, definition, definitions) if "properties" in definition else _node(definition, definitions)
    if "anyOf" in given:
        branches = [branch for branch in given["anyOf"] if branch.get("type") != "null"]
        if len(branches) > 1:
            return dict(_ANY_SCALAR)
        # An absent field means none: the API server drops a null that is written.
        return _node({**branches[0], **{key: given[key] for key in given if key in _KEPT}}, definitions)
    schema: Schema = {key: given[key] for key in _KEPT if key in given}
    if "const" in given:
        schema["enum"] = [given["const"]]
    for old, new, flag in (
        ("exclusiveMinimum", "minimum", "exclusiveMinimum"),
        ("exclusiveMaximum", "maximum", "exclusiveMaximum"),
    ):
        if old in given:
            schema |= {new: given[old], flag: True}
    if given.get("type") == "array":
        schema["items"] = _node(given["items"], definitions)
    elif "additionalProperties" in given:
        schema["additionalProperties"] = _node(given["additionalProperties"], definitions)
    return schema


def sentence(text: str) -> str:
    """A docstring in one line, with a full stop."""
    text = " ".join(text.split())
    return text if not text or text.endswith(".") else f"{text}."


def _validation(rule: Rule) -> Schema:
    validation: Schema = {"rule": rule.expression, "message": rule.message}
    if rule.field is not None:
        validation["fieldPath"] = rule.field
    return validation
