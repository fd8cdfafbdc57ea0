"""Manifests: Kubernetes objects as JSON, and as YAML for kubectl."""

from __future__ import annotations

import re
from typing import Any

import yaml

Manifest = dict[str, Any]
"""An object as the API server takes and gives it."""

_NUMBER = re.compile(r"[-+]?(0[box][\da-fA-F_]+|[\d_]*\.?[\d_]+\.?([eE][-+]?\d+)?)")
"""Whatever some YAML reader takes for a number; quoting one text too many does no harm."""


class ManifestDumper(yaml.SafeDumper):
    """Writes YAML that kubectl, which reads some of it otherwise than PyYAML, reads as it was meant.

    For kubectl a bare `n` or `y` is a boolean and `1e3` a number; for PyYAML they are text. And what occurs twice is
    written twice: an anchor is not for people to read.
    """

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = "'" if data.lower() in ("y", "n") or _NUMBER.fullmatch(data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


ManifestDumper.add_representer(str, ManifestDumper.represent_str)
