"""The custom resource definitions in a real API server: what it refuses, in which words, and what may still change."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.kubectl import Kubectl, Manifest, Refused
from tests.unit.api.rule_cases import ACCEPTED, REFUSED, VALID, tuning

from haqa_contract import Configuration
from haqa_operator.api import Proposal, Proposer, Trial
from haqa_operator.api.resources import QuantizationTrial

ROOT = Path(__file__).parents[2]


@pytest.fixture
def api(definitions: None, kubectl: Kubectl) -> Kubectl:
    return kubectl


def set_phase(api: Kubectl, name: str, phase: str) -> None:
    patch = f'{{"status": {{"phase": "{phase}"}}}}'
    api.run("patch", "quantizationtuning", name, "--subresource=status", "--type=merge", "--patch", patch)


def changed(**spec: Any) -> Manifest:
    document = deepcopy(VALID)
    document["spec"].update(spec)
    return document


@pytest.mark.parametrize(("change", "sentence"), REFUSED, ids=[sentence[:50] for _, sentence in REFUSED])
def test_a_bad_spec_is_refused_with_a_sentence(api: Kubectl, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        api.apply(tuning(change), dry_run=True)
    assert sentence in str(refused.value)


def test_good_specs_are_accepted(api: Kubectl) -> None:
    for change in ACCEPTED:
        api.apply(tuning(change), dry_run=True)


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_an_example_that_runs_on_one_machine_is_a_resource_of_a_cluster_too(api: Kubectl, example: Path) -> None:
    api.apply(yaml.safe_load(example.read_text()), dry_run=True)


def test_model_and_pools_may_change_until_the_tuning_has_started(api: Kubectl) -> None:
    api.apply(VALID)
    api.apply(changed(model={"uri": "hf://org/another"}))


@pytest.mark.parametrize(
    "change", [{"model": {"uri": "hf://org/another"}}, {"nodePools": [{"name": "b"}]}], ids=["model", "nodePools"]
)
def test_model_and_pools_are_fixed_once_it_runs_and_the_budget_is_not(api: Kubectl, change: dict[str, Any]) -> None:
    api.apply(VALID)
    set_phase(api, "demo", "Running")
    with pytest.raises(Refused, match="cannot change once the tuning has started"):
        api.apply(changed(**change))
    api.apply(changed(budget={"maxTrials": 30}, suspend=True))
    assert api.get("quantizationtuning", "demo")["spec"]["budget"]["maxTrials"] == 30


def test_a_price_may_change_while_it_runs_and_nothing_else_of_a_pool(api: Kubectl) -> None:
    pool = VALID["spec"]["nodePools"][0]
    api.apply(VALID)
    set_phase(api, "demo", "Running")
    api.apply(changed(nodePools=[{**pool, "costPerHour": 2.5}]))
    api.apply(changed(nodePools=[{**pool, "costPerHour": 3.5}]))
    api.apply(VALID)
    for other in ({"gpusPerReplica": 2}, {"podTemplate": {"labels": {"a": "b"}}}, {"env": {"A": "b"}}):
        with pytest.raises(Refused, match="nodePools cannot change once the tuning has started"):
            api.apply(changed(nodePools=[{**pool, **other, "costPerHour": 2.5}]))
    with pytest.raises(Refused, match="nodePools cannot change once the tuning has started"):
        api.apply(changed(nodePools=[pool, {**pool, "name": "another"}]))


def test_a_trial_comes_back_as_it_was_and_its_spec_stays(api: Kubectl) -> None:
    configuration = Configuration.of("W4A16", "rtn", max_num_seqs=64, enforce_eager=True)
    proposal = Proposal(configuration=configuration, proposer=Proposer.BAYESIAN, reasoning="why not")
    trial = Trial(name="demo-a-001", tuning="demo", pool="a", number=1, proposal=proposal)
    manifest = QuantizationTrial.of(trial).model_dump(mode="json", by_alias=True, exclude_none=True)
    api.apply(manifest)
    stored = api.get("quantizationtrial", "demo-a-001")
    assert QuantizationTrial.model_validate(stored).trial() == trial
    manifest["spec"]["number"] = 2
    with pytest.raises(Refused):
        api.apply(manifest)
