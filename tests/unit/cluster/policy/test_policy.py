"""What a tuning may ask for is what the installation's policy says, in one sentence for each field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.kinds import DEPLOYMENT
from tests.fakes.simulated_cluster import NAMESPACE
from tests.policies import OPEN
from tests.unit.cluster.policy.cases import ALLOWED, POLICIES, REFUSED, Edit, mixed, single, tuning
from tests.unit.cluster.tunings import Operated

from haqa_operator.api.crd import definitions
from haqa_operator.api.loading import parse_tuning
from haqa_operator.cluster.edges.api_server import JOB
from haqa_operator.cluster.installation import Installation
from haqa_operator.cluster.policy import Policy, policy_problems
from haqa_operator.cluster.policy.chart import FILE, generated_file
from haqa_operator.cluster.policy.paths import steps
from haqa_operator.cluster.policy.problems import DOTS, alternatives, manifest_problems
from haqa_operator.cluster.policy.rules import OPEN as OPEN_FIELDS
from haqa_operator.cluster.policy.rules import RULES, worded

ROOT = Path(__file__).parents[4]
VALUES = yaml.safe_load((ROOT / "charts/haqa/values.yaml").read_text())["policy"]


@pytest.mark.parametrize(("sentence", "edits"), REFUSED.items(), ids=[sentence[:60] for sentence in REFUSED])
def test_what_crosses_a_boundary_is_refused_with_one_sentence(sentence: str, edits: tuple[Edit, ...]) -> None:
    (problem,) = policy_problems(parse_tuning(tuning(*edits)), Policy())
    assert problem.startswith(sentence)


@pytest.mark.parametrize("edits", ALLOWED, ids=str)
def test_what_is_the_tunings_own_is_allowed(edits: tuple[Edit, ...]) -> None:
    assert policy_problems(parse_tuning(tuning(*edits)), Policy()) == []


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_a_parsed_tuning_is_judged_as_it_was_written(policy: Policy) -> None:
    for manifest in [*single(), *mixed(100)]:
        assert policy_problems(parse_tuning(manifest), policy) == manifest_problems(manifest, policy)


@given(
    text=st.text(st.sampled_from('ab/."\\~0\n{:'), max_size=12) | st.from_regex(r'\A("[ab]/?[ab.]"[ :,]?){1,4}\Z'),
    entries=st.lists(st.sampled_from(["a/b", "a/*", "**", "a.b"]), max_size=2),
)
def test_words_are_told_as_the_api_server_tells_them(text: str, entries: list[str]) -> None:
    """The API server has one expression, which could take Python for ever where words are entries of the list too."""
    problems = manifest_problems(tuning(("nodePools.0.env", {"VLLM_USE_X": text})), Policy(engine_texts=tuple(entries)))
    allowed = re.fullmatch(worded(alternatives(entries)), text) and not re.search(DOTS.replace("$", r"\Z"), text)
    assert (problems == []) == bool(allowed)


def test_every_problem_is_said_at_once() -> None:
    edits = [edit for case in list(REFUSED.values())[:3] for edit in case if edit[0] != "nodePools.0.image"]
    edits += [("nodePools.0.image", "evil/x"), ("artifacts", {"pvc": "others"})]
    assert len(policy_problems(parse_tuning(tuning(*edits)), Policy())) == 3


def test_the_policy_of_the_chart_is_the_operators_own() -> None:
    assert Policy.model_validate(VALUES) == Policy()
    assert Policy().values == VALUES


def test_every_rule_is_about_a_value_of_the_chart_and_every_value_has_a_rule() -> None:
    assert {rule.value for rule in RULES} == VALUES.keys() - {"secretLabel"}


def fields(schema: dict[str, Any], path: str) -> Iterator[str]:
    """Of a resource, as rules name them."""
    inner = schema.get("properties")
    if inner:
        for name, below in inner.items():
            yield from fields(below, f"{path}.{name}")
    elif schema.get("type") == "array" and "properties" in schema["items"]:
        yield from fields(schema["items"], f"{path}[]")
    else:
        yield path


def test_every_field_of_a_tuning_is_decided_upon() -> None:
    """A new one belongs in `RULES`, or in `OPEN` where it reaches nothing that is not the tuning's own."""
    schema = next(one for one in definitions() if one["spec"]["names"]["kind"] == "QuantizationTuning")
    spec = schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    ruled = {re.sub(r"(\[\]|\{\*?\})+$", "", rule.path) for rule in RULES}
    known = list(fields(spec, "spec"))
    assert [one for one in known if one not in ruled and not opened(one)] == []
    assert ruled <= set(known), "a rule is about a field that is not there"
    assert [one for one in OPEN_FIELDS if not any(opened_by(one, field) for field in known)] == []


