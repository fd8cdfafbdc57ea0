"""Parsed trials: a reconciliation reads all trials of its tuning, and most of them ended long ago."""

from __future__ import annotations

from threading import Lock

from cachetools import LRUCache

from haqa_operator.api.manifests import Manifest
from haqa_operator.api.resources import QuantizationTrial


class TrialCache:
    """Parses each version of a trial once. Safe to use from several threads."""

    def __init__(self, size: int = 2000) -> None:
        self._parsed: LRUCache[tuple[str, str], QuantizationTrial] = LRUCache(size)
        self._lock = Lock()

    def read(self, manifest: Manifest) -> QuantizationTrial:
        """Raises pydantic's ValidationError for what is no trial."""
        metadata = manifest["metadata"]
        version = str(metadata["uid"]), str(metadata["resourceVersion"])
        with self._lock:
            known = self._parsed.get(version)
        if known is None:
            known = QuantizationTrial.model_validate(dict(manifest))
            with self._lock:
                self._parsed[version] = known
        return known
