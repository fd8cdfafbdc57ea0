"""Whether a manifest has only fields that Kubernetes has, of the types that it gives them."""

import re
from typing import Any

import kubernetes.client


def assert_fits(value: Any, type_name: str, path: str = "") -> None:
    """Unknown and mistyped fields, by the models that are generated from Kubernetes' OpenAPI document."""
    if inner := re.fullmatch(r"[Ll]ist\[(.*)\]", type_name):
        assert isinstance(value, list), path
        for i, item in enumerate(value):
            assert_fits(item, inner[1], f"{path}[{i}]")
    elif inner := re.fullmatch(r"[Dd]ict[(\[]str, (.*)[)\]]", type_name):
        assert isinstance(value, dict), path
        for key, item in value.items():
            assert_fits(item, inner[1], f"{path}[{key}]")
    elif model := getattr(kubernetes.client, type_name, None):
        types = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
        for key, item in value.items():
            assert key in types, f"{path}.{key} is not a field of {type_name}"
            assert_fits(item, types[key], f"{path}.{key}")
    elif type_name != "object":
        assert isinstance(value, {"str": str, "int": int, "bool": bool}[type_name]), f"{path}: {value!r}"
