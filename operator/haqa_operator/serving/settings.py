"""vLLM's settings: which exist, what values they take, and what is wrong with those that a tuning names.

The catalogue of each release (`releases`) is written by `extract_settings.py` from vLLM's own argument parser. So a
misspelt setting, or one that a pool's engine does not have, is a sentence before any time is spent, not an engine that
does not start.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from typing import Any

from haqa_contract import Scalar
from haqa_operator.api.pools import NodePool
from haqa_operator.api.search_spec import Search
from haqa_operator.serving.environment import check_variable, is_variable
from haqa_operator.serving.releases import extracted, known_releases, made_for, nearest_release
from haqa_operator.serving.reserved import why_setting_is_reserved
from haqa_operator.serving.versions import Version, dotted


class SettingKind(StrEnum):
    """How a setting's value is written on the command line."""

    SWITCH = "switch"
    """`--enforce-eager` or `--no-enforce-eager`"""
    FLAG = "flag"
    """`--disable-log-stats`, or nothing"""
    INT = "int"
    FLOAT = "float"
    STR = "str"
    JSON = "json"
    JSON_OR_STR = "json-or-str"
    COUNT = "count"
    """A whole number, also as 2k, 2K (2048) or 25.6k"""
    COUNT_OR_AUTO = "count-or-auto"

    @property
    def is_boolean(self) -> bool:
        return self in (SettingKind.SWITCH, SettingKind.FLAG)


@dataclass(frozen=True)
class Setting:
    """One command-line setting of vLLM.

    Attributes:
        choices: The allowed values; empty where vLLM does not list them.
        aliases: Other names that vLLM takes for it.
    """

    name: str
    kind: SettingKind
    choices: tuple[int | str, ...] = ()
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class QuantizationMethod:
    """One of vLLM's loaders of quantized checkpoints.

    Attributes:
        capability: Smallest compute capability, 75 for 7.5; 0 where it says none.
        dtypes: Types that it computes in beside quantized ones; empty where it does not say.
        deprecated: Only loads where `allow-deprecated-quantization` is given.
    """

    capability: int = 0
    dtypes: frozenset[str] = frozenset()
    deprecated: bool = False


@dataclass(frozen=True)
class Catalogue:
    """What one vLLM version takes.

    Attributes:
        architectures: That it serves, as `architectures` of a config.json names them.
        quantization: Its loaders of quantized checkpoints, by name.
        platform_quantization: Platform -> the only ones of these that it has there.
    """

    version: str
    settings: Mapping[str, Setting]
    variables: frozenset[str]
    architectures: frozenset[str]
    quantization: Mapping[str, QuantizationMethod]
    platform_quantization: Mapping[str, frozenset[str]]


def catalogue(version: Version | None = None) -> Catalogue:
    """What an engine of a version takes, by the release next to it; None = the release that HAQA is made for."""
    return _of_release(made_for() if version is None else nearest_release(version))


@cache
def _of_release(release: Version) -> Catalogue:
    data = extracted(release)
    settings = {name: _setting(name, fields) for name, fields in data["settings"].items()}
    quantization = data["quantization"]
    return Catalogue(
        data["version"],
        settings,
        frozenset(data["environment"]),
        frozenset(data["architectures"]),
        {name: _method(fields) for name, fields in quantization["methods"].items()},
        {name: frozenset(methods) for name, methods in quantization["platforms"].items() if methods},
    )


def _method(fields: Mapping[str, Any]) -> QuantizationMethod:
    return QuantizationMethod(
        capability=fields.get("capability", 0),
        dtypes=frozenset(fields.get("dtypes", ())),
        deprecated=fields.get("deprecated", False),
    )


def _setting(name: str, fields: Mapping[str, Any]) -> Setting:
    return Setting(
        name,
        SettingKind(fields["kind"]),
        choices=tuple(fields.get("choices", ())),
        aliases=tuple(fields.get("aliases", ())),
    )


def check_settings(settings: Mapping[str, Scalar]) -> list[str]:
    """One sentence for each setting that no vLLM would take or that HAQA does not allow, starting with its name.

    What only some releases take is for each pool to say: `why_not_taken`.
    """
    found = ((name, _problem(name, value)) for name, value in settings.items())
    return [f"{name} {problem}" for name, problem in found if problem]


def check_search(search: Search) -> list[str]:
    """Problems of `search.engine` and `search.fixedEngine`, each starting with the field's path."""
    problems = [
        f"search.engine.{name} {problem}"
        for name, values in search.engine.items()
        for problem in dict.fromkeys(_problem(name, value) for value in values)
        if problem
    ]
    return problems + [f"search.fixedEngine.{problem}" for problem in check_settings(search.fixed_engine)]


