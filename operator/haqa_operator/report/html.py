"""The report as one HTML page that needs nothing else: no network, no other file.

Everything that comes from outside (names, the agent's texts, error messages) is escaped by the template engine; what
the page's own program reads is JSON with every `<` written as an escape. A content security policy names the page's
scripts by their hash and allows no others, so that even a mistake here would not run a stranger's code.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from haqa_operator.decision.results import PoolResult
from haqa_operator.report import glossary, limits, phases, wording
from haqa_operator.report.answer import Answer, build_answer
from haqa_operator.report.charts import Chart, build_charts
from haqa_operator.report.limits import LimitRow, build_limits
from haqa_operator.report.model import TuningReport, anchor
from haqa_operator.report.phases import PhaseTime, pool_times
from haqa_operator.report.trials import Column, TrialRow, build_columns, build_rows


@dataclass(frozen=True)
class PoolPage:
    """Everything that a pool's section shows."""

    result: PoolResult
    anchor: str
    answer: Answer
    charts: tuple[Chart, ...]
    columns: tuple[Column, ...]
    rows: tuple[TrialRow, ...]
    limits: tuple[LimitRow, ...]
    times: tuple[PhaseTime, ...]
    manifest: str


def render_html(report: TuningReport, *, plots: bool = True) -> str:
    """The whole page, about 5 MB, of which nearly all is the plotting library; without plots some 100 KB."""
    pages = tuple(_pool_page(report, result, plots=plots) for result in report.pools)
    figures = {f"{page.anchor}-{chart.key}": _figure(chart) for page in pages for chart in page.charts}
    scripts = [_plotting_library(), _file("report.js")] if figures else [_file("report.js")]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            pages=pages,
            spec_yaml=report.spec_yaml or _spec_yaml(report),
            style=Markup(_file("report.css")),  # noqa: S704, our own file
            scripts=[Markup(script) for script in scripts],  # noqa: S704, our own file and plotly's
            policy=_policy(scripts),
            plots=_json(figures),
        )
    )


def _plotting_library() -> str:
    # Here, since it takes a second and the operator makes pages without it.
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _pool_page(report: TuningReport, result: PoolResult, *, plots: bool) -> PoolPage:
    spec = report.spec_of(result)
    evidence = report.evidence(result)
    columns = build_columns(spec, result.trials)
    rows = build_rows(spec, result, evidence, columns)
    return PoolPage(
        result=result,
        anchor=anchor(result),
        answer=build_answer(report, result),
        charts=build_charts(spec, evidence, rows) if plots else (),
        columns=columns,
        rows=rows,
        limits=build_limits(spec.constraints, result, evidence),
        times=pool_times(result),
        manifest=report.manifests.get(result.pool, ""),
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("haqa_operator.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"wording": wording, "glossary": glossary, "phases": phases, "finding_of": limits.finding_of}
    return environment


def _file(name: str) -> str:
    return resources.files(__package__).joinpath("page", name).read_text(encoding="utf-8")


def _figure(chart: Chart) -> dict[str, object]:
    return {"data": chart.data, "layout": chart.layout, "height": chart.height}


def _json(value: object) -> Markup:
    """JSON that can stand inside a script element: nothing in it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704, escaped


def _policy(scripts: list[str]) -> str:
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _spec_yaml(report: TuningReport) -> str:
    document = report.tuning.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    identity = {"apiVersion": report.tuning.api_version, "kind": report.tuning.kind}
    return yaml.safe_dump({**identity, **document}, sort_keys=False, allow_unicode=True)
