"""Small tables as problems, for tests of benchmarks."""

from __future__ import annotations

from pathlib import Path

from haqa_operator.replay.bench.problems import Problem
from haqa_operator.replay.bench.reading import problems_of

NOTES = """# metrics: {Throughput: throughput, Latency: e2e}
# load: batch
# accelerators: gpus
# per: replica
# baseline: {gpus: 1, batch: 8, engine: llama.cpp}
# objective: {metric: throughput}
# limits: [{metric: e2e, max: 2000}]
# machineHours: 0.5
"""
ROWS = """engine,gpus,batch,Throughput,Latency
llama.cpp,1,8,80,1500
llama.cpp,1,16,100,2500
vllm,1,8,160,1000
vllm,1,16,240,1600
vllm,1,32,300,2600
vllm,2,8,200,800
vllm,2,16,320,1200
vllm,2,32,500,1900
vllm,2,64,700,OOM
"""


def write(folder: Path, text: str = NOTES + ROWS, name: str = "small.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def small_problem(folder: Path) -> Problem:
    (problem,) = problems_of([write(folder)])
    return problem
