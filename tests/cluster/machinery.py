"""Parts of the test cluster, to be stopped, frozen and started again: only the project's own cluster allows that."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.waiting import wait_until

_LIMIT_S = 60.0


class NotOurs(Exception):
    """The cluster is somebody else's, whose processes nobody here can stop."""


@dataclass(frozen=True)
class Machinery:
    """The processes of the cluster in `folder` (`local_cluster.py`, `namespaces.sh`, `node.sh`)."""

    folder: Path

    @classmethod
    def of(cls, kubeconfig: Path) -> Machinery:
        if not (kubeconfig.parent / "init.process").exists():
            raise NotOurs(
                f"{kubeconfig}: this test stops parts of the cluster, which only that of `make cluster` allows"
            )
        return cls(kubeconfig.parent)

    @contextmanager
    def without(self, component: str) -> Iterator[None]:
        """The component is killed, and started again by the same command afterwards."""
        process = self._find(component)
        command, environment = _words(process, "cmdline"), dict(_pairs(_words(process, "environ")))
        os.kill(process, signal.SIGKILL)
        wait_until(lambda: not _running(process), _LIMIT_S, f"{component} to end")
        try:
            yield
        finally:
            enter = ["nsenter", "--target", str(self._init), "--mount", "--net", "--pid"]
            log = self.folder / "log" / f"{component}.log"
            # By a shell that leaves at once: the component belongs to the cluster and not to the test.
            leave = ["bash", "-c", f'setsid "$@" >>{shlex.quote(str(log))} 2>&1 </dev/null &', "start"]
            subprocess.run([*leave, *enter, *command], env=environment, check=True, timeout=_LIMIT_S)

    @contextmanager
    def frozen(self, node: str) -> Iterator[None]:
        """The node answers nobody: its kubelet and its containerd stand still. What runs on it goes on."""
        self._signal_node(node, "STOP")
        try:
            yield
        finally:
            self._signal_node(node, "CONT")

    @property
    def _init(self) -> int:
        return int((self.folder / "init.process").read_text().split()[0])

    def _signal_node(self, node: str, name: str) -> None:
        processes = [(self.folder / node / f"{part}.pid").read_text().strip() for part in ("kubelet", "containerd")]
        # The files have the ids that the cluster's own namespace knows.
        enter = ["nsenter", "--target", str(self._init), "--mount", "--pid"]
        subprocess.run([*enter, "kill", f"-{name}", *processes], check=True, timeout=_LIMIT_S)

    def _find(self, component: str) -> int:
        """The process of the cluster's namespace that runs the component."""
        mine = _namespace(self._init)
        for folder in Path("/proc").glob("[0-9]*"):
            process = int(folder.name)
            if _namespace(process) == mine and Path(_words(process, "cmdline")[:1][0]).name == component:
                return process
        raise LookupError(f"no {component} in {self.folder}")


def _namespace(process: int) -> str | None:
    try:
        return os.readlink(f"/proc/{process}/ns/pid")
    except OSError:
        return None


def _words(process: int, file: str) -> list[str]:
    text = Path(f"/proc/{process}/{file}").read_bytes().rstrip(b"\0")
    return [word.decode() for word in text.split(b"\0")]


def _pairs(words: list[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        name, _, value = word.partition("=")
        yield name, value


def _running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
