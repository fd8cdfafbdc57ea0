"""Argo CD beside the test cluster: its controller and repository server as processes, with a repository in a folder."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tests.cluster.building import argo_cd, install_packages
from tests.cluster.kubectl import Kubectl, Manifest, has_condition
from tests.cluster.waiting import wait_until

NAMESPACE = "argocd"
_SETTINGS = Path(__file__).parent / "argocd" / "settings.yaml"
_LIMIT_S = 60.0
_END_S = 15.0


@dataclass(frozen=True)
class Repository:
    """A git repository that Argo CD reads."""

    folder: Path

    @property
    def url(self) -> str:
        return self.folder.as_uri()

    def create(self) -> None:
        self.folder.mkdir()
        self._git("init", "--quiet", "--initial-branch", "main")

    def commit(self, path: str, *manifests: Manifest) -> str:
        """The revision in which a folder of the repository holds these manifests and no others."""
        folder = self.folder / path
        folder.mkdir(exist_ok=True)
        (folder / "all.yaml").write_text(yaml.safe_dump_all(manifests))
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", path)
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *arguments: str) -> str:
        who = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
        done = subprocess.run(
            ["git", *who, *arguments], cwd=self.folder, check=True, capture_output=True, text=True, timeout=30
        )
        return done.stdout


@dataclass
class ArgoCD:
    """Attributes:
    kubectl: With all rights, in Argo CD's namespace.
    folder: For its state; a short path, as sockets lie in it.
    """

    kubectl: Kubectl
    folder: Path
    repository: Repository
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self) -> None:
        programs = argo_cd()
        install_packages({"redis-server": "redis-server", "git": "git"})
        self._set_up(programs / "crds")
        redis, repo, *metrics = _free_ports(4)
        cache, server = f"--redis=127.0.0.1:{redis}", f"127.0.0.1:{repo}"
        environment = self._environment(server)
        nothing_kept = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        self._spawn("redis", ["redis-server", "--port", str(redis), *nothing_kept], environment)
        argocd = str(programs / "argocd")
        address = ("--address=127.0.0.1", "--metrics-address=127.0.0.1")
        self._spawn(
            "argocd-repo-server",
            [
                argocd,
                f"--port={repo}",
                *address,
                f"--metrics-port={metrics[0]}",
                cache,
                "--revision-cache-expiration=1s",
            ],
            environment,
        )
        often = ("--app-resync=5", "--status-processors=2", "--operation-processors=2", "--persist-resource-health")
        controller = [argocd, f"--namespace={NAMESPACE}", cache, f"--repo-server={server}", *often]
        self._spawn("argocd-application-controller", [*controller, f"--metrics-port={metrics[1]}"], environment)

    def stop(self) -> None:
        for process in reversed(self._processes.values()):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(_END_S)
        self._processes.clear()

    def configure(self, **settings: str) -> None:
        """Changes argocd-cm; `_` in a name stands for a dot."""
        data = {name.replace("_", "."): value for name, value in settings.items()}
        self.patch_settings({"data": data})

    def patch_settings(self, patch: Manifest) -> None:
        self.kubectl.run("patch", "configmap", "argocd-cm", "--patch", json.dumps(patch))

    def create(self, name: str, namespace: str, path: str, **policy: Any) -> None:
        """An application that syncs by itself, prunes, heals, and takes what it has made with it when it is deleted."""
        application = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            "metadata": {"name": name, "finalizers": ["resources-finalizer.argocd.argoproj.io"]},
            "spec": {
                "project": "default",
                "source": {"repoURL": self.repository.url, "targetRevision": "main", "path": path},
                "destination": {"server": "https://kubernetes.default.svc", "namespace": namespace},
                "syncPolicy": {"automated": {"prune": True, "selfHeal": True}, **policy},
            },
        }
        self.kubectl.apply(application)

    def refresh(self, name: str) -> Manifest:
        """The application, compared anew."""
        self.kubectl.run("annotate", "--overwrite", "application", name, "argocd.argoproj.io/refresh=hard")
        done = "argocd.argoproj.io/refresh"

        def compared(found: Manifest) -> bool:
            return done not in found["metadata"].get("annotations", {})

        return self.kubectl.wait_for("application", name, compared, "compared", _LIMIT_S)

    def status(self, name: str) -> Manifest:
        found: Manifest = self.kubectl.get("application", name).get("status", {})
        return found

    def health(self, name: str) -> str:
        return str(self.status(name).get("health", {}).get("status", ""))

    def sync(self, name: str) -> str:
        return str(self.status(name).get("sync", {}).get("status", ""))

    def log(self) -> str:
        tails = (f"--- {path.name}\n{path.read_text()[-3000:]}" for path in sorted((self.folder / "log").glob("*.log")))
        return "\n".join(tails)

    def _set_up(self, definitions: Path) -> None:
        for file in sorted(definitions.glob("*-crd.yaml")):
            self.kubectl.run("apply", "--server-side", "-f", str(file))
        for kind in ("applications", "appprojects"):
            name = f"{kind}.argoproj.io"
            self.kubectl.wait_for(
                "customresourcedefinition", name, has_condition("Established"), "established", _LIMIT_S
            )
        self.kubectl.run("create", "namespace", NAMESPACE)
        wait_until(lambda: self.kubectl.run("get", "applications") is not None, _LIMIT_S, "applications can be listed")
        self.kubectl.apply(*yaml.safe_load_all(_SETTINGS.read_text()))

    def _environment(self, repo_server: str) -> dict[str, str]:
        for name in ("tls", "ssh", "gpg", "gnupg", "plugins", "tmp", "home", "log"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "ssh" / "ssh_known_hosts").touch()
        return {
            **os.environ,
            "KUBECONFIG": str(self.kubectl.kubeconfig),
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "HOSTNAME": "argocd-application-controller-0",
            "ARGOCD_FAKE_IN_CLUSTER": "true",
            "ARGOCD_TLS_DATA_PATH": str(self.folder / "tls"),
            "ARGOCD_SSH_DATA_PATH": str(self.folder / "ssh"),
            "ARGOCD_GPG_DATA_PATH": str(self.folder / "gpg"),
            "ARGOCD_GNUPGHOME": str(self.folder / "gnupg"),
            "ARGOCD_GPG_ENABLED": "false",
            "ARGOCD_PLUGINSOCKFILEPATH": str(self.folder / "plugins"),
            "ARGOCD_APPLICATION_CONTROLLER_REPO_SERVER": repo_server,
        }

    def _spawn(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        with (self.folder / "log" / f"{name}.log").open("wb") as log:
            # One program for all parts: it asks for the name of the part that it is.
            self._processes[name] = subprocess.Popen(
                command,
                env={**environment, "ARGOCD_BINARY_NAME": name},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )


@contextmanager
def argo_cd_beside(cluster: Kubectl, folder: Path) -> Iterator[ArgoCD]:
    """Argo CD with the cluster as its own."""
    repository = Repository(folder / "repository")
    repository.create()
    with tempfile.TemporaryDirectory(prefix="argocd-") as state:
        argo = ArgoCD(cluster.within(NAMESPACE), Path(state), repository)
        try:
            argo.start()
            yield argo
        finally:
            argo.stop()


def _free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(listener.getsockname()[1]) for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()
