"""Builds what the cluster is made of, once: kept outside the checkout under the hash of what it is built from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.cluster.image_archive import write_image

HERE = Path(__file__).parent
_SOURCES = HERE / "components"
_TOOLS = HERE / "tools"
_VERSION = "1.36.3"
_PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
_KSERVE = "github.com/kserve/kserve"
_BUILD_LIMIT_S = 1800.0
_COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "fake-gpu-plugin",
)
_PACKAGES = {
    "runc": "runc",
    "containerd": "containerd",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "ip": "iproute2",
    "iptables": "iptables",
    "busybox": "busybox-static",
    "gcc": "gcc",
    "/usr/include/stdio.h": "libc6-dev",
    "openssl": "openssl",
    "unshare": "util-linux",
}
"""What has to be there: Debian's package that brings it."""


BUSYBOX_IMAGE = "localhost/busybox:test"
PYTHON_IMAGE = "localhost/python:test"
PROMETHEUS_IMAGE = "localhost/prometheus:test"
S3_IMAGE = "localhost/s3:test"
_DEBIAN = "bookworm"
_DEBOOTSTRAP = ("--variant=minbase", "--include=ca-certificates,libnuma1,python3")


class CannotBuild(Exception):
    pass


def cache_folder() -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "haqa" / "cluster"


def install_packages(needed: Mapping[str, str] = _PACKAGES) -> None:
    """Debian's packages that are missing on this machine; where they cannot be installed the error names them."""
    missing = sorted({package for found, package in needed.items() if not _present(found)})
    if not missing:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise CannotBuild(f"missing on this machine: {' '.join(missing)} (names of Debian's packages); install them")
    say(f"installing {' '.join(missing)}")
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    if _run(install):
        run_checked(["apt-get", "update", "-qq"])
        run_checked(install)