def opened(field: str) -> bool:
    return any(opened_by(one, field) for one in OPEN_FIELDS)


def opened_by(one: str, field: str) -> bool:
    return field == one or field.startswith((f"{one}.", f"{one}[]."))


def test_the_charts_rules_are_made_from_the_operators() -> None:
    assert (ROOT / FILE).read_text() == generated_file(), f"{FILE} is out of date: run `make generate`"


@pytest.mark.parametrize(
    ("entry", "matching", "other"),
    [
        ("a/b", ["a/b"], ["a/bc", "xa/b", "a.b", "A/b"]),
        ("a.b/*", ["a.b/c", "a.b/"], ["aXb/c", "a.b/c/d", "a.b"]),
        ("s3://x/**", ["s3://x/y/z", "s3://x/"], ["s3://xy/z", "s3://x"]),
        ("a+b", ["a+b"], ["aab"]),
        ("*", ["", "x"], ["x/y"]),
        ("**", ["", "x/y"], ["x\ny"]),
    ],
)
def test_a_star_stands_for_anything_but_a_slash_and_two_for_anything(
    entry: str, matching: list[str], other: list[str]
) -> None:
    pattern = re.compile(alternatives([entry]))
    assert [text for text in matching if not pattern.fullmatch(text)] == []
    assert [text for text in other if pattern.fullmatch(text)] == []


@given(st.text(max_size=30))
def test_an_empty_list_allows_nothing(text: str) -> None:
    assert re.fullmatch(f"({alternatives([])})", text) is None


@given(st.from_regex(r"\A[A-Za-z0-9._:/@~=,%+-]{1,30}\Z"))
def test_an_entry_without_stars_allows_itself_alone(entry: str) -> None:
    pattern = re.compile(alternatives([entry]))
    assert pattern.fullmatch(entry)
    assert not pattern.fullmatch(f"{entry}x")
    assert not pattern.fullmatch(entry.replace(".", "x")) or "." not in entry


def test_a_path_ends_at_each_list() -> None:
    assert [step.names for step in steps("spec.nodePools[].podTemplate.labels{}")] == [
        ("spec", "nodePools"),
        ("podTemplate", "labels"),
    ]


def test_the_operator_starts_nothing_that_the_policy_refuses() -> None:
    operated = Operated(installation=Installation(policy=Policy()))
    operated.submit(model={"uri": "pvc://others/model"})
    operated.reconcile()
    assert operated.status()["phase"] == "Failed"
    assert operated.condition("Degraded")["message"].startswith("spec.model.uri: pvc://others/model is not allowed")
    assert operated.cluster.api.list(JOB, NAMESPACE) == []


def test_what_serves_stays_when_the_policy_becomes_narrower() -> None:
    operated = Operated()
    operated.submit()
    operated.run()
    served = operated.cluster.api.list(DEPLOYMENT, NAMESPACE)
    operated.installation = Installation(policy=Policy(models=()))
    operated.restart()
    operated.reconcile()
    assert "spec.model.uri" in operated.condition("Degraded")["message"]
    assert operated.cluster.api.list(DEPLOYMENT, NAMESPACE) == served
    assert all(operated.pool(name)["best"] for name in ("full", "avx2"))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (None, "Secret llm is not there"),
        ({}, "Secret llm does not carry the label; label it haqa.dev/use-by=tunings, or name it in policy.secrets"),
        ({"haqa.dev/use-by": "others"}, "does not carry the label"),
        ({"haqa.dev/use-by": "tunings"}, None),
    ],
)
def test_a_secret_is_given_to_tunings_by_its_label(labels: dict[str, str] | None, said: str | None) -> None:
    policy = OPEN.model_copy(update={"secrets": (), "secret_label": "haqa.dev/use-by=tunings"})
    operated = Operated(installation=Installation(policy=policy))
    if labels is not None:
        metadata = {"name": "llm", "namespace": NAMESPACE, "labels": labels}
        operated.cluster.api.stand_in({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {}})
    operated.submit(search={"agent": {"model": "openai/x", "secretRef": {"name": "llm"}}})
    operated.reconcile()
    assert operated.errors == []
    message = operated.condition("Degraded")["message"]
    if said is None:
        assert "Secret" not in message
        assert operated.cluster.api.list(JOB, NAMESPACE)
    else:
        assert said in message
        assert operated.cluster.api.list(JOB, NAMESPACE) == []
