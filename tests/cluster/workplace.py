"""A namespace with claims, an operator and stubs that do as they are told: where one test, or one module, works."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.operator_process import Behaviour, OperatorProcess, claim
from tests.cluster.waiting import wait_until

LIMIT_S = 240.0
"""For anything that takes a few seconds on a machine that does nothing else."""

QUICK = {
    "HAQA_IMAGE_PULL_SECONDS": "4",
    "HAQA_NODE_LOST_SECONDS": "4",
    "HAQA_STARTUP_SECONDS": "30",
}
"""Limits of an installation whose users do not like to wait."""


@dataclass(frozen=True)
class Workplace:
    api: Kubectl
    operator: OperatorProcess
    behaviour: Behaviour
    folder: Path

    def tuning(self, name: str = "demo") -> Manifest:
        return self.api.get("quantizationtuning", name)

    def trials(self, tuning: str = "demo") -> list[Manifest]:
        """By number."""
        found = self.api.list("quantizationtrial", f"haqa.dev/tuning={tuning}")
        return sorted(found, key=lambda trial: (trial["spec"]["pool"], int(trial["spec"]["number"])))

    def jobs(self, component: str = "trial") -> list[Manifest]:
        return self.api.list("job", f"haqa.dev/component={component}")

    def pods(self) -> list[Manifest]:
        return self.api.list("pod", "haqa.dev/component=trial")

    def measured(self, tuning: str = "demo") -> Counter[str]:
        """How often each trial was measured to its end, by what the stubs in the pods wrote down themselves."""
        lines = self._measured.read_text().splitlines() if self._measured.exists() else []
        return Counter(line for line in lines if line.startswith(f"{tuning}-"))

    @property
    def _measured(self) -> Path:
        return self.folder / "artifacts" / "measured"

    def until(self, probe: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
        wait_until(probe, limit_s, what, self.told)

    def in_phase(self, *phases: str, name: str = "demo", limit_s: float = LIMIT_S) -> Manifest:
        self.until(lambda: self.phase(name) in phases, f"{name} to be {' or '.join(phases)}", limit_s)
        return self.tuning(name)

    def phase(self, name: str = "demo") -> str:
        return str(self.tuning(name).get("status", {}).get("phase", ""))

    def at_step(self, phase: str, number: int, tuning: str = "demo") -> Manifest:
        """The trial once its status says that it is in this phase."""

        def probe() -> Manifest | None:
            found = [trial for trial in self.trials(tuning) if trial["spec"]["number"] == number]
            return found[0] if found and found[0].get("status", {}).get("phase") == phase else None

        return wait_until(probe, LIMIT_S, f"trial {number} of {tuning} to be {phase}", self.told)

    def tidied(self) -> None:
        """As it was before the first tuning: the next one finds the nodes free and an operator at work."""
        self.behaviour.told()
        emptied(self.api)
        self._measured.unlink(missing_ok=True)
        if not self.operator.running:
            self.operator.start()

    def described(self, name: str = "demo") -> str:
        return self.api.run("describe", "quantizationtuning", name)

    def everything_written(self) -> str:
        """All that the operator and its pods left where somebody may read it."""
        kinds = "quantizationtunings,quantizationtrials,jobs,pods,deployments,services,configmaps,events"
        described = self.described() + self.api.run("describe", "quantizationtrials")
        logs = [
            self.api.run("logs", pod["metadata"]["name"], "--all-containers", "--ignore-errors")
            for pod in self.api.list("pod")
        ]
        return "\n".join([self.api.run("get", kinds, "-o", "yaml"), described, self.operator.log.read_text(), *logs])

    def told(self) -> str:
        """For a test that waited in vain."""
        shown = self.api.run("get", "quantizationtunings,quantizationtrials,jobs,pods,deployments", "-o", "wide")
        text = self.operator.log.read_text() if self.operator.log.exists() else ""
        tunings = self.api.run("get", "quantizationtunings", "-o", "yaml")
        return f"{shown}\n{tunings[-4000:]}\n{text[-6000:]}"


@contextmanager
def namespace(cluster: Kubectl) -> Iterator[Kubectl]:
    """kubectl in a namespace that is removed afterwards."""
    name = f"test-{secrets.token_hex(4)}"
    cluster.run("create", "namespace", name)
    within = cluster.within(name)
    # Pods are refused until the controller has made their service account.
    wait_until(lambda: within.run("get", "serviceaccounts", "-o", "name"), 30, f"the service account of {name}")
    try:
        yield within
    finally:
        cluster.run("delete", "namespace", name, "--wait=false")


@contextmanager
def workplace(
    cluster: Kubectl,
    folder: Path,
    extra: Mapping[str, str] | None = None,
    program: Sequence[str] | None = None,
    folders: Mapping[str, Path] | None = None,
) -> Iterator[Workplace]:
    """With the operator running; afterwards no pod of it holds a node."""
    behaviour = Behaviour(folder / "behaviour")
    with namespace(cluster) as api:
        supplied(api, folder)
        behaviour.told()
        settings = {**QUICK, **(extra or {})}
        operator = OperatorProcess(api, folder / "operator.log", settings, behaviour, folders=folders or {})
        if program is not None:
            operator.program = program
        operator.start()
        try:
            yield Workplace(api, operator, behaviour, folder)
        finally:
            operator.stop()
            emptied(api)


def supplied(api: Kubectl, folder: Path) -> None:
    """Claims for a model and for artifacts, kept in a folder that the pods' own user can reach."""
    folder.chmod(0o755)
    (folder / "models" / "model").mkdir(parents=True)
    for name in ("models", "artifacts"):
        api.apply(*claim(name, api.namespace, folder / name))


def emptied(api: Kubectl) -> None:
    """An engine takes most of a node: the next test's trials would wait for it."""
    api.run("delete", "quantizationtunings", "--all", "--wait=true", limit_s=60)

    def empty() -> bool:
        # More than once: an operator that was looking at the tuning may still have written its winner.
        api.run("delete", "deployments,services,jobs", "--all", "--cascade=background", limit_s=60)
        api.run("delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false", limit_s=60)
        return not (api.list("deployment") or api.list("job") or api.list("pod"))

    wait_until(empty, 90, "pods and what makes them to be gone")
