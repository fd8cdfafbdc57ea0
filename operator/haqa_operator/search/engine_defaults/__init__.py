"""The engine settings that HAQA considers where a tuning names none: for each platform a table, by expected gain.

The one place to review: `cpu`, `nvidia`, `amd` and `intel` hold the tables, `shared` and `parallelism` what they have
in common. `joining` crosses them within the size of a space.
"""

from __future__ import annotations

from collections.abc import Mapping

from haqa_contract import Scalar
from haqa_operator.hardware.accelerators import Platform
from haqa_operator.search.cases import Case
from haqa_operator.search.engine_defaults.amd import AMD
from haqa_operator.search.engine_defaults.cpu import CPU
from haqa_operator.search.engine_defaults.intel import GAUDI, XPU
from haqa_operator.search.engine_defaults.nvidia import NVIDIA
from haqa_operator.search.engine_defaults.settings import DefaultSetting, Value, bare

__all__ = ["DEFAULT_SETTINGS", "DefaultSetting", "Expectations", "Value", "expected_factor"]

DEFAULT_SETTINGS: dict[Platform, tuple[DefaultSetting, ...]] = {
    Platform.CPU: CPU,
    Platform.CUDA: NVIDIA,
    Platform.ROCM: AMD,
    Platform.XPU: XPU,
    Platform.GAUDI: GAUDI,
}
"""The highest rank first."""


def expected_factor(case: Case) -> float:
    """What the engine settings of a configuration should bring: expected output tokens/s against leaving them out.

    The product over the settings in the tables, whoever named them; other settings count for nothing. What follows from
    bytes of weights and KV cache and from sequences that fit is not in it: `prior.by_roofline` knows that itself. For
    many configurations of one format, make `Expectations` once.
    """
    return Expectations(case).factor(case.settings) if case.configuration.engine else 1.0


class Expectations:
    """What any engine settings should bring to one format of one model on one device under one workload."""

    def __init__(self, case: Case) -> None:
        """Args:
        case: Whose configuration's engine settings do not matter.
        """
        case = bare(case)
        self._factors: list[dict[tuple[tuple[str, Scalar], ...], float]] = []
        self._places: dict[str, list[int]] = {}
        for place, setting in enumerate(DEFAULT_SETTINGS[case.accelerator.platform]):
            values = sorted(setting.values_for(case), key=lambda value: -len(value.items))
            self._factors.append({value.items: value.expected(case) for value in values})
            for name in dict.fromkeys(name for value in values for name in value.settings):
                self._places.setdefault(name, []).append(place)

    def factor(self, settings: Mapping[str, Scalar]) -> float:
        """As `expected_factor`."""
        factor = 1.0
        for place in sorted({place for name in settings for place in self._places.get(name, ())}):
            factor *= self._of_setting(place, settings)
        return factor

    def _of_setting(self, place: int, settings: Mapping[str, Scalar]) -> float:
        """The factor of the value of one setting that says most of what is set; 1 where none is."""
        for items, factor in self._factors[place].items():
            if all(name in settings and settings[name] == value for name, value in items):
                return factor
        return 1.0
