"""The operator's settings with which its pods run the real runner and the real vLLM from environments on the node.

An image of several gigabytes for each of them takes minutes to import into every node; an environment that lies there
is mounted. The interpreter is the image's own (`localhost/python:test`), its packages come by PYTHONPATH.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.building import PYTHON_IMAGE

from haqa_operator.executors.environments import Environment, runner_environment, serving_environment

ROOT = Path(__file__).parents[3]
IMAGE_PYTHON = "python3.11"
"""Of Debian 12, from which the image is bootstrapped."""
_COMPILE_LIMIT_S = 600.0


class CannotMount(Exception):
    """The environments of this machine cannot be used in pods."""


@dataclass(frozen=True)
class _Mounted:
    name: str
    folder: Path

    @property
    def place(self) -> str:
        return f"/opt/haqa/{self.name}"

    def volume(self) -> dict[str, object]:
        source = {"hostPath": {"path": str(self.folder), "type": "Directory"}}
        return {"name": f"env-{self.name}", "mountPath": self.place, "source": source}


def installation_settings() -> dict[str, str]:
    """Variables of the operator. Raises CannotMount with the remedy."""
    runner = _Mounted("runner", _packages(runner_environment()))
    serving = _Mounted("serving", _packages(serving_environment()))
    source = _Mounted("source", ROOT / "runner")
    rig = _Mounted("rig", Path(__file__).parent / "engine")
    return {
        "HAQA_RUNNER_IMAGE": PYTHON_IMAGE,
        "HAQA_ENGINE_IMAGE": PYTHON_IMAGE,
        "HAQA_RUNNER_COMMAND": json.dumps(["python3", "-m", "haqa_runner"]),
        # The checkout's runner goes before the one that the environment was installed from.
        "HAQA_RUNNER_ENV": json.dumps({"PYTHONPATH": f"{source.place}:{runner.place}"}),
        "HAQA_ENGINE_COMMAND": json.dumps(["env", f"PYTHONPATH={serving.place}", "python3", f"{rig.place}/engine.py"]),
        "HAQA_EXTRA_VOLUMES": json.dumps([mounted.volume() for mounted in (runner, serving, source, rig)]),
    }


def compile_packages() -> None:
    """Pods cannot write bytecode into what they mount read-only, and would compile everything at every start."""
    for environment in (runner_environment(), serving_environment()):
        command = [str(environment.python), "-m", "compileall", "-q", "-j", "0", str(_packages(environment))]
        # It fails for templates and for sources of other Pythons, which nobody imports.
        subprocess.run(command, check=False, timeout=_COMPILE_LIMIT_S, capture_output=True, env=_plain())


def _packages(environment: Environment) -> Path:
    if missing := environment.missing():
        raise CannotMount(
            f"the {environment.role} environment at {environment.python} lacks {', '.join(missing)}: run `make envs`, "
            f"or name another environment's interpreter in {environment.variable}"
        )
    for folder in environment.site_packages():
        if folder.parent.name == IMAGE_PYTHON:
            return folder.resolve()
    raise CannotMount(
        f"the {environment.role} environment at {environment.python} is not of {IMAGE_PYTHON}, which the pods run; "
        "make it with that"
    )


def _plain() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
