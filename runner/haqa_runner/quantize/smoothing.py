"""Whether llm-compressor knows what to smooth in a model, asked before anything is loaded."""

from __future__ import annotations

import logging
from pathlib import Path

from haqa_contract.model_facts import ModelFacts
from haqa_runner.models.architecture.building import UnknownArchitecture, build
from haqa_runner.models.checkpoint import read_config

log = logging.getLogger(__name__)


def can_be_smoothed(facts: ModelFacts, folder: Path, uri: str) -> bool | None:
    """Whether SmoothQuant finds its layers; None where only trying tells.

    Of a mixture's experts llm-compressor makes Linear layers when it has loaded them, and the mappings want those.
    """
    if facts.source != "class" or facts.experts or facts.quantized_by:
        return None
    try:
        from haqa_runner.quantize.warm import compressor

        return compressor.finds_what_to_smooth(build(read_config(folder, uri)).model)
    except (ImportError, UnknownArchitecture) as error:
        log.info("whether the model can be smoothed is not known: %s", error)
        return None
