"""Builds the project's own images with podman, without a registry: on a Debian of its own as the base.

The archives are kept outside the checkout under the hash of what they are built from: `python -m
tests.cluster.image_building operator runner` builds those that are missing and prints where they are.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

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
_PACKAGES = {"podman": "podman", "crun": "crun", "buildah": "buildah", "runc": "runc"}
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_RECIPE = "dev.haqa.recipe"
"""Label of a built image: the hash of what it is made from."""
_SHARED_SOURCES = (".dockerignore", "pyproject.toml", "README.md", "LICENSE")
_RUNNER_SOURCES = ("Dockerfile.runner", "locks/build.txt", "locks/runner.txt", "runner")


@dataclass(frozen=True)
class Image:
    """One of the project's own images.

    Attributes:
        sources: What it is made from, beside what all of them are.
        torch: Which torch a runner gets.
        stand_in: With the torch that PyPI has in place of the one that only PyTorch's own index has.
    """

    reference: str
    dockerfile: str
    sources: tuple[str, ...]
    torch: str | None = None
    stand_in: bool = False

    @property
    def arguments(self) -> list[str]:
        """Of `podman build`, beside those that all images get."""
        torch = ["--build-arg", f"TORCH={self.torch}"] if self.torch else []
        return [*torch, "--build-arg", "TORCH_INDEX="] if self.stand_in else torch

    @property
    def recipe(self) -> str:
        return f"{self.reference} {_digest((*self.sources, *_SHARED_SOURCES))}"


def _runner(torch: str, tag: str, *, stand_in: bool = False) -> Image:
    sources = (*_RUNNER_SOURCES, f"locks/torch-{torch}.txt", *(("locks/torch-cuda.txt",) if stand_in else ()))
    return Image(f"localhost/haqa-runner:{tag}", "Dockerfile.runner", sources, torch, stand_in)


IMAGES = {
    "operator": Image(
        OPERATOR_IMAGE,
        "Dockerfile.operator",
        ("Dockerfile.operator", "locks/build.txt", "locks/operator-image.txt", "operator", "runner"),
    ),
    "runner": _runner("cuda", RUNNER_IMAGE.rpartition(":")[2]),
    "runner-rocm": _runner("rocm", "test-rocm"),
    "runner-cpu": _runner("cpu", "test-cpu"),
}
CPU_WITH_STAND_IN = _runner("cpu", "test-cpu-stand-in", stand_in=True)
"""Where only PyPI is reached: what `runner-cpu` has, and CUDA's libraries, which PyPI's torch cannot do without."""


def operator_image() -> Path:
    """The archive of OPERATOR_IMAGE, as `podman save` writes it."""
    return archive("operator")


def archive(name: str) -> Path:
    """The archive of one of IMAGES; a runner's has several gigabytes."""
    image = IMAGES[name]

    def save(folder: Path) -> None:
        build(image)
        _podman("save", "--format=docker-archive", "-o", str(folder / f"{name}.tar"), image.reference)

    return cached(f"image-{name}", [Path(__file__)], image.recipe, save) / f"{name}.tar"


def build(image: Image) -> None:
    """Leaves the image in podman's storage, unless it is there already, made from the same."""
    install_packages(_PACKAGES)
    recipe = hashlib.sha256(image.recipe.encode()).hexdigest()
    made_from = podman_command("image", "inspect", "--format", f'{{{{index .Labels "{_RECIPE}"}}}}', image.reference)
    if subprocess.run(made_from, capture_output=True, text=True, timeout=60, check=False).stdout.strip() == recipe:
        return
    say(f"building {image.reference}")
    # Certificates of a proxy, where this machine trusts one: a build does not see them by itself.
    certificates = []
    if Path(_CERTIFICATES).exists():
        certificates = ["-v", f"{_CERTIFICATES}:{_CERTIFICATES}:ro", "--build-arg", f"PIP_CERT={_CERTIFICATES}"]
    arguments = ["--build-arg", f"BASE_IMAGE={_base()}", "--build-arg", f"REVISION={_revision()}", *certificates]
    # Without a container runtime's help, so that it also builds in a container.
    isolation = ["--isolation=chroot", "--network=host"]
    with TemporaryDirectory() as folder:
        mounted = _stand_in(image, Path(folder))
        _podman(
            *("build", *isolation, *arguments, *image.arguments, *mounted, f"--label={_RECIPE}={recipe}"),
            *("--format=docker", "-f", image.dockerfile, "-t", image.reference, "."),
        )


def podman_command(*arguments: str) -> list[str]:
    """podman with a storage of its own: this machine's images stay as they are."""
    storage = cache_folder() / "podman"
    return ["podman", "--root", str(storage / "root"), "--runroot", str(storage / "run"), *arguments]


def _stand_in(image: Image, folder: Path) -> list[str]:
    """Shows PyPI's torch in place of the lock file that PyTorch's index is needed for; a CPU's comes without Triton."""
    if not image.stand_in:
        return []
    packages = re.split(r"^(?=\S)", (ROOT / "locks" / "torch-cuda.txt").read_text(), flags=re.MULTILINE)
    lock = folder / "torch.txt"
    lock.write_text("".join(package for package in packages if not package.startswith("triton==")))
    return ["-v", f"{lock}:/locks/torch-{image.torch}.txt:ro"]


def _base() -> str:
    """The name of the image to build on; imported once, as layers are reused on the same base alone."""
    archive = bootstrapped_debian("python3-venv")
    name = f"localhost/haqa-base:{archive.parent.name}"
    if subprocess.run(podman_command("image", "exists", name), timeout=60, check=False).returncode:
        _podman("import", str(archive), name)
    return name


def _podman(*arguments: str) -> None:
    run_checked(podman_command(*arguments), cwd=ROOT)


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
    parser.add_argument("images", nargs="+", choices=IMAGES)
    given = parser.parse_args()
    links = ROOT / ".cache" / "images"
    links.mkdir(parents=True, exist_ok=True)
    try:
        for name in given.images:
            link = links / f"{name}.tar"
            link.unlink(missing_ok=True)
            link.symlink_to(archive(name))
            print(link)
    except (CannotBuild, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
