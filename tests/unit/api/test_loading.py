"""Every mistake in a tuning file is a sentence that names the field, the value and what to do."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from haqa_operator.api import SpecError, load_tuning
from haqa_operator.api.loading import parse_tuning
from haqa_operator.api.paths import resolved

VALID: dict[str, Any] = {
    "apiVersion": "haqa.dev/v1alpha1",
    "kind": "QuantizationTuning",
    "metadata": {"name": "demo"},
    "spec": {"model": {"uri": "file:///models/x"}, "nodePools": [{"name": "a"}]},
}


def variants(*named: tuple[str, str]) -> dict[str, Any]:
    listed = [{"label": label, "uri": uri} for label, uri in named]
    return {"model": {"uri": "file:///models/x", "variants": listed}}


def problems(change: dict[str, Any]) -> str:
    document = deepcopy(VALID)
    document["spec"].update(change)
    with pytest.raises(SpecError) as caught:
        parse_tuning(document)
    return str(caught.value)


def test_a_field_of_the_file_itself_that_is_not_known_is_named() -> None:
    with pytest.raises(SpecError, match=r"^Kind: unknown field \(value 'QuantizationTuning'\); did you mean kind\?"):
        parse_tuning({**{name: value for name, value in VALID.items() if name != "kind"}, "Kind": VALID["kind"]})


def test_a_minimal_tuning_is_valid() -> None:
    assert parse_tuning(VALID).spec.workload.concurrency == (1, 8)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"budget": {"maxTrials": 0}}, "spec.budget.maxTrials: 0 is not allowed"),
        ({"budget": {"maxDuration": "0s"}}, "spec.budget.maxDuration: 0s leaves no time for a trial"),
        ({"budget": {"maxDuration": "soon"}}, "'soon' is not a duration; write one like 45s"),
        ({"nodepools": []}, "spec.nodepools: unknown field (value []); did you mean nodePools?"),
        ({"Workload": {}}, "spec.Workload: unknown field (value {}); did you mean workload?"),
        ({"Objective": {}}, "spec.Objective: unknown field (value {}); did you mean objective?"),
        ({"objective": {"metrc": "x"}}, "spec.objective.metrc: unknown field (value 'x'); did you mean metric?"),
        (
            {"nodePools": [{"name": "here", "env": {"Foo": {}}}]},
            "spec.nodePools[0].env.Foo: {} is not allowed",
        ),
        (
            {"workload": {"inputToken": 5}},
            "spec.workload.inputToken: unknown field (value 5); did you mean inputTokens?",
        ),
        ({"workload": {"concurrency": []}}, "concurrency is empty"),
        ({"workload": {"concurrency": [4, 4]}}, "concurrency 4 is listed twice"),
        ({"model": {"uri": "/models/x"}}, "spec.model.uri: '/models/x' is not allowed"),
        (
            {"search": {"schemes": ["OTHER"]}},
            "spec.search.schemes[0]: OTHER is of published checkpoints and nothing to make; name those in model",
        ),
        (
            {"search": {"algorithms": ["published"]}},
            "published is of published checkpoints and nothing to make; name those in model.variants",
        ),
        (
            variants(("a", "hf://x/y"), ("a", "hf://x/z")),
            "variants: two are labelled 'a'; give each a label of its own",
        ),
        (variants(("a", "file:///models/x")), "variants: a is the model itself; leave it out"),
        (
            variants(("a", "pvc://one/x"), ("b", "pvc://two/x")),
            "model, variants and adapters lie in several claims (pvc://one, pvc://two); copy them into one",
        ),
        (
            {"model": {"uri": "hf://x/y", "adapters": [{"name": "a", "uri": f"hf://x/{n}"} for n in range(2)]}},
            "adapters: two are called 'a'; give each a name of its own",
        ),
        (
            {"model": {"uri": "hf://x/y", "adapters": [{"name": "demo", "uri": "hf://x/1"}]}},
            "model.adapters has one called 'demo', which is the tuning's name",
        ),
        (
            {"constraints": [{"metric": "adapter.sql", "max": 9}]},
            "constraints[0].metric adapter.sql: model.adapters has no 'sql'; add it there",
        ),
        (variants(("Their", "hf://x/y")), "spec.model.variants[0].label: 'Their' is not allowed"),
        ({"nodePools": [{"name": "a"}, {"name": "a"}]}, "two pools are called 'a'"),
        ({"constraints": [{"metric": "perplexity"}]}, "no limit; give min, max or maxDegradationPercent"),
        ({"constraints": [{"metric": "ttft", "min": 5, "max": 3}]}, "min 5 is above max 3"),
        (
            {"constraints": [{"metric": "ttft", "max": 3}, {"metric": "ttft", "min": 4}]},
            "constraints[0] and constraints[1] contradict: ttft <= 3, ttft >= 4",
        ),
        ({"constraints": [{"metric": "ttft", "percentile": 42, "max": 3}]}, "percentile 42: choose one of 50, 90"),
        ({"constraints": [{"metric": "perplexity", "percentile": 95, "max": 3}]}, "perplexity has none"),
        ({"constraints": [{"metric": "ttft", "concurrency": 3, "max": 9}]}, "concurrency 3 is not measured"),
        ({"constraints": [{"metric": "accuracy.arc", "min": 0.5}]}, "evaluation.tasks has no 'arc'"),
        ({"objective": {"metric": "throughputPerCost"}}, "nodePools[0].costPerHour is missing"),
        ({"search": {"schemes": ["W3A16"]}}, "spec.search.schemes[0]: 'W3A16' is not allowed"),
        ({"search": {"engine": {"max-num-seqs": 64}}}, "write max-num-seqs: [64]"),
        ({"search": {"engine": {"block-size": [1]}, "fixedEngine": {"block-size": 2}}}, "block-size is in engine and"),
        (
            {"serving": {"maxModelLen": 300}},
            "serving.maxModelLen 300 is less than one request of the workload, inputTokens 256 + outputTokens 128",
        ),
        (
            {"serving": {"maxModelLen": 512}, "evaluation": {"sequenceLength": 512}},
            "serving.maxModelLen 512 has no room for evaluation.sequenceLength 512 and one token more",
        ),
        (
            {"serving": {"maxModelLen": 512}, "search": {"fixedEngine": {"max-model-len": 1024}}},
            "search.fixedEngine.max-model-len 1024 is given beside serving.maxModelLen 512; leave it in one of them",
        ),
        (
            {"serving": {"maxModelLen": 512}, "search": {"engine": {"max-model-len": [512, 1024]}}},
            "search.engine.max-model-len (512, 1024) is given beside serving.maxModelLen 512",
        ),
        ({"artifacts": {"pvc": "x", "s3": "s3://b/x"}}, "2 of pvc, s3 and path given (pvc, s3)"),
    ],
)
def test_a_mistake_is_named_with_its_value_and_remedy(change: dict[str, Any], says: str) -> None:
    assert says in problems(change)


def test_all_mistakes_are_reported_at_once() -> None:
    assert len(problems({"budget": {"maxTrials": 0}, "workload": {"repeats": 0}}).splitlines()) == 2


def test_a_key_written_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("kind: A\nkind: B\n")
    with pytest.raises(SpecError, match="line 2: 'kind' is written twice"):
        load_tuning(file)


@pytest.mark.parametrize(("text", "says"), [("[1, 2]", "holds list"), ("a: [", "not valid YAML"), ("", "NoneType")])
def test_a_file_that_is_no_tuning_says_so(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(text)
    with pytest.raises(SpecError, match=says):
        load_tuning(file)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        load_tuning(tmp_path / "absent.yaml")


def test_relative_paths_start_at_the_file() -> None:
    document = deepcopy(VALID)
    document["spec"]["model"]["uri"] = "file://../models/x"
    tuning = resolved(parse_tuning(document), Path("/home/me/tunings"))
    assert tuning.spec.model.uri == "file:///home/me/models/x"
