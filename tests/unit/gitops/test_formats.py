"""What a publication writes in each format."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from tests.publications import SERVICE, deployment, output, publication

from haqa_operator.gitops import Publication, PublishError
from haqa_operator.gitops.formats import changes, evidence_path

VALUES = """\
# Values of our chart.
image:
  repository: vllm/vllm-openai   # mirrored
  tag: v0.30.0
replicaCount: 4  # ours
engine:
  args:
    - --max-num-seqs=16
  # what follows is for debugging
  env: []
"""


def written(files: dict[str, str], made: Publication | None = None, **spec: Any) -> dict[str, str]:
    return {one.path: one.text for one in changes(made or publication(), output(**spec), files.get)}


def test_plain_is_one_file_with_all_manifests_as_they_are() -> None:
    files = written({})
    assert list(files) == ["apps/chat/chat-l40s.yaml"]
    assert list(yaml.safe_load_all(files["apps/chat/chat-l40s.yaml"])) == [deployment(), SERVICE]


def test_files_may_lie_at_the_root_of_the_repository() -> None:
    assert list(written({}, path=".")) == ["chat-l40s.yaml"]
    assert evidence_path(publication(), output(path=".")) == "chat-l40s.haqa.md"


def test_a_report_lies_beside_the_manifests() -> None:
    made = publication(attachments={"report.html": "<p>"})
    assert written({}, made)["apps/chat/chat-l40s.haqa.report.html"] == "<p>"


@pytest.mark.parametrize("name", ["kustomization.yaml", "kustomization.yml", "Kustomization"])
def test_a_kustomization_gets_one_line(name: str) -> None:
    before = "resources:\n- a.yaml  # first\n\n# labels\nlabels: []\n"
    files = written({f"apps/chat/{name}": before}, format="Kustomize")
    assert files[f"apps/chat/{name}"] == before.replace("# first\n", "# first\n- chat-l40s.yaml\n")


@pytest.mark.parametrize("entry", ["chat-l40s.yaml", "./chat-l40s.yaml"])
def test_a_kustomization_that_names_the_file_stays(entry: str) -> None:
    before = f"resources: ['{entry}']\n"
    files = written({"apps/chat/kustomization.yaml": before}, format="Kustomize")
    assert files["apps/chat/kustomization.yaml"] == before


def test_a_kustomization_is_made_where_there_is_none() -> None:
    made = yaml.safe_load(written({}, format="Kustomize")["apps/chat/kustomization.yaml"])
    assert made == {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["chat-l40s.yaml"],
    }


def test_a_kustomization_that_is_none_is_refused() -> None:
    with pytest.raises(PublishError, match=r"resources is not a list; add `chat-l40s.yaml`"):
        written({"apps/chat/kustomization.yaml": "resources: x\n"}, format="Kustomize")


def helm(values: dict[str, str], text: str = VALUES, made: Publication | None = None) -> str:
    return written({"values.yaml": text}, made, format="HelmValues", path="values.yaml", values=values)["values.yaml"]


def test_values_are_replaced_and_comments_stay() -> None:
    values = {"imageTag": "image.tag", "args": "engine.args", "env": "engine.env"}
    assert helm(values) == (
        VALUES.replace("v0.30.0", "v0.32.0")
        .replace("    - --max-num-seqs=16\n", "    - /models/chat\n    - --max-num-seqs=64\n")
        .replace("  env: []\n", "  env:\n    - name: VLLM_USE_V1\n      value: '1'\n")
    )


def test_values_that_are_missing_are_made() -> None:
    read = yaml.safe_load(helm({"nodeSelector": "nodeSelector", "tolerations": "pod.tolerations"}))
    assert read["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L40S"}
    assert read["pod"] == {"tolerations": [{"key": "gpu", "operator": "Exists"}]}


@pytest.mark.parametrize(
    ("image", "repository", "tag"),
    [
        ("vllm/vllm-openai:v0.32.0", "vllm/vllm-openai", "v0.32.0"),
        ("host:5000/vllm:v1", "host:5000/vllm", "v1"),
        ("host:5000/vllm:v1@sha256:ab", "host:5000/vllm", "v1@sha256:ab"),
    ],
)
def test_an_image_is_taken_apart(image: str, repository: str, tag: str) -> None:
    made = publication(manifests=(deployment(image=image),))
    read = yaml.safe_load(helm({"image": "a", "imageRepository": "b", "imageTag": "c"}, "{}\n", made))
    assert read == {"a": image, "b": repository, "c": tag}


def test_an_image_without_a_tag_is_said() -> None:
    made = publication(manifests=(deployment(image="host:5000/vllm@sha256:ab"),))
    with pytest.raises(PublishError, match=r"values\.imageTag: image\.tag cannot be replaced in values\.yaml"):
        helm({"imageTag": "image.tag"}, made=made)


def test_a_values_file_that_is_missing_is_said() -> None:
    with pytest.raises(PublishError, match=r"branch main has no file values\.yaml"):
        written({}, format="HelmValues", path="values.yaml", values={"args": "a"})


def test_a_path_through_a_number_is_said() -> None:
    with pytest.raises(PublishError, match=r"spec\.output\.git\.values\.args: replicaCount\.args cannot be replaced"):
        helm({"args": "replicaCount.args"})
