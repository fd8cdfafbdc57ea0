"""Algorithms that a model cannot take, known before it is loaded: they would fail, or change what it computes."""

from __future__ import annotations

import logging
from pathlib import Path

from haqa_contract import Algorithm
from haqa_contract.failures import cause_of
from haqa_contract.model_facts import ModelFacts, Unsuited
from haqa_runner.models.architecture.building import build
from haqa_runner.models.checkpoint import read_config
from haqa_runner.quantize.recipes import Modifier

log = logging.getLogger(__name__)

_USERS = {
    Modifier.SMOOTHQUANT: (Algorithm.SMOOTHQUANT, Algorithm.SMOOTHQUANT_GPTQ),
    Modifier.AWQ: (Algorithm.AWQ,),
    Modifier.AUTOROUND: (Algorithm.AUTOROUND,),
}


def unsuited_algorithms(facts: ModelFacts, folder: Path, uri: str) -> tuple[Unsuited, ...]:
    """Those that are known to fail or to harm; of the others only trying tells."""
    if facts.source != "class" or facts.quantized_by:
        return ()
    try:
        from haqa_runner.quantize.warm import compressor

        problems = compressor.unsuited_modifiers(build(read_config(folder, uri)).model)
    except Exception as error:  # Whatever a model's own code raises where there are no numbers: its trials will tell.
        log.info("what the model cannot take is not known: %s", cause_of(error))
        return ()
    return tuple(
        Unsuited(algorithm=algorithm, reason=reason)
        for modifier, reason in problems.items()
        for algorithm in _USERS[modifier]
    )
