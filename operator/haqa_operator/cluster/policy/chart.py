"""What the chart has of the policy: its rules for the API server, made from the same data as the operator's.

`python -m haqa_operator.cluster.policy.chart` writes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import yaml

from haqa_operator.api.manifests import ManifestDumper
from haqa_operator.cluster.policy.cel import validations

FILE: Final = "charts/haqa/files/policy-validations.yaml"
_HEADER: Final = "# Made from operator/haqa_operator/cluster/policy by `make generate`; changes go there.\n"


def generated_file() -> str:
    text: str = yaml.dump(validations(), Dumper=ManifestDumper, sort_keys=False, width=10_000, allow_unicode=True)
    return _HEADER + text


def main() -> None:
    path = Path(__file__).parents[4] / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(generated_file(), encoding="utf-8")


if __name__ == "__main__":
    main()
