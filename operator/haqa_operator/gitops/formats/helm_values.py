"""A values file in which the values that the spec names are replaced, and is otherwise as it was."""

from __future__ import annotations

import re
from typing import Any

from haqa_operator.api.git_output import GitValues
from haqa_operator.api.manifests import Manifest
from haqa_operator.gitops.formats.yaml_text import Step, YamlPatchError, with_value
from haqa_operator.gitops.publications import Publication, PublishError

_STEP = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)|\[(\d+)\]")


def patched_values(text: str, values: GitValues, publication: Publication, path: str) -> str:
    """Raises PublishError: a value has no place in the file."""
    pod = _pod(publication)
    for field, dotted in values.given.items():
        try:
            text = with_value(text, steps(dotted), _value(field, pod))
        except YamlPatchError as error:
            raise PublishError(
                f"spec.output.git.values.{field}: {dotted} cannot be replaced in {path}: {error}; change the path, or "
                "the file"
            ) from error
    return text


def steps(dotted: str) -> tuple[Step, ...]:
    """`models[0].env` as ("models", 0, "env")."""
    return tuple(name or int(index) for name, index in _STEP.findall(dotted))


def _pod(publication: Publication) -> Manifest:
    for manifest in publication.manifests:
        pod: Manifest = manifest.get("spec", {}).get("template", {}).get("spec", {})
        if pod.get("containers"):
            return pod
    raise PublishError("spec.output.git.format: HelmValues takes its values from a workload, and this answer has none")


def _value(field: str, pod: Manifest) -> Any:
    container = pod["containers"][0]
    repository, tag = _image_parts(container["image"])
    if field == "imageTag" and not tag:
        raise YamlPatchError(f"the image {container['image']} has no tag")
    plain = {
        "image": container["image"],
        "imageRepository": repository,
        "imageTag": tag,
        "nodeSelector": pod.get("nodeSelector", {}),
        "tolerations": pod.get("tolerations", []),
        "resources": container.get("resources", {}),
    }
    return plain[field] if field in plain else container.get(field, [])


def _image_parts(image: str) -> tuple[str, str]:
    """Repository, and tag with digest; a port in front of the first slash is no tag."""
    name, at, digest = image.partition("@")
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        return name, ""
    return head, f"{tag}{at}{digest}"
