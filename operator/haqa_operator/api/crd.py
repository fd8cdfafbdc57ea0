"""The custom resource definitions, in crds/ and in the chart, made from the models.

`python -m haqa_operator.api.crd` writes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel

from haqa_operator.api.approval import QuantizationApproval
from haqa_operator.api.base import API_GROUP, API_VERSION
from haqa_operator.api.manifests import Manifest, ManifestDumper
from haqa_operator.api.reference import reference
from haqa_operator.api.resources import QuantizationTrial
from haqa_operator.api.structural import structural_schema
from haqa_operator.api.tuning import QuantizationTuning

_HEADER = "# Made from operator/haqa_operator/api by `make generate`; changes go there.\n"


@dataclass(frozen=True)
class Column:
    """What `kubectl get` shows of an object.

    Attributes:
        path: JSONPath of the value.
        wide: Shown with `-o wide` alone.
    """

    name: str
    path: str
    description: str
    type: str = "string"
    wide: bool = False

    def manifest(self) -> Manifest:
        shown = {"name": self.name, "type": self.type, "jsonPath": self.path, "description": self.description}
        return {**shown, "priority": 1} if self.wide else shown


_AGE = Column("Age", ".metadata.creationTimestamp", "Time since it was created", type="date")

TUNING_COLUMNS = (
    Column("Phase", ".status.phase", "How far the tuning is"),
    Column("Best speed-up", ".status.bestSpeedup", "Best speed-up over the baseline among the pools"),
    Column("Pools", ".status.poolsDone", "Pools that have their answer, of all"),
    Column("Trials", ".status.trialsDone", "Finished trials, of all that there are"),
    _AGE,
    Column("Model", ".spec.model.uri", "The model that is tuned", wide=True),
    Column("Message", '.status.conditions[?(@.type=="Ready")].message', "Whether it is fine, or why not", wide=True),
)
TRIAL_COLUMNS = (
    Column("Pool", ".spec.pool", "The node pool it runs on"),
    Column("Configuration", ".spec.summary", "What is served and how"),
    Column("Phase", ".status.phase", "How far the trial is"),
    Column("Proposer", ".spec.proposer", "Who chose the configuration"),
    Column("Throughput", ".status.throughput", "Output tokens per second"),
    _AGE,
    Column("Reason", ".status.failure.reason", "Why it has no result", wide=True),
)
APPROVAL_COLUMNS = (
    Column("Tuning", ".spec.tuning", "The tuning whose winner may be deployed"),
    Column("Trial", ".spec.trial", "The winner"),
    Column("Approved by", ".spec.approvedBy", "Who says so"),
    Column("Expires", ".spec.expires", "When it ceases to count"),
    _AGE,
)


def definition(model: type[BaseModel], plural: str, short_name: str, columns: tuple[Column, ...]) -> Manifest:
    kind = model.__name__
    subresources: Manifest = {"subresources": {"status": {}}} if "status" in model.model_fields else {}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{API_GROUP}"},
        "spec": {
            "group": API_GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short_name],
                # Not `all`: `kubectl delete all --all` would take the measurements with it.
                "categories": ["haqa"],
            },
            "versions": [
                {
                    "name": API_VERSION.rpartition("/")[2],
                    "served": True,
                    "storage": True,
                    **subresources,
                    "additionalPrinterColumns": [column.manifest() for column in columns],
                    "schema": {"openAPIV3Schema": structural_schema(model)},
                }
            ],
        },
    }


def definitions() -> tuple[Manifest, ...]:
    return (
        definition(QuantizationTuning, "quantizationtunings", "qt", TUNING_COLUMNS),
        definition(QuantizationTrial, "quantizationtrials", "qtrial", TRIAL_COLUMNS),
        definition(QuantizationApproval, "quantizationapprovals", "qa", APPROVAL_COLUMNS),
    )


def generated_files() -> dict[str, str]:
    """Everything that is made from the models: path in the repository -> text."""
    texts = {f"{manifest['metadata']['name']}.yaml": _HEADER + _yaml(manifest) for manifest in definitions()}
    # For kubectl and for Helm, which installs only what lies in its chart.
    files = {f"{folder}/{name}": text for folder in ("crds", "charts/haqa/files/crds") for name, text in texts.items()}
    return {**files, "docs/reference.md": reference((QuantizationTuning, QuantizationTrial, QuantizationApproval))}


def _yaml(manifest: Manifest) -> str:
    return yaml.dump(manifest, Dumper=ManifestDumper, sort_keys=False, width=120, allow_unicode=True)


def main() -> None:
    root = Path(__file__).parents[3]
    for name, text in generated_files().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