def components() -> Path:
    """The folder with a program for each component and, in `bin`, kubectl alone for people's PATH."""

    version = "k8s.io/component-base/version"
    major, minor, _ = _VERSION.split(".")
    # Without a version kubectl and the API server refuse to work with each other.
    known = {"gitVersion": f"v{_VERSION}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    stamps = " ".join(f"-X {version}.{name}={value}" for name, value in known.items())
    command = ["go", "build", "-trimpath", f"-ldflags=-s -w {stamps}"]

    def build(folder: Path) -> None:
        _needs_go()
        say("building Kubernetes (4 to 7 minutes on two cores the first time)")
        run_checked(
            [
                "go",
                "build",
                "-trimpath",
                f"-ldflags=-s -w {stamps}",
                "-o",
                f"{folder}/",
                ".",
                "k8s.io/kubernetes/cmd/kubectl",
            ],
            cwd=_SOURCES,
            env={**os.environ, "CGO_ENABLED": "0"},
        )
        for name in _COMPONENTS:
            (folder / name).symlink_to("testcluster")
        (folder / "bin").mkdir()
        (folder / "bin" / "kubectl").symlink_to("../kubectl")

    return cached("components", _SOURCES.iterdir(), " ".join(command), build)


def images() -> Path:
    """The folder with an archive for each image that the nodes start with."""
    programs = HERE / "images"

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            pause, busybox = Path(scratch, "pause"), Path(scratch, "busybox")
            pause.mkdir()
            run_checked(["gcc", "-Os", "-static", "-s", "-o", str(pause / "pause"), str(programs / "pause.c")])
            write_image("localhost/pause:test", pause, folder / "pause.tar", entrypoint=["/pause"])
            _busybox_root(busybox)
            write_image(BUSYBOX_IMAGE, busybox, folder / "busybox.tar")

    sources = [*programs.iterdir(), HERE / "image_archive.py", Path(__file__)]
    return cached("images", sources, "", build)


def python_image() -> Path:
    """The archive of localhost/python:test: Debian with Python and what vLLM needs of the system, for pods that mount
    an environment from the node instead of carrying it."""

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            write_image(PYTHON_IMAGE, _bootstrap(Path(scratch, "root"), _DEBOOTSTRAP), folder / "python.tar")

    recipe = " ".join([_DEBIAN, PYTHON_IMAGE, *_DEBOOTSTRAP])
    return cached("python", [HERE / "image_archive.py"], recipe, build) / "python.tar"


def bootstrapped_debian(more: str) -> Path:
    """An archive of the root folder of that Debian with more packages, on which images are built."""
    variant, included = _DEBOOTSTRAP
    options = (variant, f"{included},{more}")

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            root = _bootstrap(Path(scratch, "root"), options)
            run_checked(["tar", "-C", str(root), "-cf", str(folder / "root.tar"), "."])

    return cached("debian", [], " ".join([_DEBIAN, *options]), build) / "root.tar"


def _bootstrap(root: Path, options: Sequence[str]) -> Path:
    install_packages({"debootstrap": "debootstrap"})
    say("bootstrapping Debian")
    mirror = os.environ.get("HAQA_DEBIAN_MIRROR")
    run_checked(["debootstrap", *options, _DEBIAN, str(root), *([mirror] if mirror else [])])
    for unneeded in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"):
        shutil.rmtree(root / unneeded, ignore_errors=True)
    return root


def tools() -> Path:
    """The folder with helm."""
    command = ["go", "build", "-trimpath", "-ldflags=-s -w"]

    def build(folder: Path) -> None:
        _needs_go()
        say("building helm (3 minutes on two cores the first time)")
        environment = {**os.environ, "CGO_ENABLED": "0"}
        run_checked([*command, "-o", f"{folder}/", "helm.sh/helm/v4/cmd/helm"], cwd=_TOOLS, env=environment)

    return cached("tools", _TOOLS.iterdir(), " ".join(command), build)


def _needs_go() -> None:
    if shutil.which("go") is None:
        raise CannotBuild(
            "no Go on this machine, which builds Kubernetes, helm, Prometheus and the S3 server: install 1.26 or later"
        )


def prometheus_image() -> Path:
    """The archive of localhost/prometheus:test: Prometheus 3 with Kubernetes' service discovery and no other."""
    options = ("-tags=remove_all_sd,enable_kubernetes_sd",)
    return _go_image("prometheus", PROMETHEUS_IMAGE, "github.com/prometheus/prometheus/cmd/prometheus", 4, *options)


def s3_image() -> Path:
    """The archive of localhost/s3:test: versitygw, an S3 server that checks signatures, on a folder."""
    return _go_image("s3", S3_IMAGE, "github.com/versity/versitygw/cmd/versitygw", 2)


def _go_image(name: str, reference: str, package: str, minutes: int, *options: str) -> Path:
    """The archive of an image that holds one program, of the Go module in the folder of that name."""
    command = ["go", "build", "-trimpath", "-ldflags=-s -w", *options]

    def build(folder: Path) -> None:
        _needs_go()
        say(f"building {package} (about {minutes} minutes on two cores the first time)")
        with tempfile.TemporaryDirectory() as scratch:
            environment = {**os.environ, "CGO_ENABLED": "0"}
            run_checked([*command, "-o", f"{scratch}/{name}", package], cwd=HERE / name, env=environment)
            write_image(reference, Path(scratch), folder / f"{name}.tar", entrypoint=[f"/{name}"])

    sources = [*(HERE / name).iterdir(), HERE / "image_archive.py"]
    return cached(name, sources, " ".join([*command, reference]), build) / f"{name}.tar"


def kwok() -> Path:
    """The folder with the program that plays nodes and pods, and in `nodes` what it does with nodes."""
    command = ["go", "build", "-trimpath", "-ldflags=-s -w"]
    kept = ("fast/node-initialize.yaml", "heartbeat-with-lease/node-heartbeat-with-lease.yaml")

    def build(folder: Path) -> None:
        _needs_go()
        say("building kwok (4 minutes on two cores the first time)")
        environment = {**os.environ, "CGO_ENABLED": "0"}
        module = "sigs.k8s.io/kwok"
        run_checked([*command, "-o", f"{folder}/kwok", f"{module}/cmd/kwok"], cwd=HERE / "kwok", env=environment)
        stages = _module_folder(module, HERE / "kwok") / "kustomize" / "stage" / "node"
        (folder / "nodes").mkdir()
        for stage in kept:
            shutil.copy(stages / stage, folder / "nodes")

    return cached("kwok", (HERE / "kwok").iterdir(), " ".join([*command, *kept]), build)


def _module_folder(module: str, cwd: Path) -> Path:
    """Where Go keeps the module's files."""
    where = ["go", "list", "-m", "-f", "{{.Dir}}", module]
    found = subprocess.run(where, cwd=cwd, capture_output=True, text=True, timeout=_BUILD_LIMIT_S, check=True)
    return Path(found.stdout.strip())


def argo_cd() -> Path:
    """The folder with `argocd`, which is any part of Argo CD that it is called by, and `crds`, its definitions."""
    module = "github.com/argoproj/argo-cd/v3"
    command = ["go", "build", "-trimpath", "-ldflags=-s -w"]
    sources = HERE / "argocd"

    def build(folder: Path) -> None:
        _needs_go()
        say("building Argo CD (5 minutes on two cores the first time)")
        environment = {**os.environ, "CGO_ENABLED": "0"}
        run_checked([*command, "-o", f"{folder}/argocd", f"{module}/cmd"], cwd=sources, env=environment)
        shutil.copytree(_module_folder(module, sources) / "manifests" / "crds", folder / "crds")

    return cached("argocd", [sources / "go.mod", sources / "go.sum"], " ".join(command), build)


def pod_monitor_definition() -> Path:
    """The Prometheus operator's own definition of PodMonitor, out of its Go module."""
    path = "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"
    return _out_of_module("podmonitor", _PROMETHEUS_OPERATOR, path)


def inference_service_definition(version: str) -> Path:
    """KServe's own definition of InferenceService, out of its Go module."""
    path = "config/crd/full/serving.kserve.io_inferenceservices.yaml"
    return _out_of_module("kserve", f"{_KSERVE}@{version}", path)


def _out_of_module(kind: str, module: str, path: str) -> Path:
    """A file of a Go module at a version: kept under its own name."""
    name = Path(path).name

    def build(folder: Path) -> None:
        command = ["go", "mod", "download", "-json", module]
        # Outside a module, so that it is no dependency of anything.
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_BUILD_LIMIT_S, check=False)
        if done.returncode:
            raise CannotBuild(f"{' '.join(command)} ended with {done.returncode}: {done.stdout[-500:]}")
        shutil.copyfile(Path(json.loads(done.stdout)["Dir"], path), folder / name)

    return cached(kind, [], f"{module} {path}", build) / name


