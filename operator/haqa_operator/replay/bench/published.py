"""Published measurements as problems: a fixed selection of four sources.

| source | problem | settings | objective | limits |
|---|---|---|---|---|
| argonne | accelerator, model, text length | framework, accelerators, batch size | tokens/s per accelerator | latency |
| qserve | accelerator, model | serving system, number format | tokens/s | none |
| redhat | model, kind of request | accelerator, number format | requests/s per accelerator | latency at one request |
| torchao | model | number format | tokens/s | perplexity, at most 3 % worse |

A latency limit is one that a third of the rows keep. The baseline is a typical row, and may break the limit: at argonne
the most common framework with its fewest accelerators at the middle of its batch sizes; elsewhere the unquantized
model. Tables of argonne have 20 to 90 configurations.
"""

from __future__ import annotations

import csv
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from haqa_contract import Configuration, Failure, FailureReason
from haqa_operator.api.goals import Constraint, Objective
from haqa_operator.api.metrics import MetricKey
from haqa_operator.metrics.intervals import interval
from haqa_operator.replay.bench.problems import Half, Problem, of_half
from haqa_operator.replay.tables.rows import TableRow
from haqa_operator.replay.tables.table import Table

_FEWEST, _MOST = 20, 90
_HOURS = 0.25
"""Taken for every trial and accelerator: the tables do not say what a trial cost."""

Cells = Mapping[str, str]


def problems(folder: Path, half: Half | None = None) -> list[Problem]:
    """The selection, in a fixed order.

    Args:
        folder: Where the files of the measurements are.
    """
    made = [*_argonne(folder), *_qserve(folder), *_redhat(folder), *_torchao(folder)]
    return list(of_half((problem for problem in made if problem.best is not None), half))


def _argonne(folder: Path) -> Iterator[Problem]:
    groups = _grouped(folder / "argonne_all_results.csv", "Hardware", "Model", "Input Output Length")
    for (hardware, model, length), lines in sorted(groups.items()):
        samples: dict[Configuration, list[tuple[float, float]]] = defaultdict(list)
        for line in lines:
            accelerators = int(line["Num of Hardware"])
            settings = {
                "Framework": line["Framework"],
                "Num of Hardware": accelerators,
                "Batch Size": int(line["Batch Size"]),
            }
            configuration = Configuration(engine=tuple(sorted(settings.items())))
            samples[configuration].append((float(line["Throughput"]) / accelerators, 1000 * float(line["Latency"])))
        if not _FEWEST <= len(samples) <= _MOST:
            continue
        rows = {
            configuration: _row(
                configuration,
                {"throughput": [rate for rate, _ in measured], "e2e": [ms for _, ms in measured]},
                hours=_HOURS * int(configuration.settings["Num of Hardware"]),
            )
            for configuration, measured in samples.items()
        }
        baseline = _typical(list(rows), "Framework", "Num of Hardware", "Batch Size")
        limit = _third([row.metrics["e2e"].value for row in rows.values()])
        context = {"accelerator": hardware, "model": model, "prompt and answer": f"{length} tokens each"}
        yield Problem(
            name=f"argonne/{hardware}/{model}/{length}",
            family=f"argonne/{hardware}/{model}",
            table=Table("argonne_all_results.csv", baseline, rows, context),
            objective=Objective(metric="throughput"),
            constraints=(Constraint(metric="e2e", max=limit),),
            load=frozenset({"Batch Size"}),
            accelerators=frozenset({"Num of Hardware"}),
        )


def _qserve(folder: Path) -> Iterator[Problem]:
    for (gpu, model), lines in sorted(_grouped(folder / "qserve_max_throughput.csv", "gpu", "model").items()):
        rows: dict[Configuration, TableRow] = {}
        for line in lines:
            system, _, scheme = line["system_scheme"].rpartition("-")
            configuration = Configuration(engine=(("scheme", scheme), ("system", system)))
            cell = line["max_throughput_tok_s"]
            if cell in ("OOM", "--"):
                rows[configuration] = _failed(configuration, oom=cell == "OOM")
            else:
                rows[configuration] = _row(configuration, {"throughput": [float(cell)]}, hours=_HOURS)
        baseline = next(c for c in rows if c.settings["scheme"] == "FP16")
        yield Problem(
            name=f"qserve/{gpu}/{model}",
            family=f"qserve/{gpu}/{model}",
            table=Table("qserve_max_throughput.csv", baseline, rows, {"accelerator": gpu, "model": model}),
            objective=Objective(metric="throughput"),
        )


_REDHAT_SCHEMES = {
    "BF16": Configuration.of("BF16"),
    "W8A8-INT8": Configuration.of("W8A8-INT8", "gptq"),
    "W8A8-FP8": Configuration.of("FP8-DYNAMIC", "rtn"),
    "W4A16-INT4-g128": Configuration.of("W4A16", "gptq", 128),
}


