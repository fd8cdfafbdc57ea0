"""A cluster's report is what its trials say, and is kept as long as its answer."""

from __future__ import annotations

import base64
import gzip

import pytest
from tests.fakes.simulated_cluster import NAMESPACE
from tests.unit.cluster.tunings import ONE_POOL, Operated

from haqa_operator.api.manifests import Manifest
from haqa_operator.api.resources import QuantizationTrial
from haqa_operator.cluster.build import report
from haqa_operator.cluster.build.report import EVIDENCE, PAGE, build_report_map, comparable, kept_report
from haqa_operator.cluster.edges.api_server import CONFIG_MAP, TRIAL


@pytest.fixture(scope="module")
def operated() -> Operated:
    made = Operated()
    made.submit(**ONE_POOL, confirmation={"rounds": 3})
    made.run()
    return made


@pytest.fixture
def kept(operated: Operated) -> Manifest:
    (found,) = operated.cluster.api.list(CONFIG_MAP, NAMESPACE)
    return found


def test_what_is_kept_is_the_answer_with_its_evidence(operated: Operated, kept: Manifest) -> None:
    (record,) = operated.records()
    found = kept_report(kept)
    (pool,) = found.pools
    data = record["data"]
    assert pool.decision.winner == data["trial"]
    assert pool.decision.reason == data["reason"]
    assert pool.decision.confirmed
    assert pool.confirmation is not None
    assert pool.stopped
    assert {trial.configuration.scheme.value for trial in pool.trials} == {"BF16", "W8A8-INT8", "W4A16"}
    assert not any(trial.is_confirmation for trial in pool.trials)
    assert data["manifests"][0]["metadata"]["name"] in found.manifests["full"]
    assert found.spec_yaml.startswith("---\napiVersion: haqa.dev/v1alpha1\nkind: QuantizationTuning\n")
    assert "uid" not in found.spec_yaml


def test_the_page_that_is_kept_needs_no_plotting_library(kept: Manifest) -> None:
    page = gzip.decompress(base64.b64decode(kept["binaryData"][PAGE]))
    assert b"W8A8-INT8/rtn" in page
    assert len(page) < 200_000
    assert sum(map(len, kept["binaryData"].values())) < 100_000


def test_what_is_too_large_is_left_out(operated: Operated, kept: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    (record,) = operated.records()
    sizes = {name: len(base64.b64decode(content)) for name, content in kept["binaryData"].items()}
    monkeypatch.setattr(report, "MOST_BYTES", sizes[EVIDENCE] + 100)
    without_page = build_report_map(kept_report(kept), record)
    assert without_page is not None
    assert set(without_page["binaryData"]) == {EVIDENCE}
    monkeypatch.setattr(report, "MOST_BYTES", 100)
    assert build_report_map(kept_report(kept), record) is None


def test_trials_of_another_search_are_not_compared(operated: Operated) -> None:
    trials = [QuantizationTrial.model_validate(one) for one in operated.cluster.api.list(TRIAL, NAMESPACE)]
    spec = {"number": 99, "fingerprint": "another"}
    extra = {"creationTimestamp": "2030-01-01T00:00:00Z"}
    old = trials[0]
    newer = old.model_copy(
        update={
            "spec": old.spec.model_copy(update=spec),
            "metadata": old.metadata.model_validate({"name": "newer", **extra}),
        }
    )
    assert [one.name for one in comparable([*trials, newer], None)] == ["newer"]
    earlier = comparable([*trials, newer], old.metadata.name)
    assert [one.number for one in earlier] == sorted(trial.spec.number for trial in trials)
    assert comparable([], None) == ()
