"""The released chart names the images that were signed, and is otherwise the chart."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from charts.by_digest import IMAGES, by_digest

VALUES = (Path(__file__).parents[3] / "charts" / "haqa" / "values.yaml").read_text()
REGISTRY = "registry.example/team"
DIGESTS = {name: f"sha256:{number:064x}" for number, name in enumerate(IMAGES)}


def test_every_image_is_named_by_its_digest_and_nothing_else_changes() -> None:
    before, after = yaml.safe_load(VALUES), yaml.safe_load(by_digest(VALUES, REGISTRY, DIGESTS))
    assert after["image"] | {"pullPolicy": ""} == {
        "repository": f"{REGISTRY}/haqa-operator",
        "tag": DIGESTS["haqa-operator"],
        "pullPolicy": "",
    }
    assert after["runner"]["image"] == {"repository": f"{REGISTRY}/haqa-runner", "tag": DIGESTS["haqa-runner"]}
    assert after["runner"]["images"] == {
        "amd": f"{REGISTRY}/haqa-runner@{DIGESTS['haqa-runner-rocm']}",
        "cpu": f"{REGISTRY}/haqa-runner@{DIGESTS['haqa-runner-cpu']}",
    }
    for values in (before, after):
        del values["image"]["repository"], values["image"]["tag"], values["runner"]["image"], values["runner"]["images"]
    assert after == before


def test_comments_stay() -> None:
    changed = by_digest(VALUES, REGISTRY, DIGESTS).splitlines()
    assert [line for line in changed if "#" in line] == [line for line in VALUES.splitlines() if "#" in line]


@pytest.mark.parametrize("digest", ["", "latest", "sha256:12", "sha256:" + "g" * 64])
def test_what_is_no_digest_is_refused_by_the_name_of_its_file(digest: str) -> None:
    with pytest.raises(ValueError, match=r"haqa-runner-cpu\.digest"):
        by_digest(VALUES, REGISTRY, {**DIGESTS, "haqa-runner-cpu": digest})


def test_values_that_name_images_already_are_refused() -> None:
    with pytest.raises(ValueError, match="where one is expected"):
        by_digest(by_digest(VALUES, REGISTRY, DIGESTS), REGISTRY, DIGESTS)
