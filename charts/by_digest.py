"""Writes the digests of a release's images into the values of its chart: what is installed is what was signed.

python3 charts/by_digest.py charts/haqa --registry HOST/PATH --digests FOLDER

FOLDER has a file NAME.digest for each of the images below, with `sha256:…` in it. Comments and order stay.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

IMAGES = ("haqa-operator", "haqa-runner", "haqa-runner-rocm", "haqa-runner-cpu")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def by_digest(values: str, registry: str, digests: Mapping[str, str]) -> str:
    """The text of values.yaml with repositories in the registry and digests in the place of tags.

    Raises:
        ValueError: an image has no digest, or the values are not as expected.
    """
    for name in IMAGES:
        if not _DIGEST.fullmatch(digests.get(name, "")):
            raise ValueError(f"{name}.digest: {digests.get(name, 'there is none')!r}, where sha256:… is expected")
    for name in ("haqa-operator", "haqa-runner"):
        values = _once(
            values,
            rf'^( +)repository: {name}\n((?:\1#.*\n)*)\1tag: ""$',
            rf'\1repository: {registry}/{name}\n\2\1tag: "{digests[name]}"',
        )
    for vendor, suffix in (("amd", "rocm"), ("cpu", "cpu")):
        name = f"haqa-runner-{suffix}"
        values = _once(values, rf'^( +){vendor}: ""$', rf'\1{vendor}: "{registry}/haqa-runner@{digests[name]}"')
    return values


def _once(text: str, pattern: str, replacement: str) -> str:
    changed, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
    if count != 1:
        raise ValueError(f"values.yaml has {count} places like {pattern!r}, where one is expected")
    return changed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("chart", type=Path)
    parser.add_argument("--registry", required=True, help="where the images were pushed, HOST/PATH")
    parser.add_argument("--digests", type=Path, required=True)
    asked = parser.parse_args()
    found = {file.stem: file.read_text().strip() for file in asked.digests.glob("*.digest")}
    values: Path = asked.chart / "values.yaml"
    values.write_text(by_digest(values.read_text(), asked.registry, found))


if __name__ == "__main__":
    main()
