"""What an installation of the operator decides for all tunings, read from its environment (the chart sets it)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from haqa_operator.cluster.observe.failures import Limits
from haqa_operator.cluster.policy import Policy
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.metrics.prometheus_http import Connection
from haqa_operator.metrics.prometheus_series import Labels
from haqa_operator.serving.pod import ENGINE_COMMAND
from haqa_operator.serving.startup import StartupLimit
from haqa_operator.serving.volumes import ExtraVolume, SecretVariable

Value = TypeVar("Value")

DEFAULT_RUNNER_IMAGE = "haqa-runner:0.1.0"
_RUNNERS = (Vendor.NVIDIA, Vendor.AMD, Vendor.CPU)
"""Hardware that a torch is published for, and so a runner's image."""


class InstallationError(ValueError):
    """A variable of the operator's environment is wrong; the message names it, its value and the remedy."""


@dataclass(frozen=True)
class Installation:
    """Settings of one installation.

    Attributes:
        namespaces: The only ones that are watched; none = all.
        policy: What tunings may ask for.
        runner_image, runner_command: What quantizes and measures.
        runner_images: The same with another torch, for pools of that hardware.
        runner_secrets: Variables of the runner by reference to a Secret of the tuning's namespace, for example
            AWS_SECRET_ACCESS_KEY.
        engine_image: Replaces the official image of every pool that names none.
        engine_command: For images in which vLLM is started otherwise.
        extra: Folders that every trial and every winner gets, for example an environment that lies on the nodes.
        prometheus: None: the runner's own figures are the record.
        prometheus_labels: What its series call a pod's namespace and name.
        scrape_interval_s: Of trial pods; a trial stays up for two of them after its last window.
        user_id: Of all pods; None leaves it to the cluster, as OpenShift wants it.
        startup: How long an engine may take to answer /health.
        limits: How long a pod may be stuck before its trial is tried again, and in the end fails.
        lease: NAMESPACE/NAME of the Lease that whoever acts has to hold; None: nobody else is there.
        model_check_s: After how long a model is looked at again that has been tuned; 0: never.
        agent_socket: Where the process listens that talks to language models; None: the operator does it itself.
    """

    namespaces: tuple[str, ...] = ()
    policy: Policy = field(default_factory=Policy)
    runner_image: str = DEFAULT_RUNNER_IMAGE
    runner_images: Mapping[Vendor, str] = field(default_factory=dict)
    runner_command: tuple[str, ...] = ("python3", "-m", "haqa_runner")
    runner_env: Mapping[str, str] = field(default_factory=dict)
    runner_secrets: tuple[SecretVariable, ...] = ()
    engine_image: str | None = None
    engine_command: tuple[str, ...] = ENGINE_COMMAND
    extra: tuple[ExtraVolume, ...] = ()
    prometheus: Connection | None = None
    prometheus_labels: Labels = field(default_factory=Labels)
    scrape_interval_s: float = 15.0
    user_id: int | None = 10001
    startup: StartupLimit = field(default_factory=StartupLimit)
    limits: Limits = field(default_factory=Limits)
    lease: str | None = None
    model_check_s: float = 24 * 3600.0
    agent_socket: Path | None = None

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Installation:
        """Raises InstallationError."""
        default = cls()
        return cls(
            namespaces=_words(env, "HAQA_NAMESPACES", default.namespaces),
            policy=_policy(env),
            runner_image=env.get("HAQA_RUNNER_IMAGE") or DEFAULT_RUNNER_IMAGE,
            runner_images=_runner_images(env),
            runner_command=_words(env, "HAQA_RUNNER_COMMAND", default.runner_command),
            runner_env=_json(env, "HAQA_RUNNER_ENV", {}),
            runner_secrets=_secrets(env),
            engine_image=env.get("HAQA_ENGINE_IMAGE") or None,
            engine_command=_words(env, "HAQA_ENGINE_COMMAND", default.engine_command),
            extra=_extra(env),
            prometheus=_prometheus(env),
            prometheus_labels=_labels(env),
            scrape_interval_s=_seconds(env, "HAQA_SCRAPE_INTERVAL_SECONDS", default.scrape_interval_s),
            user_id=int(_number(env, "HAQA_USER_ID", default.user_id or 0)) or None,
            startup=_startup(env, default.startup),
            limits=_limits(env, default.limits),
            lease=_lease(env),
            model_check_s=_number(env, "HAQA_MODEL_CHECK_SECONDS", default.model_check_s),
            agent_socket=Path(env["HAQA_AGENT_SOCKET"]) if env.get("HAQA_AGENT_SOCKET") else None,
        )

    def runner_image_for(self, accelerator: Accelerator) -> str:
        """The one whose torch can use this hardware; there is none for Intel's accelerators, so a CPU's."""
        vendor = Vendor.CPU if accelerator.vendor is Vendor.INTEL else accelerator.vendor
        return self.runner_images.get(vendor, self.runner_image)


def _lease(env: Mapping[str, str]) -> str | None:
    text = env.get("HAQA_LEASE") or None
    if text is not None and len([part for part in text.split("/") if part]) != 2:
        raise InstallationError(f"HAQA_LEASE: {text!r} is not NAMESPACE/NAME; empty takes none")
    return text


