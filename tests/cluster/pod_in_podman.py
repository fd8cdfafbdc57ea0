"""One container of a pod's manifest, run by podman as a kubelet would: its user, its rights and its mounts alone."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.image_building import podman_command

from haqa_contract.termination import TERMINATION_LOG
from haqa_operator.api.manifests import Manifest

_SETTINGS = "[containers]\ndefault_ulimits = []\n"
"""A container in which this runs may not raise limits."""


@dataclass(frozen=True)
class Machine:
    """A kubelet's part: where the pod's volumes lie.

    Attributes:
        folder: For volumes that begin empty, and for podman's settings.
        claims: Folders by name of PersistentVolumeClaim.
    """

    folder: Path
    claims: Mapping[str, Path] = field(default_factory=dict)

    def run(self, image: str, pod: Manifest, name: str, limit_s: float) -> subprocess.CompletedProcess[str]:
        """Runs the container of that name to its end, with `image` as the image."""
        spec = pod["spec"]
        (container,) = [one for one in (*spec.get("initContainers", ()), *spec["containers"]) if one["name"] == name]
        words: list[str] = [*container.get("command", []), *container.get("args", [])]
        user = spec["securityContext"]["runAsUser"]
        options = [*_rights(container["securityContext"]), f"--user={user}:{spec['securityContext']['runAsGroup']}"]
        options += [f"--env={entry['name']}={entry['value']}" for entry in container.get("env", ())]
        (self.folder / "message").write_text("")
        os.chown(self.folder / "message", user, user)
        options.append(f"--volume={self.folder / 'message'}:{TERMINATION_LOG}")
        options += [option for mount in container["volumeMounts"] for option in self._mounted(mount, pod, user)]
        return self.podman(*options, f"--entrypoint={words[0]}", image, *words[1:], limit_s=limit_s)

    def message(self) -> str:
        """The termination message of the container that was run last."""
        return (self.folder / "message").read_text()

    def podman(self, *arguments: str, limit_s: float) -> subprocess.CompletedProcess[str]:
        """`podman run` without a network, in a container's own limits."""
        settings = self.folder / "containers.conf"
        settings.write_text(_SETTINGS)
        common = ("--runtime=runc", "run", "--rm", "--network=none", "--ulimit=host")
        return subprocess.run(
            podman_command(*common, *arguments),
            env={**os.environ, "CONTAINERS_CONF": str(settings)},
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )

    def _mounted(self, mount: Manifest, pod: Manifest, user: int) -> list[str]:
        (volume,) = [one for one in pod["spec"]["volumes"] if one["name"] == mount["name"]]
        path, read_only = mount["mountPath"], ":ro" if mount.get("readOnly") else ""
        if volume.get("emptyDir", {}).get("medium") == "Memory":
            return [f"--tmpfs={path}:mode=1777"]
        place = self._place(volume, pod)
        # As fsGroup does: what the pod may write to is its user's.
        if not read_only:
            os.chown(place, user, user)
        return [f"--volume={place}{_below(mount)}:{path}{read_only}"]

    def _place(self, volume: Manifest, pod: Manifest) -> Path:
        place = self.folder / str(volume["name"])
        match volume:
            case {"emptyDir": _}:
                place.mkdir(exist_ok=True)
            case {"persistentVolumeClaim": {"claimName": claim}}:
                return self.claims[claim]
            case {"downwardAPI": {"items": items}}:
                place.mkdir(exist_ok=True)
                for item in items:
                    annotation = item["fieldRef"]["fieldPath"].partition("['")[2].removesuffix("']")
                    (place / item["path"]).write_text(pod["metadata"]["annotations"][annotation])
            case _:
                raise NotImplementedError(json.dumps(volume))
        return place


def _rights(security: Manifest) -> list[str]:
    assert not security["allowPrivilegeEscalation"]
    assert security["readOnlyRootFilesystem"]
    dropped = [f"--cap-drop={name.lower()}" for name in security["capabilities"]["drop"]]
    # podman's own /tmp and /run would hide what the pod lacks.
    return ["--read-only", "--read-only-tmpfs=false", "--security-opt=no-new-privileges", *dropped]


def _below(mount: Manifest) -> str:
    return f"/{mount['subPath']}" if "subPath" in mount else ""
