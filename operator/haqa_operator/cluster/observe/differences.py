"""Whether an object is as somebody wants it: everything wanted is there, whatever else the API server has filled in."""

from __future__ import annotations

from typing import Any

from haqa_operator.api.manifests import Manifest

_WHOLE = frozenset({"selector", "matchLabels", "nodeSelector"})
"""Fields that the API server adds nothing to: more in them is a difference too."""
_KEYS = ("name", "containerPort", "mountPath", "topologyKey", "type", "key")
"""By which entries of lists are told apart, as in `x-kubernetes-list-map-keys`."""


def differs(wanted: Manifest, found: Manifest) -> bool:
    """Whether applying `wanted` may change `found`. In doubt yes: applying once too often does no harm.

    A label, an annotation or a field that is there and not wanted is not a difference: it may be somebody else's.
    """
    return any(not _covers(found.get(part), wanted[part]) for part in wanted if part not in ("apiVersion", "kind"))


def _covers(found: Any, wanted: Any) -> bool:
    match wanted:
        case dict():
            return all(_same(name, (found or {}).get(name), value) for name, value in wanted.items())
        case list():
            if len(found or []) != len(wanted):
                return False
            key = _key_of(wanted)
            if key is None:
                return all(_covers(there, value) for there, value in zip(found, wanted, strict=True))
            there = {item.get(key): item for item in found if isinstance(item, dict)}
            return all(_covers(there.get(item[key]), item) for item in wanted)
        case _:
            # The API server leaves out what is 0 or empty.
            return bool(found == wanted) or (found is None and not wanted)


def _same(name: str, found: Any, wanted: Any) -> bool:
    if name in _WHOLE and isinstance(wanted, dict) and not any(isinstance(value, dict) for value in wanted.values()):
        return (found or {}) == wanted
    return _covers(found, wanted)


def _key_of(items: list[Any]) -> str | None:
    if not items or not all(isinstance(item, dict) for item in items):
        return None
    return next((key for key in _KEYS if all(key in item for item in items)), None)
