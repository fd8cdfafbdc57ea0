"""A trial is the same on one machine and in a cluster; a status never keeps a tuning's file from loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from haqa_contract import Configuration, Estimate
from haqa_operator.api import Exchange, Proposal, Proposer, Trial, TrialPhase, TrialStatus
from haqa_operator.api.crd import definitions
from haqa_operator.api.loading import SpecError, load_tuning, parse_tuning
from haqa_operator.api.resources import QuantizationTrial, QuantizationTrialStatus

TRIAL = Trial(
    name="demo-a-3",
    tuning="demo",
    pool="a",
    number=3,
    proposal=Proposal(
        configuration=Configuration.of("W4A16", "gptq", 128, max_num_seqs=64, VLLM_USE_X=True),
        proposer=Proposer.AGENT,
        reasoning="Weights are what is read.",
        expected_percent=180,
        expected_low_percent=120,
        expected_high_percent=260,
        feasible_chance=0.7,
        exchanges=(Exchange(prompt_hash="0" * 64, model="m", prompt_tokens=900, reply='{"candidate": 0}'),),
        confirms="demo-a-002",
        note="asked twice",
    ),
)
DOCUMENT: dict[str, Any] = {
    "apiVersion": "haqa.dev/v1alpha1",
    "kind": "QuantizationTuning",
    "metadata": {"name": "demo", "uid": "1", "generation": 2},
    "spec": {"model": {"uri": "hf://org/x"}, "nodePools": [{"name": "a"}]},
}


def test_a_trial_comes_back_from_its_resource_unchanged() -> None:
    resource = QuantizationTrial.of(TRIAL, namespace="ml", fingerprint="0123456789ab")
    read = QuantizationTrial.model_validate(resource.model_dump(mode="json", by_alias=True, exclude_none=True))
    assert read.trial() == TRIAL


def test_the_trial_that_comes_back_has_every_field_of_a_proposal() -> None:
    assert TRIAL.proposal.model_fields_set == Proposal.model_fields.keys()


def test_the_outcome_of_a_trial_comes_back_from_its_resource_unchanged() -> None:
    status = TrialStatus(
        phase=TrialPhase.SUCCEEDED, metrics={"throughput": Estimate(value=2, low=1, high=3, n=3)}, finished=5
    )
    shown = QuantizationTrialStatus(**dict(status), throughput="2.0", queries={"throughput": "rate(x[1m])"})
    resource = QuantizationTrial.of(TRIAL).model_copy(update={"status": shown})
    assert resource.trial() == TRIAL.model_copy(update={"status": status})


def test_the_resource_of_a_trial_is_valid_and_readable() -> None:
    body = QuantizationTrial.of(TRIAL).model_dump(mode="json", by_alias=True, exclude_none=True)
    jsonschema.Draft4Validator(definitions()[1]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]).validate(body)
    assert body["spec"]["configuration"]["engine"] == {"VLLM_USE_X": True, "max-num-seqs": 64}
    assert body["spec"]["summary"] == "W4A16/gptq g128, VLLM_USE_X=True, max-num-seqs=64"


@pytest.mark.parametrize("status", [{"phase": "Running", "ofTheFuture": {"x": 1}}, {"phase": "Resting"}, "none"])
def test_a_file_loads_whatever_status_it_was_saved_with(tmp_path: Path, status: Any) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(yaml.safe_dump({**DOCUMENT, "status": status}))
    assert load_tuning(file) == parse_tuning(DOCUMENT)


def test_an_object_of_the_cluster_keeps_its_status_and_ignores_what_a_newer_operator_added() -> None:
    tuning = parse_tuning({**DOCUMENT, "status": {"phase": "Running", "ofTheFuture": {"x": 1}}})
    assert tuning.status is not None
    assert tuning.status.phase == "Running"


def test_the_first_of_listed_objectives_decides() -> None:
    listed = {**DOCUMENT["spec"], "objective": [{"metric": "throughput"}, {"metric": "ttft", "percentile": 95}]}
    spec = parse_tuning({**DOCUMENT, "spec": listed}).spec
    assert spec.objective.metric == "throughput"
    assert [str(objective.key) for objective in spec.objectives] == ["throughput", "ttft.p95"]


def test_a_mistake_in_listed_objectives_is_named_where_it_was_written() -> None:
    listed = {**DOCUMENT["spec"], "objective": [{"metric": "ttft", "percentile": 42}]}
    with pytest.raises(SpecError, match="percentile 42: choose one of"):
        parse_tuning({**DOCUMENT, "spec": listed})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"objective": []}, "objective is an empty list"),
        ({"objective": [{}], "paretoObjectives": [{}]}, "objective is a list beside paretoObjectives"),
    ],
)
def test_objectives_in_two_places_or_none_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        parse_tuning({**DOCUMENT, "spec": {**DOCUMENT["spec"], **change}})
