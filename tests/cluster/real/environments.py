"""The operator's settings with which its pods run the real runner and the real vLLM from environments on the node.

An image of several gigabytes for each of them takes minutes to import into every node; an environment that lies there
is mounted. The interpreter is the image's own (`localhost/python:test`), its packages come by PYTHONPATH.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.building import PYTHON_IMAGE, cache_folder
from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.one_pod import output_of

from haqa_operator.local.environments import Environment, engine_version, runner_environment, serving_environment
from haqa_operator.local.launchers import RUNNER_PRELOAD
from haqa_runner.prefork import VLLM_PRELOAD

ROOT = Path(__file__).parents[3]
_IMAGE_PYTHON = "python3.11"
"""Of Debian 12, from which the image is bootstrapped."""
_USER_ID = 10001
_COMPILE_LIMIT_S = 900.0
_IMPORT = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"


class CannotMount(Exception):
    """The environments of this machine cannot be used in pods; the message has the remedy."""


@dataclass(frozen=True)
class _Mounted:
    """A folder of the node, in every pod at the same place."""

    name: str
    folder: Path

    @property
    def place(self) -> str:
        return f"/opt/haqa/{self.name}"

    @property
    def source(self) -> Manifest:
        return {"hostPath": {"path": str(self.folder), "type": "Directory"}}


@dataclass(frozen=True)
class NodeEnvironments:
    """Folders of the node from which pods run.

    Attributes:
        runner, serving: site-packages of the two environments.
        source: The checkout's runner, which goes before the one that the environment was installed from.
        rig: `engine.py`.
        bytecode: Pods cannot write into what they mount read-only, and would compile thousands of modules every time.
    """

    runner: _Mounted
    serving: _Mounted
    source: _Mounted
    rig: _Mounted
    bytecode: _Mounted

    @classmethod
    def of_this_machine(cls) -> NodeEnvironments:
        """Raises CannotMount."""
        bytecode = cache_folder() / "bytecode"
        bytecode.mkdir(parents=True, exist_ok=True)
        bytecode.chmod(0o777)
        return cls(
            _Mounted("runner", _packages(runner_environment())),
            _Mounted("serving", _packages(serving_environment())),
            _Mounted("source", ROOT / "runner"),
            _Mounted("rig", Path(__file__).parent / "engine"),
            _Mounted("bytecode", bytecode),
        )

    @property
    def engine_version(self) -> str:
        """vLLM's, without what tells one build of a release from another."""
        found = engine_version(serving_environment())
        if found is None:
            raise CannotMount("the serving environment has no vLLM: run `make envs`")
        return found.partition("+")[0]

    @property
    def runner_command(self) -> list[str]:
        return ["python3", "-m", "haqa_runner"]

    @property
    def engine_command(self) -> list[str]:
        settings = [f"{name}={value}" for name, value in self._engine_env.items()]
        return ["env", *settings, "python3", f"{self.rig.place}/engine.py"]

    @property
    def volumes(self) -> list[Manifest]:
        """As in the chart's extraVolumes."""
        return [{"name": f.name, "mountPath": f.place, "source": f.source} for f in self._folders]

    def settings(self) -> dict[str, str]:
        """Variables of the operator."""
        return {
            "HAQA_RUNNER_IMAGE": PYTHON_IMAGE,
            "HAQA_ENGINE_IMAGE": PYTHON_IMAGE,
            "HAQA_RUNNER_COMMAND": json.dumps(self.runner_command),
            "HAQA_RUNNER_ENV": json.dumps(self.runner_env),
            "HAQA_ENGINE_COMMAND": json.dumps(self.engine_command),
            "HAQA_EXTRA_VOLUMES": json.dumps(self.volumes),
        }

    def compile(self, api: Kubectl) -> None:
        """Lets a pod import what the trials' pods will, so that they find its bytecode. Slow the first time only."""
        for env, modules in ((self.runner_env, RUNNER_PRELOAD), (self._engine_env, VLLM_PRELOAD)):
            output_of(api, self._importing(env, modules), _COMPILE_LIMIT_S)

    @property
    def _folders(self) -> tuple[_Mounted, ...]:
        return (self.runner, self.serving, self.source, self.rig, self.bytecode)

    @property
    def runner_env(self) -> dict[str, str]:
        return self._env(f"{self.source.place}:{self.runner.place}")

    @property
    def _engine_env(self) -> dict[str, str]:
        # The image has no C++ compiler, which vLLM's sampler would compile with; the official image has one.
        return self._env(self.serving.place) | {"TORCHDYNAMO_DISABLE": "1"}

    def _env(self, path: str) -> dict[str, str]:
        return {"PYTHONPATH": path, "PYTHONPYCACHEPREFIX": self.bytecode.place}

    def _importing(self, env: dict[str, str], modules: Sequence[str]) -> Manifest:
        container = {
            "name": "main",
            "image": PYTHON_IMAGE,
            "command": ["python3", "-c", _IMPORT, *modules],
            "env": [{"name": name, "value": value} for name, value in env.items()],
            "volumeMounts": [{"name": folder.name, "mountPath": folder.place} for folder in self._folders],
        }
        return {
            "securityContext": {"runAsUser": _USER_ID},
            "containers": [container],
            "volumes": [{"name": folder.name, **folder.source} for folder in self._folders],
        }


def _packages(environment: Environment) -> Path:
    if missing := environment.missing():
        raise CannotMount(
            f"the {environment.role} environment at {environment.python} lacks {', '.join(missing)}: run `make envs`, "
            f"or name another environment's interpreter in {environment.variable}"
        )
    for folder in environment.site_packages():
        if folder.parent.name == _IMAGE_PYTHON:
            return folder.resolve()
    raise CannotMount(
        f"the {environment.role} environment at {environment.python} is not of {_IMAGE_PYTHON}, which the pods run; "
        "make it with that"
    )
