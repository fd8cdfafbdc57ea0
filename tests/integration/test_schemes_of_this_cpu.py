"""What HAQA rules out on this machine's CPU is what the engine cannot serve there, and nothing else.

No scheme is named: what to expect is asked of HAQA itself, so this is as true on a CPU with AVX2 alone as on one with
AMX. `HAQA_TEST_ISA=avx2 make engines` runs it as on an older CPU.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.integration.quantize_bench import Bench
from tests.integration.this_cpu import QUICK, answers, ruled_out_here, schemes_of_cpus

from haqa_contract import Scheme
from haqa_runner.serve.launching import Spawn

pytestmark = pytest.mark.timeout(600)

GOES_BY_THE_REAL_CPU = {Scheme.FP8_DYNAMIC}
"""Torch takes oneDNN for its products where the CPU has AVX512-FP16 or AMX, and nothing tells it that one has not."""

ON_SOME_CPU = [
    scheme for scheme in schemes_of_cpus() if "HAQA_TEST_ISA" not in os.environ or scheme not in GOES_BY_THE_REAL_CPU
]
WITH_HEAD = [scheme for scheme in QUICK if ruled_out_here(scheme) is None]


@pytest.fixture(scope="module")
def problems(
    engines: Spawn, shared: Bench, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[Scheme, int], str | None]:
    """What keeps this machine's engine from answering, by scheme and whether its head is quantized; None = nothing."""
    places = {scheme: _model(shared, scheme) for scheme in ON_SOME_CPU}
    headed = {scheme: Path(shared.make(scheme, "rtn", quantize_head=True).path) for scheme in WITH_HEAD}
    found = answers(engines, [*places.values(), *headed.values()], tmp_path_factory.mktemp("answering"))
    return {
        (scheme, head): found[place] for head, these in enumerate((places, headed)) for scheme, place in these.items()
    }


def _model(shared: Bench, scheme: Scheme) -> Path:
    if scheme is Scheme.BF16:
        return shared.model
    return Path(shared.make(scheme, "rtn").path)


@pytest.mark.parametrize("scheme", ON_SOME_CPU)
def test_an_engine_serves_what_haqa_allows_and_nothing_that_it_rules_out(
    problems: dict[tuple[Scheme, int], str | None], scheme: Scheme
) -> None:
    ruled_out, problem = ruled_out_here(scheme), problems[scheme, 0]
    assert (problem is None) == (ruled_out is None), f"HAQA says {ruled_out or 'yes'}; the engine: {problem}"


@pytest.mark.parametrize("scheme", WITH_HEAD)
def test_an_engine_serves_a_quantized_output_head(
    problems: dict[tuple[Scheme, int], str | None], scheme: Scheme
) -> None:
    assert problems[scheme, 1] is None
