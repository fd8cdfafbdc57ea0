"""A Service of the cluster on this machine's loopback."""

from __future__ import annotations

import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass

from tests.cluster.kubectl import Kubectl
from tests.cluster.waiting import wait_until

_LIMIT_S = 20.0


@dataclass
class PortForward:
    """kubectl port-forward to one pod of the Service.

    Attributes:
        local_port: Chosen when it is opened first, and the same for as long as this object lives.
    """

    kubectl: Kubectl
    service: str
    port: int
    local_port: int = 0
    _process: subprocess.Popen[str] | None = None

    def open(self) -> None:
        # The Service knows of its pod a moment later.
        wait_until(self._opened, _LIMIT_S, f"kubectl port-forward to {self.service}")

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait(10)

    def _opened(self) -> bool:
        self.close()
        wanted = f"{self.local_port or ''}:{self.port}"
        common = ["--kubeconfig", str(self.kubectl.kubeconfig), "--namespace", self.kubectl.namespace]
        command = [self.kubectl.program, *common, "port-forward", "--address=127.0.0.1"]
        self._process = subprocess.Popen(
            [*command, f"service/{self.service}", wanted], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        # Its first line is the port, or its end.
        told = re.search(r"127\.0\.0\.1:(\d+)", self._process.stdout.readline())
        if told is None:
            return False
        self.local_port = int(told[1])
        return True
