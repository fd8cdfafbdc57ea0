"""What a publication writes to a repository, one module for each format. Text in, text out."""

from __future__ import annotations

import posixpath
from collections.abc import Callable

from haqa_operator.api.git_output import GitFormat, GitOutput
from haqa_operator.gitops.formats.helm_values import patched_values
from haqa_operator.gitops.formats.kustomize import with_resource
from haqa_operator.gitops.formats.manifests import as_yaml
from haqa_operator.gitops.publications import Change, Publication, PublishError

__all__ = ["changes", "evidence_path"]

_KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")


def evidence_path(publication: Publication, output: GitOutput) -> str:
    return _inside(_folder(output), f"{publication.name}.haqa.md")


def changes(publication: Publication, output: GitOutput, read: Callable[[str], str | None]) -> tuple[Change, ...]:
    """The files without the evidence.

    Args:
        read: A file of the repository; None where there is none.

    Raises:
        PublishError: a file of the user's cannot be changed as the spec asks.
    """
    folder = _folder(output)
    beside = tuple(
        Change(_inside(folder, f"{publication.name}.haqa.{name}"), text, owned=True)
        for name, text in sorted(publication.attachments.items())
    )
    if output.format is GitFormat.HELM_VALUES:
        before = read(output.path)
        if before is None:
            raise PublishError(
                f"spec.output.git.path: branch {output.branch} has no file {output.path}; create it, or name the "
                "values file of your chart"
            )
        assert output.values is not None
        return (Change(output.path, patched_values(before, output.values, publication, output.path), False), *beside)
    file = f"{publication.name}.yaml"
    manifests = Change(_inside(folder, file), as_yaml(publication), owned=True)
    if output.format is GitFormat.PLAIN:
        return (manifests, *beside)
    for name in _KUSTOMIZATIONS:
        path = _inside(folder, name)
        if (text := read(path)) is not None:
            return (manifests, Change(path, with_resource(text, file, path), owned=False), *beside)
    path = _inside(folder, _KUSTOMIZATIONS[0])
    return (manifests, Change(path, with_resource("", file, path), owned=False), *beside)


def _folder(output: GitOutput) -> str:
    return posixpath.dirname(output.path) if output.format is GitFormat.HELM_VALUES else output.path


def _inside(folder: str, name: str) -> str:
    return posixpath.normpath(posixpath.join(folder, name))
