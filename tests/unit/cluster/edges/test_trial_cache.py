"""Each version of a trial is parsed once."""

from __future__ import annotations

from typing import Any

from haqa_operator.cluster.edges.trial_cache import TrialCache


def trial(version: str, phase: str | None = None) -> dict[str, Any]:
    spec = {"tuning": "demo", "pool": "here", "number": 1, "configuration": {}, "proposer": "grid"}
    return {
        "apiVersion": "haqa.dev/v1alpha1",
        "kind": "QuantizationTrial",
        "metadata": {"name": "demo-here-001", "uid": "trial-1", "resourceVersion": version},
        "spec": spec,
        "status": {"phase": phase} if phase else {},
    }


def test_a_trial_is_parsed_again_only_where_it_has_changed() -> None:
    cache = TrialCache()
    assert cache.read(trial("1")) is cache.read(trial("1"))
    assert cache.read(trial("2", "Measuring")).trial().status.phase == "Measuring"
