"""A kustomization that names one more file, and is otherwise as it was."""

from __future__ import annotations

from haqa_operator.gitops.formats.yaml_text import YamlPatchError, appended, value_at, with_value
from haqa_operator.gitops.publications import PublishError

_NEW = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: []\n"


def with_resource(text: str, file: str, path: str) -> str:
    """Raises PublishError: the kustomization is none, or cannot be added to."""
    try:
        there = value_at(text or _NEW, ("resources",))
        if there is None:
            return with_value(text or _NEW, ("resources",), [file])
        if not isinstance(there, list):
            raise YamlPatchError("resources is not a list")
        if any(entry in (file, f"./{file}") for entry in there):
            return text
        return appended(text or _NEW, ("resources",), file)
    except YamlPatchError as error:
        raise PublishError(
            f"spec.output.git.path: {path} cannot be added to: {error}; add `{file}` to its resources yourself, or "
            "rewrite it as plain YAML"
        ) from error