def _redhat(folder: Path) -> Iterator[Problem]:
    for (model, workload), lines in sorted(_grouped(folder / "redhat_perf.csv", "model", "workload").items()):
        samples: dict[Configuration, dict[str, list[float]]] = defaultdict(dict)
        for line in lines:
            scheme = _REDHAT_SCHEMES[line["scheme"]]
            configuration = scheme.model_copy(update={"engine": (("gpu", line["gpu"]),)})
            value = float(line["value"])
            if line["metric"] == "latency_s":
                samples[configuration]["e2e@1"] = [1000 * value]
            else:
                samples[configuration]["requestRate"] = [value / int(line["num_gpus"])]
        rows = {c: _row(c, metrics, hours=_HOURS) for c, metrics in samples.items()}
        limit = _third([row.metrics["e2e@1"].value for row in rows.values()])
        baseline = next(c for c in rows if not c.quantized and c.settings["gpu"] == "A100")
        yield Problem(
            name=f"redhat/{model}/{workload}",
            family=f"redhat/{model}/{workload}",
            table=Table("redhat_perf.csv", baseline, rows, {"model": model, "requests": workload}),
            objective=Objective(metric="requestRate"),
            constraints=(Constraint(metric="e2e", concurrency=1, max=limit),),
        )


_TORCHAO_SCHEMES = {
    "bfloat16": Configuration.of("BF16"),
    "int8dq": Configuration.of("W8A8-INT8", "rtn"),
    "int8wo": Configuration.of("W8A16", "rtn"),
    "int4wo-64": Configuration.of("W4A16", "rtn", 64),
    "int4wo-64-GPTQ": Configuration.of("W4A16", "gptq", 64),
    "autoquant-int4hqq": Configuration(engine=(("scheme", "autoquant-int4hqq"),)),
}


def _torchao(folder: Path) -> Iterator[Problem]:
    for (model,), lines in sorted(_grouped(folder / "a100_bs1_joint.csv", "model").items()):
        rows: dict[Configuration, TableRow] = {}
        for line in lines:
            configuration = _TORCHAO_SCHEMES[line["technique"]]
            metrics = {"throughput": [float(line["tokens_s"])], "perplexity": [float(line["wikitext_word_ppl"])]}
            rows[configuration] = _row(configuration, metrics, hours=_HOURS)
        yield Problem(
            name=f"torchao/{model}",
            family=f"torchao/{model}",
            table=Table("a100_bs1_joint.csv", Configuration(), rows, {"accelerator": "A100", "model": model}),
            objective=Objective(metric="throughput"),
            constraints=(Constraint(metric="perplexity", max_degradation_percent=3),),
        )


def _grouped(path: Path, *columns: str) -> dict[tuple[str, ...], list[Cells]]:
    groups: dict[tuple[str, ...], list[Cells]] = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            groups[tuple(line[column] for column in columns)].append(line)
    return groups


def _row(configuration: Configuration, samples: Mapping[str, Sequence[float]], *, hours: float) -> TableRow:
    metrics = {name: interval(MetricKey.parse(name), values) for name, values in samples.items()}
    return TableRow(
        configuration, metrics, {name: tuple(values) for name, values in samples.items()}, machine_hours=hours
    )


def _failed(configuration: Configuration, *, oom: bool) -> TableRow:
    reason = FailureReason.ENGINE_OOM if oom else FailureReason.ENGINE_LOAD_FAILED
    message = "out of memory" if oom else "this system does not support the model"
    return TableRow(configuration, {}, {}, Failure(reason=reason, message=message), machine_hours=_HOURS)


def _typical(configurations: Sequence[Configuration], framework: str, accelerators: str, load: str) -> Configuration:
    """The most common framework with its fewest accelerators, at the (lower) middle of its loads."""
    counts = Counter(str(c.settings[framework]) for c in configurations)
    common = max(sorted(counts), key=lambda name: counts[name])
    of_common = [c for c in configurations if c.settings[framework] == common]
    fewest = min(float(c.settings[accelerators]) for c in of_common)
    there = sorted(
        (c for c in of_common if float(c.settings[accelerators]) == fewest), key=lambda c: float(c.settings[load])
    )
    return there[(len(there) - 1) // 2]


def _third(latencies: Sequence[float]) -> float:
    """A limit that a third of these keep, rounded up to three digits."""
    limit = sorted(latencies)[max(0, math.ceil(len(latencies) / 3) - 1)]
    step = 10.0 ** (math.floor(math.log10(limit)) - 2)
    return math.ceil(limit / step) * step
