"""The manifests that `haqa tune` writes: what was measured, mounted from a claim."""

from __future__ import annotations

from typing import Any

import yaml
from tests.builders import make_baseline, make_trial, make_tuning

from haqa_contract import Algorithm, Configuration, Scheme
from haqa_operator.api.trial import Trial
from haqa_operator.decision.choose import decide
from haqa_operator.decision.results import PoolResult
from haqa_operator.local.manifests import winner_manifest

MODEL = {
    "uri": "hf://org/name",
    "variants": [{"label": "theirs", "uri": "hf://nvidia/name"}],
    "adapters": [{"name": "sql", "uri": "hf://org/sql"}],
}


def served(configuration: Configuration, *arguments: str, **model: Any) -> tuple[str, dict[str, Any]]:
    """The file's first lines, and the pod's spec, where this configuration wins."""
    status = {"engine_args": ("--model=/here/model", *arguments), "artifact_digest": "3fa1"}

    def measured(trial: Trial) -> Trial:
        return trial.model_copy(update={"status": trial.status.model_copy(update=status)})

    trials = (
        measured(make_baseline().throughput(100, 1).obj()),
        measured(make_trial(1).of(configuration).throughput(200, 1).obj()),
    )
    tuning = make_tuning().having(model={**MODEL, **model}).obj()
    decision = decide(trials, tuning.spec.objectives, (), 3.0)
    text = winner_manifest(tuning, PoolResult(pool="here", hardware="a CPU", trials=trials, decision=decision))
    assert text is not None
    deployment = next(iter(yaml.safe_load_all(text)))
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return text.partition("---")[0], spec


def claims(spec: dict[str, Any]) -> dict[str, str]:
    return {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v}


def test_an_artifact_is_mounted_by_its_digest() -> None:
    comment, spec = served(Configuration.of("W8A8-INT8", "rtn"), adapters=[])
    assert "artifacts/3fa1/model of the store is expected in the claim haqa-artifacts." in comment
    assert claims(spec) == {"model": "haqa-artifacts"}


def test_a_published_checkpoint_is_named_and_mounted_whole() -> None:
    theirs = Configuration(scheme=Scheme.NVFP4, algorithm=Algorithm.PUBLISHED, variant="theirs@abc")
    comment, spec = served(theirs, adapters=[])
    assert "The model hf://nvidia/name is expected in the claim haqa-artifacts." in comment
    (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "model"]
    assert "subPath" not in mount


def test_adapters_are_mounted_where_the_command_looks_for_them() -> None:
    arguments = ("--enable-lora", "--lora-modules", "sql=/here/adapters/sql")
    comment, spec = served(Configuration.of("W4A16", "rtn"), *arguments)
    assert "claim haqa-artifacts, and the model's adapters as adapters/sql." in comment
    assert claims(spec) == {"model": "haqa-artifacts", "adapters": "haqa-artifacts"}
    engine = spec["containers"][0]
    assert engine["args"][2:4] == ["--lora-modules", "sql=/adapters/sql"]
    (mount,) = [m for m in engine["volumeMounts"] if m["name"] == "adapters"]
    assert mount == {"name": "adapters", "mountPath": "/adapters", "readOnly": True, "subPath": "adapters"}
