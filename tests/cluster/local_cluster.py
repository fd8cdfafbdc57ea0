"""Starts and stops the test cluster on this machine, without Docker: `python -m tests.cluster.local_cluster start`.

All of it is real (etcd, API server, scheduler, controllers, kubelets, containerd, runc, kube-proxy) but the GPUs. It
lives in mount, network and process namespaces of its own, so that ending one process ends all of it.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml
from tests.cluster.building import (
    HERE,
    CannotBuild,
    components,
    images,
    install_packages,
    prometheus_image,
    python_image,
    s3_image,
    tools,
)
from tests.cluster.image_building import operator_image
from tests.cluster.kubectl import Kubectl, Manifest, Refused, has_condition
from tests.cluster.labelling import label_node
from tests.cluster.node_specs import Machine, NodeSpec, configured_nodes
from tests.cluster.waiting import wait_until

_NODE_IP = "10.244.0.1"  # of the bridge that all nodes share
_START_LIMIT_S = 90.0
_STOP_LIMIT_S = 20.0
_LOAD_LIMIT_S = 300.0
_LONGEST_SOCKET = "/node-of-sixteen/containerd/containerd.sock.ttrpc"
_SOCKET_PATH_MAX = 107
_BUILT = {"python": python_image, "prometheus": prometheus_image, "s3": s3_image, "operator": operator_image}
"""Images that are built where need be."""
_PROCESSES = ("forward", "init", "unshare")


class CannotStart(Exception):
    pass


@dataclass(frozen=True)
class LocalCluster:
    folder: Path
    """All state of the cluster; a short path, as sockets lie in it."""
    api_port: int = 6443

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "admin.kubeconfig"

    @property
    def cgroup(self) -> str:
        return f"haqa-{self.folder.name.removeprefix('haqa-')}"

    @classmethod
    def beside_others(cls) -> LocalCluster:
        """In a folder and at a port of its own, whatever else runs on this machine."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port: int = listener.getsockname()[1]
        return cls(Path(tempfile.gettempdir()) / f"haqa-{secrets.token_hex(4)}", port)

    def running(self) -> bool:
        return _alive(self._process_file("init"))

    def kubectl(self) -> Kubectl:
        return Kubectl(str(components() / "kubectl"), self.kubeconfig)

    def start(self, nodes: list[NodeSpec]) -> Kubectl:
        """Returns when all nodes are Ready with their labels and GPUs; stops what it started where that fails."""
        self._check_can_start()
        install_packages()
        kubectl = self.kubectl()
        archives = images()
        self._write_folder(nodes)
        try:
            self._launch(nodes, archives)
            self._wait_ready(nodes, kubectl)
        except (TimeoutError, Refused, OSError, subprocess.SubprocessError) as error:
            logs = self._log_tails()
            self.stop()
            raise CannotStart(f"the test cluster did not start: {error}\n{logs}") from error
        except BaseException:
            self.stop()
            raise
        return kubectl

    def load_image(self, archive: Path) -> None:
        """Imports what `docker save` or `podman save` wrote into every node."""
        self._on_every_node("import", str(archive))

    def tag_image(self, reference: str, name: str) -> None:
        """Gives an image of the nodes another name, under which pods find it there."""
        self._on_every_node("tag", reference, name)

    def _on_every_node(self, *images: str) -> None:
        sockets = sorted(self.folder.glob("*/containerd/containerd.sock"))
        if not sockets:
            raise CannotStart(f"no cluster in {self.folder}: `make cluster` starts one")
        for node in sockets:
            client = ["ctr", "--address", str(node), "--namespace", "k8s.io"]
            subprocess.run([*client, "images", *images], check=True, timeout=_LOAD_LIMIT_S, capture_output=True)

    def stop(self) -> None:
        """Ends every process and mount of the cluster, and removes its folder; nothing where there is none."""
        for name in _PROCESSES:
            _end(self._process_file(name), signal.SIGKILL if name == "init" else signal.SIGTERM)
        wait_until(lambda: not self._cgroups_left(), _STOP_LIMIT_S, f"control groups {self.cgroup} to empty")
        if self._marker.exists():
            shutil.rmtree(self.folder)

    @property
    def _marker(self) -> Path:
        return self.folder / "haqa-test-cluster"

    def _process_file(self, name: str) -> Path:
        return self.folder / f"{name}.process"

    def _check_can_start(self) -> None:
        if os.geteuid() != 0:
            raise CannotStart(
                "the test cluster makes namespaces and mounts, so it needs root; or use kind, see docs/development.md"
            )
        if len(f"{self.folder}{_LONGEST_SOCKET}") > _SOCKET_PATH_MAX:
            raise CannotStart(f"{self.folder} is too long for the sockets in it: set HAQA_CLUSTER_RUN to a short path")
        if self.running():
            raise CannotStart(f"a cluster is running in {self.folder}: `make cluster-down` stops it")
        if self.folder.exists() and any(self.folder.iterdir()) and not self._marker.exists():
            raise CannotStart(f"{self.folder} holds other things: set HAQA_CLUSTER_RUN to a new folder")

    def _check_port_is_free(self) -> None:
        try:
            socket.create_server(("127.0.0.1", self.api_port)).close()
        except OSError as error:
            raise CannotStart(f"port {self.api_port}: {error.strerror}; set HAQA_CLUSTER_PORT to a free one") from error

    def _write_folder(self, nodes: list[NodeSpec]) -> None:
        self.stop()  # what a cluster that was killed left behind
        self._check_port_is_free()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._marker.touch()
        (self.folder / "log").mkdir()
        command = ["bash", str(HERE / "certificates.sh"), str(self.folder / "pki"), _NODE_IP]
        subprocess.run(command, check=True, timeout=60, capture_output=True)
        users = {
            "admin": ("admin", "system:masters"),
            "controllers": ("system:kube-controller-manager", ""),
            "scheduler": ("system:kube-scheduler", ""),
            "proxy": ("system:kube-proxy", ""),
        }
        users |= {node.name: (f"system:node:{node.name}", "system:nodes") for node in nodes}
        rows = [self._write_kubeconfig(name, user, group) for name, (user, group) in users.items()]
        _write_private(self.folder / "pki" / "tokens.csv", "".join(rows))
        for index, node in enumerate(nodes):
            self._write_node(node, index)

    def _write_kubeconfig(self, name: str, user: str, group: str) -> str:
        """The row that lets the API server know the token."""
        token = secrets.token_hex(16)
        authority = self.folder / "pki" / "ca.crt"
        text = f"""\
apiVersion: v1
kind: Config
clusters:
- name: haqa-test
  cluster: {{server: "https://127.0.0.1:{self.api_port}", certificate-authority: {authority}}}
users: [{{name: {name}, user: {{token: "{token}"}}}}]
contexts: [{{name: haqa-test, context: {{cluster: haqa-test, user: {name}}}}}]
current-context: haqa-test
"""
        _write_private(self.folder / f"{name}.kubeconfig", text)
        return f'{token},{user},{name},"{group}"\n'

    def _write_node(self, node: NodeSpec, index: int) -> None:
        folder = self.folder / node.name
        for name in ("root/device-plugins", "pod-logs", "volplugins"):
            (folder / name).mkdir(parents=True)
        values = {
            "RUN": self.folder,
            "NODE": node.name,
            "NODE_IP": _NODE_IP,
            "PORT": 10250 + 100 * index,
            "HPORT": 10248 + 100 * index,
            "CNI_BIN": "/usr/lib/cni",
            "RUNC": shutil.which("runc"),
            "CGROUP": self.cgroup,
            "OWN_PART": yaml.safe_dump(node.kubelet_settings(Machine.this())).rstrip(),
        }
        for name in ("kubelet.yaml", "containerd.toml"):
            template = string.Template((HERE / f"{name}.in").read_text().replace("${...}", "$${...}"))
            (folder / name).write_text(template.substitute(values))
        if (meminfo := node.meminfo(Path("/proc/meminfo").read_text())) is not None:
            (folder / "meminfo").write_text(meminfo)

    def _launch(self, nodes: list[NodeSpec], archives: Path) -> None:
        environment = {
            **os.environ,
            "RUN": str(self.folder),
            "PKI": str(self.folder / "pki"),
            "NODES": " ".join(f"{node.name}:{node.gpus}" for node in nodes),
            "NODE_IP": _NODE_IP,
            "API_PORT": str(self.api_port),
            "CGROUP": self.cgroup,
            "IMAGES": str(archives),
            "KUBECONFIG": str(self.kubeconfig),
            "PATH": f"{components()}:{os.environ['PATH']}",
        }
        namespaces = ["--mount", "--net", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc"]
        command = ["unshare", *namespaces, "--propagation", "private", "bash", str(HERE / "namespaces.sh")]
        unshare = self._spawn("unshare", command, environment)
        children = Path(f"/proc/{unshare}/task/{unshare}/children")
        init = int(wait_until(lambda: children.read_text().strip(), 10, "the cluster's first process"))
        self._remember("init", init)
        # The API server listens on the loopback of its namespace: bring it to the machine's own.
        forward = [sys.executable, str(HERE / "forward.py"), str(init), str(self.api_port)]
        self._spawn("forward", forward, dict(os.environ))

    def _spawn(self, name: str, command: list[str], environment: dict[str, str]) -> int:
        with (self.folder / "log" / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._remember(name, process.pid)
        return process.pid

    def _remember(self, name: str, pid: int) -> None:
        self._process_file(name).write_text(f"{pid} {_started(pid)}")

    def _wait_ready(self, nodes: list[NodeSpec], kubectl: Kubectl) -> None:
        def answers(*arguments: str) -> bool:
            if not _alive(self._process_file("init")):
                raise CannotStart(f"the cluster's first process ended\n{self._log_tails()}")
            try:
                return bool(kubectl.run(*arguments))
            except Refused:
                return False

        wait_until(lambda: answers("get", "--raw", "/readyz"), _START_LIMIT_S, "the API server")
        for node in nodes:
            wait_until(partial(answers, "get", "node", node.name), _START_LIMIT_S, f"node {node.name}")
            label_node(kubectl, node.name, node)
        for node in nodes:
            ready = node_ready(node.gpus, node.resources)
            kubectl.wait_for("node", node.name, ready, f"Ready with {node.gpus} GPUs", _START_LIMIT_S)
        wait_until(lambda: answers("get", "serviceaccount", "default"), _START_LIMIT_S, "the default service account")

    def _cgroups_left(self) -> bool:
        """Removes what the kernel lets go of: a control group stays busy for a moment after its processes."""
        found = [path for pattern in (self.cgroup, f"*/{self.cgroup}") for path in Path("/sys/fs/cgroup").glob(pattern)]
        for root in found:
            for folder, _, _ in os.walk(root, topdown=False):
                with suppress(OSError):
                    os.rmdir(folder)
        return any(root.exists() for root in found)

    def _log_tails(self) -> str:
        logs = sorted((self.folder / "log").glob("*.log"))
        return "\n".join(f"--- {log}\n{_tail(log)}" for log in logs if log.stat().st_size)


def node_ready(gpus: int, resources: Mapping[str, str] | None = None) -> Callable[[Manifest], bool]:
    """Whether the node takes pods and its kubelet knows all of its GPUs and other resources."""

    def check(node: Manifest) -> bool:
        offered = node["status"].get("allocatable", {})
        others = all(offered.get(name) == count for name, count in (resources or {}).items())
        gpus_known = int(offered.get("nvidia.com/gpu", "0")) == gpus
        return has_condition("Ready")(node) and gpus_known and others and not node["spec"].get("taints")

    return check


def _tail(path: Path, lines: int = 5) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _started(pid: int) -> str:
    """When the process began, in the kernel's ticks: with the id it names one process for ever. "" if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _alive(file: Path) -> bool:
    with suppress(FileNotFoundError, ValueError):
        pid, started = file.read_text().split()
        return _started(int(pid)) == started
    return False


def _end(file: Path, how: signal.Signals) -> None:
    if not _alive(file):
        return
    pid = int(file.read_text().split()[0])
    with suppress(ProcessLookupError):
        os.kill(pid, how)
    wait_until(lambda: not _alive(file), _STOP_LIMIT_S, f"process {pid} of the cluster to end")


def configured() -> LocalCluster:
    """The cluster that people start, in the folder and at the port that the environment says."""
    folder = Path(os.environ.get("HAQA_CLUSTER_RUN", "/tmp/haqa-cluster"))
    port = int(os.environ.get("HAQA_CLUSTER_PORT", "6443"))
    return LocalCluster(folder, port)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["build", "tools", "start", "load", "stop"])
    names = ", ".join(_BUILT)
    what = f"load: images, of which {names} are built; build: `all` for what only the nightly tests need too"
    parser.add_argument("archives", nargs="*", type=Path, help=what)
    given = parser.parse_args()
    try:
        _carry_out(given.action, given.archives, configured())
    except (CannotBuild, CannotStart, ValueError, OSError, subprocess.SubprocessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _carry_out(action: str, archives: list[Path], cluster: LocalCluster) -> None:
    match action:
        case "build":
            install_packages()
            components()
            images()
            python_image()
            tools()
            if archives == [Path("all")]:
                prometheus_image()
                s3_image()
                operator_image()
        case "tools":
            tools()
        case "start":
            if not cluster.running():
                cluster.start(configured_nodes())
            print(f"export KUBECONFIG={cluster.kubeconfig}")
            print(f"export PATH={components() / 'bin'}:$PATH  # kubectl")
        case "load":
            for archive in archives:
                build = _BUILT.get(str(archive))
                cluster.load_image(build() if build else archive)
        case "stop":
            cluster.stop()


if __name__ == "__main__":
    sys.exit(main())
