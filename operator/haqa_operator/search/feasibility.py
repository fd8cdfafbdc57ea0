"""Which configurations cannot work, known before a machine is taken: pure policies, tried in order.

Each policy looks at a case and answers with a violation or None; the first violation is the reason a configuration is
left out (the shape of cert-manager's issuing policies). A policy that lacks what it needs to know (no model profile, no
memory size) lets the configuration pass: a trial finds out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.search.model_profile import ModelProfile
from haqa_operator.search.requirements import Version
from haqa_runner.contract import Configuration, Scalar, Workload


@dataclass(frozen=True)
class Case:
    """One configuration of one model on one kind of machine.

    Attributes:
        model: None where the model's config could not be read.
        env: Environment of the engine; `VLLM_CPU_KVCACHE_SPACE` counts.
    """

    accelerator: Accelerator
    model: ModelProfile | None
    configuration: Configuration
    workload: Workload
    engine_version: Version
    env: Mapping[str, str] = field(default_factory=dict)

    def setting(self, name: str) -> Scalar | None:
        """An engine setting by command-line name, or None where the engine's default holds."""
        return self.configuration.settings.get(name)

    def number(self, name: str) -> float | None:
        """The same for a setting that is a number; texts like `auto` and `16k` are the engine's own business."""
        value = self.setting(name)
        return None if isinstance(value, (bool, str)) else value

    @property
    def tensor_parallel(self) -> int:
        """Accelerators that share each layer; all of the replica's where nothing else is set."""
        others = (self.number("pipeline-parallel-size") or 1) * (self.number("data-parallel-size") or 1)
        return int(self.number("tensor-parallel-size") or max(1, self.accelerator.count // int(others)))


@dataclass(frozen=True)
class Violation:
    """Why a configuration is left out.

    Attributes:
        reason: One sentence with the numbers.
        parameters: Names of the configuration's parameters that cause it; configurations that have these in common are
            left out together.
    """

    reason: str
    parameters: tuple[str, ...]


Policy = Callable[[Case], Violation | None]


def first_violation(case: Case, policies: Iterable[Policy]) -> Violation | None:
    """The first violation in the order of the policies."""
    return next((violation for policy in policies if (violation := policy(case)) is not None), None)


def infeasibility(case: Case) -> str | None:
    """Why this configuration cannot work, or None where nothing is known against it."""
    violation = first_violation(case, (*artifact_policies(), *engine_policies()))
    return violation.reason if violation else None


def artifact_policies() -> tuple[Policy, ...]:
    """Policies that depend on scheme, algorithm and group size alone, cheapest knowledge first."""
    from haqa_operator.search.artifact_policies import ARTIFACT_POLICIES

    return ARTIFACT_POLICIES


def engine_policies() -> tuple[Policy, ...]:
    """Policies that depend on engine settings too."""
    from haqa_operator.search.engine_policies import ENGINE_POLICIES

    return ENGINE_POLICIES
