"""Why HAQA differs from vLLM's selection is on record, entry by entry, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

from tests.upstream.comparing import Difference, Served, compare, reasons, without_difference, without_reason
from tests.upstream.questions import DEVICES, MODELS, layers_asked, made_formats

MARLIN = {"kernel": "CompressedTensorsWNA16/MarlinLinearKernel"}


def test_reasons_name_what_is_asked_and_say_why() -> None:
    devices, models = {device.name for device in DEVICES}, {model.name for model in MODELS}
    formats = {str(made) for made in made_formats()}
    for reason in reasons():
        assert set(reason.devices) <= devices
        assert set(reason.models) <= models
        assert set(reason.formats) <= formats
        assert len(reason.reason) > 40


def test_a_difference_without_a_reason_and_a_reason_without_a_difference_are_found() -> None:
    known = reasons()[0]
    covered = Difference(known.devices[0], known.formats[0], MODELS[0].name, known.haqa, known.vllm, "a kernel")
    assert without_reason([covered], "0.33.0") == []
    assert without_reason([replace(covered, haqa=covered.vllm, vllm=covered.haqa)], "0.33.0") != []
    unneeded = without_difference([covered], "0.33.0")
    assert known not in unneeded
    assert len(unneeded) == len(reasons()) - 1


def test_a_kernel_that_vllm_chooses_where_haqa_refuses_is_a_difference() -> None:
    """Marlin for everything: weight-only, where HAQA refuses or expects arithmetic."""
    (device,) = [device for device in DEVICES if device.name == "CUDA 9.0"]
    verdicts = {layer["name"]: MARLIN for layer in layers_asked()}
    found = compare({"version": "0.33.0", "verdicts": {device.name: verdicts}}, [device])
    said = {one.made: (one.haqa, one.vllm) for one in found if one.model == "dense"}
    assert said["FP8-DYNAMIC"] == (Served.COMPUTED, Served.WEIGHT_ONLY)
    assert said["W4A8"] == (Served.NOT, Served.WEIGHT_ONLY)
    assert "W4A16" not in said