def _policy(env: Mapping[str, str]) -> Policy:
    found: dict[str, Any] = _json(env, "HAQA_POLICY", {})
    try:
        return Policy.model_validate(found)
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, one['loc']))}: {one['input']!r}: {one['msg']}" for one in error.errors())
        raise InstallationError(f"HAQA_POLICY: {'; '.join(wrong)}") from error


def _runner_images(env: Mapping[str, str]) -> dict[Vendor, str]:
    found: dict[str, Any] = _json(env, "HAQA_RUNNER_IMAGES", {})
    for name, image in found.items():
        if name not in _RUNNERS or not isinstance(image, str) or not image:
            known = ", ".join(_RUNNERS)
            raise InstallationError(f"HAQA_RUNNER_IMAGES: {name}: {image!r} is not the image of one of {known}")
    return {Vendor(name): image for name, image in found.items()}


def _startup(env: Mapping[str, str], default: StartupLimit) -> StartupLimit:
    return StartupLimit(
        base_s=_seconds(env, "HAQA_STARTUP_SECONDS", default.base_s),
        megabytes_per_s=_rate(env, "HAQA_LOAD_MEGABYTES_PER_SECOND", default.megabytes_per_s),
    )


def _limits(env: Mapping[str, str], default: Limits) -> Limits:
    return Limits(
        unschedulable_s=_seconds(env, "HAQA_UNSCHEDULABLE_SECONDS", default.unschedulable_s),
        image_pull_s=_seconds(env, "HAQA_IMAGE_PULL_SECONDS", default.image_pull_s),
        not_starting_s=_seconds(env, "HAQA_NOT_STARTING_SECONDS", default.not_starting_s),
        node_lost_s=_seconds(env, "HAQA_NODE_LOST_SECONDS", default.node_lost_s),
        disruptions=default.disruptions,
    )


def _prometheus(env: Mapping[str, str]) -> Connection | None:
    url = env.get("HAQA_PROMETHEUS_URL")
    if not url:
        return None
    try:
        return Connection(
            url=url,
            bearer_token_file=env.get("HAQA_PROMETHEUS_TOKEN_FILE") or None,
            username=env.get("HAQA_PROMETHEUS_USERNAME") or None,
            password=env.get("HAQA_PROMETHEUS_PASSWORD") or None,
            ca_file=env.get("HAQA_PROMETHEUS_CA_FILE") or None,
            verify=_json(env, "HAQA_PROMETHEUS_VERIFY", True),
            timeout_s=_seconds(env, "HAQA_PROMETHEUS_TIMEOUT_SECONDS", Connection.timeout_s),
        )
    except InstallationError:
        raise
    except ValueError as error:
        raise InstallationError(f"HAQA_PROMETHEUS_*: {error}") from error


def _labels(env: Mapping[str, str]) -> Labels:
    default = Labels()
    try:
        return Labels(
            namespace=env.get("HAQA_PROMETHEUS_NAMESPACE_LABEL") or default.namespace,
            pod=env.get("HAQA_PROMETHEUS_POD_LABEL") or default.pod,
        )
    except ValueError as error:
        raise InstallationError(f"HAQA_PROMETHEUS_*_LABEL: {error}") from error


def _extra(env: Mapping[str, str]) -> tuple[ExtraVolume, ...]:
    found: list[dict[str, Any]] = _json(env, "HAQA_EXTRA_VOLUMES", [])
    try:
        return tuple(ExtraVolume(one["name"], one["mountPath"], dict(one["source"])) for one in found)
    except (KeyError, TypeError, ValueError) as error:
        raise InstallationError(
            f"HAQA_EXTRA_VOLUMES: {found!r} is not a list of {{name, mountPath, source}} ({error!r})"
        ) from error


def _secrets(env: Mapping[str, str]) -> tuple[SecretVariable, ...]:
    found: list[dict[str, Any]] = _json(env, "HAQA_RUNNER_SECRETS", [])
    try:
        return tuple(SecretVariable(one["name"], one["secret"], one["key"]) for one in found)
    except (KeyError, TypeError) as error:
        raise InstallationError(
            f"HAQA_RUNNER_SECRETS: {found!r} is not a list of {{name, secret, key}} ({error!r})"
        ) from error


def _words(env: Mapping[str, str], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_json(env, name, list(default)))


def _json(env: Mapping[str, str], name: str, default: Value) -> Value:
    text = env.get(name)
    if not text:
        return default
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InstallationError(f"{name}: {text!r} is not JSON ({error})") from error
    if not isinstance(value, type(default)):
        raise InstallationError(f"{name}: {text!r} is not a JSON {type(default).__name__}")
    return value


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name)
    if not text:
        return default
    try:
        return float(text)
    except ValueError as error:
        raise InstallationError(f"{name}: {text!r} is not a number") from error


def _rate(env: Mapping[str, str], name: str, default: float) -> float:
    value = _number(env, name, default)
    if not 0 < value < math.inf:
        raise InstallationError(f"{name}: {env[name]!r} is no rate; give megabytes a second, as 200")
    return value


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    value = _number(env, name, default)
    if not 0 < value < math.inf:
        raise InstallationError(f"{name}: {env[name]!r} is no length of time; give seconds, as 2 or 0.5")
    return value
