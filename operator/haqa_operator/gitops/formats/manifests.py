"""The manifests as a file for `kubectl apply` and for whatever applies the folder."""

from __future__ import annotations

import yaml

from haqa_operator.api.manifests import ManifestDumper
from haqa_operator.gitops.publications import Publication

_HEADER = "# Written by HAQA; {name}.haqa.md beside it says why. The next answer replaces this file.\n"


def as_yaml(publication: Publication) -> str:
    text = yaml.dump_all(
        publication.manifests,
        Dumper=ManifestDumper,
        sort_keys=False,
        width=120,
        allow_unicode=True,
        explicit_start=True,
    )
    return _HEADER.format(name=publication.name) + text
