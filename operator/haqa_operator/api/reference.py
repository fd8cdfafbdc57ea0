"""The field reference in docs/, made from the models: one table for each object, in the order a reader meets them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from haqa_operator.api.structural import Schema, default_text, json_schema, rules_of

_INTRODUCTION = """\
# Field reference

<!-- Made from operator/haqa_operator/api by `make generate`; changes go there. -->

The resources of `haqa.dev/v1alpha1`. `kubectl explain qt.spec` shows the same, and `haqa tune` reads the same files.
A field in **bold** has to be given.
"""


def reference(models: tuple[type[BaseModel], ...]) -> str:
    """The page as Markdown."""
    seen: set[str] = set()
    parts = [_INTRODUCTION]
    for model in models:
        document = json_schema(model)
        definitions = {**document.get("$defs", {}), model.__name__: document}
        for name in _objects(model.__name__, definitions):
            if name not in seen:
                seen.add(name)
                parts.append(_section(name, definitions, level=2 if name == model.__name__ else 3))
    return "\n".join(parts)


def _objects(name: str, definitions: Mapping[str, Schema]) -> Iterator[str]:
    """The object, then those that its fields hold, depth first."""
    yield name
    for field in definitions[name]["properties"].values():
        for inner in _referenced(field):
            if "properties" in definitions[inner]:
                yield from _objects(inner, definitions)


def _referenced(schema: Schema) -> Iterator[str]:
    if "$ref" in schema:
        yield schema["$ref"].rpartition("/")[2]
    for branch in schema.get("anyOf", ()):
        yield from _referenced(branch)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _referenced(schema[key])


def _section(name: str, definitions: Mapping[str, Schema], level: int) -> str:
    definition = definitions[name]
    required = definition.get("required", ())
    lines = [f"{'#' * level} {name}", ""]
    if "description" in definition:
        lines += [_line(definition["description"]), ""]
    lines += ["| field | type | default | |", "|---|---|---|---|"]
    for field, schema in definition["properties"].items():
        shown = f"**{field}**" if field in required else field
        default = default_text(schema)
        cells = (
            shown,
            _type(schema, definitions),
            f"`{default}`" if default is not None else "",
            _described(schema, definitions),
        )
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    lines.append("")
    if rules := rules_of(name):
        lines += ["Refused by the API server:", "", *(f"- {rule.message}." for rule in rules), ""]
    return "\n".join(lines)


def _described(schema: Schema, definitions: Mapping[str, Schema]) -> str:
    own = schema.get("description") or next(
        (definitions[name].get("description", "") for name in _referenced(schema)), ""
    )
    return _line(own)


def _type(schema: Schema, definitions: Mapping[str, Schema]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        inner = definitions[name]
        return f"[{name}](#{name.lower()})" if "properties" in inner else _type(inner, definitions)
    if "anyOf" in schema:
        branches = [branch for branch in schema["anyOf"] if branch.get("type") != "null"]
        return _type(branches[0], definitions) if len(branches) == 1 else "number, text or boolean"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    match schema["type"]:
        case "array":
            return f"list of {_type(schema['items'], definitions)}"
        case "object":
            values = schema.get("additionalProperties")
            return f"map to {_type(values, definitions)}" if isinstance(values, dict) else "object"
        case kind:
            return f"{kind}{_bounds(schema)}"


def _bounds(schema: Schema) -> str:
    bounds = [
        f"{sign} {schema[key]:g}"
        for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if key in schema
    ]
    return f" {', '.join(bounds)}" if bounds else ""


def _line(text: str) -> str:
    return " ".join(text.split())
