"""What is expected of a metric before anything is measured."""

from __future__ import annotations

import numpy as np
import pytest

from haqa_contract import Configuration
from haqa_operator.api.metrics import MetricKey
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.surrogate.priors import expected
from haqa_operator.search.surrogate.rows import rows_of


def served_by(*engines: str, column: str = "framework") -> SearchSpace:
    first, *others = (Configuration.of("BF16", "none", None, **{column: engine}) for engine in engines)
    return SearchSpace(candidates=tuple(others), baseline=first)


def ratio(space: SearchSpace, metric: str) -> float:
    """The second system over the first."""
    both = [space.baseline, next(iter(space.candidates))]
    values = expected(MetricKey.parse(metric), space, rows_of(space), both)
    return float(np.exp(values[1] - values[0]))


@pytest.mark.parametrize("name", ["llama.cpp", "Llama.cpp", "LLaMA-CPP"])
def test_what_is_known_of_a_serving_system_is_expected_of_its_name(name: str) -> None:
    space = served_by("vLLM", name)
    assert ratio(space, "throughput") < 0.1
    assert ratio(space, "e2e") > 1.2


def test_nothing_is_expected_of_a_name_that_is_not_known() -> None:
    assert ratio(served_by("vLLM", "somebody's engine"), "throughput") == 1


def test_a_setting_of_the_engine_is_no_serving_system() -> None:
    assert ratio(served_by("vllm", "llama.cpp", column="model_impl"), "throughput") == 1