def check_pool_env(pool: NodePool) -> list[str]:
    """Problems of a pool's `env`, each starting with the field's path."""
    found = ((name, _problem(name, value)) for name, value in pool.env.items())
    return [f'nodePools "{pool.name}".env.{name} {problem}' for name, problem in found if problem]


@lru_cache(4096, typed=True)
def why_not_taken(name: str, value: Scalar, version: Version) -> str | None:
    """Why an engine of this version does not take a setting that engines of others do; None where it does."""
    here = catalogue(version)
    problem = _problem_in(here, name, value)
    if problem is None:
        return None
    if name in here.settings:
        return f"vLLM {dotted(version)} does not take {name} {value}: it {problem}"
    having = [one for one in known_releases() if {name} & {*catalogue(one).settings, *catalogue(one).variables}]
    if not having:
        return f"vLLM {dotted(version)} has no {name}"
    newer = [one for one in having if one > version]
    which = f"vLLM {dotted(newer[0])} has it" if newer else f"vLLM {dotted(having[-1])} was the last that had it"
    return f"vLLM {dotted(version)} has no {name}; {which}"


def _problem(name: str, value: Scalar) -> str | None:
    problem = _problem_in(catalogue(), name, value)
    if problem is None or any(_problem_in(catalogue(one), name, value) is None for one in known_releases()):
        return None
    return problem


def _problem_in(found: Catalogue, name: str, value: Scalar) -> str | None:
    if is_variable(name):
        return check_variable(name, value, found.variables)
    return _name_problem(found, name) or _value_problem(found.settings[name], value)


def _name_problem(found: Catalogue, name: str) -> str | None:
    settings = found.settings
    if reason := why_setting_is_reserved(name):
        return f"cannot be set here: {reason}"
    if name in settings:
        return None
    known_as = {alias: setting.name for setting in settings.values() for alias in setting.aliases}
    plain = name.lstrip("-").replace("_", "-").lower()
    if plain in settings or plain in known_as:
        return f"is not how HAQA writes it; write {known_as.get(plain, plain)}"
    positive = plain.removeprefix("no-")
    if positive in settings and settings[positive].kind is SettingKind.SWITCH:
        return f"is not how HAQA writes it; write {positive}: false"
    close = difflib.get_close_matches(plain, settings, n=1)
    hint = f"did you mean {close[0]}?" if close else "see `vllm serve --help=all` for its settings"
    return f"is not a setting of vLLM {found.version}; {hint}"


def _value_problem(setting: Setting, value: Scalar) -> str | None:
    if setting.kind.is_boolean:
        return None if isinstance(value, bool) else f"is {value!r}, but it is a switch; give true or false"
    if isinstance(value, bool):
        return f"is {str(value).lower()}, but it is not a switch; {_wanted(setting)}"
    if not _fits(setting, value):
        return f"is {value!r}; {_wanted(setting)}"
    if setting.choices and not _chosen(setting, value):
        return f"is {value!r}; {_wanted(setting)}"
    return None


_COUNT = re.compile(r"\d+[kKmMgGtT]?|\d+\.\d+[kmgt]")


def _fits(setting: Setting, value: int | float | str) -> bool:
    """Whether vLLM's parser for this kind takes the value."""
    text = str(value)
    match setting.kind:
        case SettingKind.INT:
            return re.fullmatch(r"-?\d+", text) is not None
        case SettingKind.FLOAT:
            return _is_number(text)
        case SettingKind.COUNT:
            return _COUNT.fullmatch(text) is not None
        case SettingKind.COUNT_OR_AUTO:
            return text in ("auto", "-1") or _COUNT.fullmatch(text) is not None
        case SettingKind.JSON:
            return _is_json(text)
        case SettingKind.JSON_OR_STR:
            return _is_json(text) if text.lstrip().startswith("{") else _is_text(text)
        case _:
            return _is_text(text)


def _is_text(text: str) -> bool:
    return bool(text) and text.isprintable()


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text) is not None


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def _chosen(setting: Setting, value: int | float | str) -> bool:
    # vLLM takes `flashinfer-trtllm` for `flashinfer_trtllm` in its backends, and no choices differ in that alone.
    return str(value).replace("-", "_") in {str(choice).replace("-", "_") for choice in setting.choices}


def _wanted(setting: Setting) -> str:
    if setting.choices:
        close = "one of " if len(setting.choices) > 1 else ""
        return f"give {close}{', '.join(map(str, setting.choices))}"
    return {
        SettingKind.INT: "give a whole number",
        SettingKind.FLOAT: "give a number",
        SettingKind.COUNT: "give a whole number like 2048 or 2k",
        SettingKind.COUNT_OR_AUTO: "give a whole number like 2048 or 2k, or auto",
        SettingKind.JSON: "give JSON in one string, like '{\"name\": 1}'",
        SettingKind.JSON_OR_STR: "give text, or valid JSON in one string",
    }.get(setting.kind, "give printable text")
