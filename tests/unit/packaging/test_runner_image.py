"""The runner's image can build what Triton builds on a GPU: with a compiler, and into a folder that can be written."""

from __future__ import annotations

import re
from pathlib import Path

DOCKERFILE = Path(__file__).parents[3] / "Dockerfile.runner"


def last_stage() -> str:
    """The instructions of the stage that becomes the image, one to a line."""
    joined = DOCKERFILE.read_text().replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    first = max(number for number, line in enumerate(lines) if line.startswith("FROM "))
    return "\n".join(lines[first:])


def test_the_image_gets_a_c_compiler_and_leaves_no_package_lists() -> None:
    stage = last_stage()
    (installing,) = re.findall(r"^RUN .*apt-get.*$", stage, re.MULTILINE)
    assert "apt-get install --yes --no-install-recommends" in installing
    assert {"gcc", "libc6-dev"} <= set(re.findall(r"[\w.-]+", installing))
    assert "rm -rf /var/lib/apt/lists/*" in installing
    assert stage.index("apt-get") < stage.index("\nUSER 10001")


def test_the_build_fails_where_the_compiler_does_not_work() -> None:
    (installing,) = re.findall(r"^RUN .*apt-get.*$", last_stage(), re.MULTILINE)
    assert "compiler_problem" in installing


def test_tritons_cache_is_where_a_user_without_a_home_can_write() -> None:
    assert re.search(r"\bTRITON_CACHE_DIR=/tmp/", last_stage())
