"""Which releases of vLLM HAQA knows, and what `extract_settings.py` found in each.

`vllm_settings.json` is the release that HAQA is made for, whole. `vllm_releases.json` has the others as what differs,
each from its neighbour on the way there, so that a release can be reviewed by what it changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any

from haqa_operator.serving.versions import Version, parse_version

Extracted = Mapping[str, Any]
"""As `extract_settings.extract` returns it."""

_LISTS = ("environment", "architectures")


@cache
def made_for() -> Version:
    """The release whose images are the default, and with which everything is tested."""
    return parse_version(_whole()["version"])


@cache
def known_releases() -> tuple[Version, ...]:
    """All that are in the catalogue, the oldest first: one of each minor version, the last of its patches."""
    return tuple(sorted((made_for(), *map(parse_version, _changes()))))


def oldest_release() -> Version:
    """Older engines are refused."""
    return known_releases()[0][0], known_releases()[0][1], 0


def nearest_release(version: Version) -> Version:
    """The release of the catalogue that says what an engine takes: of its minor version, or else the next older."""
    same = [known for known in known_releases() if known[:2] == version[:2]]
    older = [known for known in known_releases() if known <= version]
    return (same or older or known_releases()[:1])[-1]


@cache
def extracted(release: Version) -> Extracted:
    """What was found in a release of the catalogue."""
    if release == made_for():
        return _whole()
    change = next(change for text, change in _changes().items() if parse_version(text) == release)
    return changed(extracted(parse_version(change["from"])), change)


def changed(before: Extracted, change: Mapping[str, Any]) -> Extracted:
    """One release out of its neighbour and `difference` of the two."""
    after: dict[str, Any] = {
        "version": change["version"],
        "settings": _merged(before["settings"], change["settings"]),
        "quantization": {
            part: _merged(before["quantization"][part], change["quantization"][part])
            for part in ("methods", "platforms")
        },
    }
    for name in _LISTS:
        kept = set(before[name]) - set(change[name]["removed"])
        after[name] = sorted(kept | set(change[name]["added"]))
    return after


def difference(before: Extracted, after: Extracted) -> dict[str, Any]:
    """What `changed` needs to make `after` out of `before`."""
    return {
        "version": after["version"],
        "from": before["version"],
        "settings": _differing(before["settings"], after["settings"]),
        **{name: _moved(before[name], after[name]) for name in _LISTS},
        "quantization": {
            part: _differing(before["quantization"][part], after["quantization"][part])
            for part in ("methods", "platforms")
        },
    }


def _merged(before: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in sorted((dict(before) | dict(change)).items()) if value is not None}


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """None for what is gone."""
    names = sorted({*before, *after})
    return {name: after.get(name) for name in names if before.get(name) != after.get(name)}


def _moved(before: Iterable[str], after: Iterable[str]) -> dict[str, list[str]]:
    return {"added": sorted({*after} - {*before}), "removed": sorted({*before} - {*after})}


@cache
def _whole() -> Extracted:
    return _read("vllm_settings.json")


@cache
def _changes() -> Mapping[str, Mapping[str, Any]]:
    return _read("vllm_releases.json")


def _read(name: str) -> Mapping[str, Any]:
    data: Mapping[str, Any] = json.loads(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))
    return data
