"""Local paths in a tuning file are written relative to that file, as `file://./demo/model`."""

from __future__ import annotations

from pathlib import Path

from haqa_operator.api.tuning import QuantizationTuning

_PREFIX = "file://"


def resolved(tuning: QuantizationTuning, base: Path) -> QuantizationTuning:
    """The tuning with every relative file:// URI, and `evaluation.taskPath`, made absolute from `base`."""
    spec = tuning.spec
    evaluation = spec.evaluation.model_copy(update={"dataset": _absolute(spec.evaluation.dataset, base)})
    if evaluation.task_path is not None:
        evaluation = evaluation.model_copy(update={"task_path": str((base / evaluation.task_path).resolve())})
    beside = {
        field: tuple(one.model_copy(update={"uri": _absolute(one.uri, base)}) for one in listed)
        for field, listed in (("variants", spec.model.variants), ("adapters", spec.model.adapters))
    }
    changes = {
        "model": spec.model.model_copy(update={"uri": _absolute(spec.model.uri, base), **beside}),
        "calibration": spec.calibration.model_copy(update={"dataset": _absolute(spec.calibration.dataset, base)}),
        "evaluation": evaluation,
    }
    if spec.workload.dataset is not None:
        dataset = _absolute(spec.workload.dataset, base)
        changes["workload"] = spec.workload.model_copy(update={"dataset": dataset})
    return tuning.model_copy(update={"spec": spec.model_copy(update=changes)})


def _absolute(uri: str, base: Path) -> str:
    if not uri.startswith(_PREFIX):
        return uri
    path = Path(uri.removeprefix(_PREFIX))
    return uri if path.is_absolute() else f"{_PREFIX}{(base / path).resolve()}"
