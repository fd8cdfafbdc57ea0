"""Builds the project's own images with podman, without a registry: on a Debian of its own as the base.

The archives are kept outside the checkout under the hash of what they are built from: `python -m
tests.cluster.image_building operator runner` builds those that are missing and prints where they are.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.cluster.building import (
    CannotBuild,
    bootstrapped_debian,
    cache_folder,
    cached,
    install_packages,
    run_checked,
    say,
)

ROOT = Path(__file__).parents[2]
OPERATOR_IMAGE = "localhost/haqa-operator:test"
RUNNER_IMAGE = "localhost/haqa-runner:test"
_PACKAGES = {"podman": "podman", "crun": "crun", "buildah": "buildah"}
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_SOURCES = {
    OPERATOR_IMAGE: ("Dockerfile.operator", "locks/build.txt", "locks/operator-image.txt", "operator", "runner"),
    RUNNER_IMAGE: ("Dockerfile.runner", "locks/build.txt", "locks/runner.txt", "runner"),
}
"""What each image is made from, beside what all of them are."""
_SHARED_SOURCES = (".dockerignore", "pyproject.toml", "README.md", "LICENSE")


def operator_image() -> Path:
    """The archive of OPERATOR_IMAGE, as `podman save` writes it."""
    return _image(OPERATOR_IMAGE, "operator")


def runner_image() -> Path:
    """The archive of RUNNER_IMAGE: several gigabytes."""
    return _image(RUNNER_IMAGE, "runner")


def _image(reference: str, name: str) -> Path:
    def build(folder: Path) -> None:
        install_packages(_PACKAGES)
        say(f"building the {name} image")
        _build(reference, name, folder / f"{name}.tar")

    recipe = f"{reference} {_digest((*_SOURCES[reference], *_SHARED_SOURCES))}"
    return cached(f"image-{name}", [Path(__file__)], recipe, build) / f"{name}.tar"


def _build(reference: str, name: str, archive: Path) -> None:
    # Certificates of a proxy, where this machine trusts one: a build does not see them by itself.
    certificates = []
    if Path(_CERTIFICATES).exists():
        certificates = ["-v", f"{_CERTIFICATES}:{_CERTIFICATES}:ro", "--build-arg", f"PIP_CERT={_CERTIFICATES}"]
    arguments = ["--build-arg", f"BASE_IMAGE={_base()}", "--build-arg", f"REVISION={_revision()}", *certificates]
    # Without a container runtime's help, so that it also builds in a container.
    isolation = ["--isolation=chroot", "--network=host"]
    _podman("build", *isolation, *arguments, "--format=docker", "-f", f"Dockerfile.{name}", "-t", reference, ".")
    _podman("save", "--format=docker-archive", "-o", str(archive), reference)


def _base() -> str:
    """The name of the image to build on; imported once, as layers are reused on the same base alone."""
    archive = bootstrapped_debian("python3-venv")
    name = f"localhost/haqa-base:{archive.parent.name}"
    if subprocess.run(_command("image", "exists", name), timeout=60, check=False).returncode:
        _podman("import", str(archive), name)
    return name


def _podman(*arguments: str) -> None:
    run_checked(_command(*arguments), cwd=ROOT)


def _command(*arguments: str) -> list[str]:
    """podman with a storage of its own: this machine's images stay as they are."""
    storage = cache_folder() / "podman"
    return ["podman", "--root", str(storage / "root"), "--runroot", str(storage / "run"), *arguments]


def _revision() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=10, check=False
    )
    return found.stdout.strip() or "unknown"


def _digest(names: Iterable[str]) -> str:
    """Of the names and contents of files, and of all files in folders."""
    digest = hashlib.sha256()
    for name in names:
        for path in _files(ROOT / name):
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+", choices=["operator", "runner"])
    given = parser.parse_args()
    links = ROOT / ".cache" / "images"
    links.mkdir(parents=True, exist_ok=True)
    try:
        for name in given.images:
            archive = {"operator": operator_image, "runner": runner_image}[name]()
            link = links / f"{name}.tar"
            link.unlink(missing_ok=True)
            link.symlink_to(archive)
            print(link)
    except (CannotBuild, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
