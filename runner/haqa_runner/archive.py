"""A trial's whole report in the artifact store, for people: the pod, its log and its termination message go with it."""

from __future__ import annotations

import logging

from haqa_contract import TrialReport, TrialRequest
from haqa_runner.steps import Step, report_path
from haqa_runner.store.files import FileUnusable, write_file

log = logging.getLogger(__name__)


def archived(request: TrialRequest, measured: TrialReport) -> TrialReport:
    """Writes what quantize and measure found out to `request.report`, if that names a place.

    Returns:
        `measured`, with a warning if the report could not be kept: the trial counts nevertheless.
    """
    if request.report is None:
        return measured
    try:
        write_file(request.report, _whole(request, measured).model_dump_json(indent=1).encode())
    except FileUnusable as error:
        warning = f"the report is not in the artifact store: {error}"
        log.warning(warning)
        return measured.model_copy(update={"warnings": (*measured.warnings, warning)})
    return measured


def _whole(request: TrialRequest, measured: TrialReport) -> TrialReport:
    quantized = report_path(request, Step.QUANTIZE)
    if not quantized.exists():
        return measured
    return TrialReport.model_validate_json(quantized.read_bytes()).merged(measured)
