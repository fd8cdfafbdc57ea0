"""The operator as a process beside the cluster, with the stub runner and engine in its pods."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.building import PYTHON_IMAGE
from tests.cluster.kubectl import Kubectl, Manifest
from tests.policies import OPEN

ROOT = Path(__file__).parents[2]
STUB = ROOT / "tests" / "cluster" / "stub"
ENGINE_LOGS = ROOT / "tests" / "data" / "engine_logs"
_END_S = 10.0

Misbehaviours = Mapping[str, Mapping[str, str]]
"""Step -> how it misbehaves, by scheme or setting."""


@dataclass(frozen=True)
class Behaviour:
    """What the stubs in the pods are told, by a folder that they share with the test; may change while they run.

    The words are those of `stub/behaviour.py`.
    """

    folder: Path

    def told(self, hold: Sequence[str] = (), misbehaviours: Misbehaviours | None = None) -> None:
        """Steps that wait until told otherwise; and how the steps of some configurations misbehave."""
        self.folder.mkdir(exist_ok=True)
        written = self.folder / "behaviour.new"
        written.write_text(json.dumps({"hold": list(hold), **(misbehaviours or {})}))
        written.rename(self.folder / "behaviour.json")


@dataclass
class OperatorProcess:
    """One operator for one namespace; can be killed and started again."""

    kubectl: Kubectl
    log: Path
    extra: Mapping[str, str] = field(default_factory=dict)
    behaviour: Behaviour | None = None
    program: Sequence[str] = ("-m", "haqa_operator.handlers.main")
    folders: Mapping[str, Path] = field(default_factory=dict)
    """More of this machine that pods see, each as /NAME."""
    kubeconfig: Path | None = None
    """Whose rights it has; None: kubectl's, which are all."""
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig or self.kubectl.kubeconfig),
            "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'runner'}",
            "HAQA_NAMESPACES": json.dumps([self.kubectl.namespace]),
            "HAQA_POLICY": OPEN.model_dump_json(by_alias=True),
            "HAQA_RUNNER_IMAGE": PYTHON_IMAGE,
            "HAQA_ENGINE_IMAGE": PYTHON_IMAGE,
            "HAQA_RUNNER_COMMAND": json.dumps(["python3", "/stub/runner.py"]),
            "HAQA_ENGINE_COMMAND": json.dumps(["python3", "/stub/engine.py"]),
            "HAQA_EXTRA_VOLUMES": json.dumps(self._folders()),
            "HAQA_HTTP": "",
            "HAQA_LOG_FORMAT": "text",
            **self.extra,
        }
        with self.log.open("ab") as log:
            command = [sys.executable, *self.program]
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _folders(self) -> list[Manifest]:
        """What pods see of this machine."""
        folders = {"stub": STUB, "engine-logs": ENGINE_LOGS, **self.folders}
        if self.behaviour is not None:
            folders["behaviour"] = self.behaviour.folder
        return [
            {"name": name, "mountPath": f"/{name}", "source": {"hostPath": {"path": str(path)}}}
            for name, path in folders.items()
        ]

    def kill(self) -> None:
        """As the kernel would, with nothing put in order."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_END_S)


def claim(name: str, namespace: str, folder: Path) -> list[Manifest]:
    """A claim on a folder of the nodes, writable for any user: the kubelet changes no owners on hostPath volumes."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o777)
    volume = f"{namespace}-{name}"
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                **common,
                "capacity": {"storage": "10Gi"},
                "hostPath": {"path": str(folder)},
                "persistentVolumeReclaimPolicy": "Retain",
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name},
            "spec": {**common, "volumeName": volume, "resources": {"requests": {"storage": "10Gi"}}},
        },
    ]