def _busybox_root(root: Path) -> None:
    for name in ("bin", "tmp", "etc", "root", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    program = shutil.copy(shutil.which("busybox") or "/bin/busybox", root / "bin" / "busybox")
    for applet in subprocess.run(
        [program, "--list"], capture_output=True, text=True, check=True, timeout=30
    ).stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")


def cached(kind: str, sources: Iterable[Path], recipe: str, build: Callable[[Path], None]) -> Path:
    digest = hashlib.sha256(recipe.encode())
    for source in sorted(sources):
        digest.update(f"{source.name}\0".encode() + source.read_bytes())
    folder = cache_folder() / f"{kind}-{digest.hexdigest()[:16]}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A build that is cut off leaves nothing under the final name.
        unfinished = Path(tempfile.mkdtemp(prefix=f"{kind}-unfinished-", dir=folder.parent))
        try:
            build(unfinished)
            unfinished.chmod(0o755)
            # Somebody else may have built the same meanwhile: a folder that is not empty is never replaced.
            with suppress(OSError):
                unfinished.rename(folder)
            if not folder.exists():
                raise CannotBuild(f"{folder} cannot be made; is there space, and may it be written?")
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def say(progress: str) -> None:
    """To standard error: standard output is what a shell evaluates."""
    print(progress, file=sys.stderr, flush=True)


def _present(what: str) -> bool:
    return Path(what).exists() if what.startswith("/") else shutil.which(what) is not None


def _run(command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """What went wrong, "" where nothing did."""
    done = subprocess.run(
        command, cwd=cwd, env=env, timeout=_BUILD_LIMIT_S, capture_output=True, text=True, check=False
    )
    return f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}" if done.returncode else ""


def run_checked(command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    if problem := _run(command, cwd, env):
        raise CannotBuild(problem)
