"""Writes what `vllm_settings.json` holds: every setting of `vllm serve`, read from vLLM's own argument parser, every
architecture that it serves, and every format of quantized checkpoints that it loads.

Run it with the serving environment's interpreter, whenever the pinned vLLM changes:

    cd operator/haqa_operator/serving
    ../../../.venvs/serving/bin/python extract_settings.py vllm_settings.json

Other releases are added to `vllm_releases.json` by `python -m tests.upstream.releases`, which runs this over a wheel.

The control plane reads the file and never imports this module, which is a program of its own: it needs vLLM and
nothing of HAQA.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import inspect
import json
import os
import re
import sys
from enum import Enum
from pathlib import Path
from typing import Any

_PARSERS = {
    "loads": "json",
    "parse_dataclass": "json",
    "union_dict_and_str": "json-or-str",
    "human_readable_int": "count",
    "human_readable_int_or_auto": "count-or-auto",
}
_SCALARS = {int: "int", float: "float", str: "str", bool: "str"}


def extract() -> dict[str, Any]:
    """Version, settings and environment variables of the vLLM that is installed here."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    from vllm import __version__, envs
    from vllm.model_executor.models.registry import ModelRegistry

    make_arg_parser = first(
        "vllm.entrypoints.common.cli_args:make_arg_parser",
        "vllm.entrypoints.launchers.cli_args:make_arg_parser",
        "vllm.entrypoints.openai.cli_args:make_arg_parser",
    )
    FlexibleArgumentParser = first(
        "vllm.utils.argparse_utils:FlexibleArgumentParser", "vllm.utils:FlexibleArgumentParser"
    )

    # What vLLM has no code of its own for, it serves through transformers.
    architectures = {*ModelRegistry.get_supported_archs(), *MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()}
    parser = make_arg_parser(FlexibleArgumentParser())
    described = (describe(action) for action in parser._actions)
    settings = {name: setting for name, setting in filter(None, described)}
    return {
        "version": re.sub(r"\+.*", "", __version__),
        "settings": dict(sorted(settings.items())),
        "environment": sorted(name for name in envs.environment_variables if name.startswith("VLLM_")),
        "architectures": sorted(architectures),
        "quantization": quantization(),
    }


def first(*places: str) -> Any:
    """What lies at the first of these places that this release has, each `module:name`."""
    for place in places:
        module, _, name = place.partition(":")
        with contextlib.suppress(ImportError, AttributeError):
            return getattr(importlib.import_module(module), name)
    raise ImportError(f"this vLLM has none of {', '.join(places)}")


def quantization() -> dict[str, Any]:
    """What vLLM loads of quantized checkpoints: methods, what each needs, and the platforms that take some of them."""
    import vllm.platforms
    from vllm.model_executor.layers import quantization as methods

    def described(name: str) -> dict[str, Any]:
        loader = methods.get_quantization_config(name)
        found: dict[str, Any] = {}
        with contextlib.suppress(NotImplementedError, AssertionError):  # one says so this way, before 0.15
            found["capability"] = loader.get_min_capability()
        with contextlib.suppress(NotImplementedError, TypeError):  # one is written for instances
            found["dtypes"] = sorted(str(dtype).removeprefix("torch.") for dtype in loader.get_supported_act_dtypes())
        if name in getattr(methods, "DEPRECATED_QUANTIZATION_METHODS", ()):
            found["deprecated"] = True
        return found

    folder = Path(vllm.platforms.__file__).parent
    return {
        "methods": {name: described(name) for name in sorted(methods.QUANTIZATION_METHODS)},
        "platforms": {name: platform_methods(folder / f"{name}.py") for name in ("rocm", "xpu")},
    }


def platform_methods(path: Path) -> list[str]:
    """`supported_quantization` of a platform's class, which cannot be imported without its device."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.target.id == "supported_quantization"
            and node.value is not None
        ):
            return sorted(ast.literal_eval(node.value))
    return []


def describe(action: argparse.Action) -> tuple[str, dict[str, Any]] | None:
    """Name and description of one setting; None for what is not a setting (`--help`, the positional model)."""
    long = [option.removeprefix("--") for option in action.option_strings if option.startswith("--")]
    if not long or long[0] == "help":
        return None
    name, *others = long
    setting: dict[str, Any] = {"kind": _kind(action)}
    if choices := _choices(action):
        setting["choices"] = choices
    if aliases := [other for other in others if other != f"no-{name}"]:
        setting["aliases"] = aliases
    return name, setting


def _kind(action: argparse.Action) -> str:
    if isinstance(action, argparse.BooleanOptionalAction):
        return "switch"
    if action.nargs == 0:
        return "flag"
    parser = _inner_parser(action.type)
    return _PARSERS.get(getattr(parser, "__name__", "")) or _SCALARS.get(parser, "str")


def _inner_parser(parser: Any) -> Any:
    """What `optional_type(int)` and `parse_type(json.loads)` wrap: vLLM keeps it in a closure."""
    while callable(parser) and not inspect.isclass(parser):
        wrapped = inspect.getclosurevars(parser).nonlocals.get("return_type")
        if wrapped is None:
            return parser
        parser = wrapped
    return parser


def _choices(action: argparse.Action) -> list[Any]:
    """Allowed values, as they are written on the command line."""
    inner = _inner_parser(action.type)
    if action.choices is not None:
        values = [choice.value if isinstance(choice, Enum) else choice for choice in action.choices]
        return [value for value in values if value is not None]
    if inspect.isclass(inner) and issubclass(inner, Enum):
        return [member.value for member in inner]
    return []


def main() -> None:
    parser = argparse.ArgumentParser(description="Extract the settings of the installed vLLM.")
    parser.add_argument("output", type=Path, nargs="?", help="JSON file to write; by default standard output")
    output = parser.parse_args().output
    text = json.dumps(extract(), indent=1) + "\n"
    if output:
        output.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
