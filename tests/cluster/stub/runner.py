"""In place of `haqa_runner` in a trial's pod: the same request in and the same reports out, with figures from a table.

Where Prometheus is to read them the engine really makes that many tokens, for as long as a window takes.

Standard library only: it runs in an image that has nothing but Python.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).parent))  # which PYTHONSAFEPATH leaves out

import behaviour
import traffic

SPEED = {
    "full": {"BF16": 100.0, "W8A8-INT8": 160.0, "W4A16": 130.0, "FP8-DYNAMIC": 150.0},
    "avx2": {"BF16": 20.0, "W8A8-INT8": 12.0, "W4A16": 90.0},
}
"""Output tokens/s by pool and scheme; pools of other names are like `full`."""
_LAYERS, _HIDDEN, _INNER = 4, 1536, 4608
_SHAPES = {"q_proj": (_HIDDEN, _HIDDEN), "gate_proj": (_INNER, _HIDDEN), "down_proj": (_HIDDEN, _INNER)}
FACTS = {
    "architecture": "LlamaForCausalLM",
    "model_type": "llama",
    "source": "class",
    "parameters": 129_000_000,
    "matrices": [
        {"name": name, "role": "mlp", "rows": rows, "columns": columns, "count": _LAYERS, "rounded": True}
        for name, (rows, columns) in _SHAPES.items()
    ],
    "layers": _LAYERS,
    "hidden_size": _HIDDEN,
    "vocab_size": 2048,
    "heads": 24,
    "kv_heads": 24,
    "head_dim": 64,
    "cache": [{"layers": _LAYERS, "numbers": 2 * _HIDDEN}],
    "max_positions": 4096,
    "dtype": "bfloat16",
    "weight_bytes": 258_000_000,
}

EVALUATION_S = 6.0
"""A real engine loads and is evaluated before its windows. Prometheus looks for new pods every 5 s."""

ENGINE_MISBEHAVIOUR = "engine-misbehaviour"
EVALUATIONS = {
    "gate": ("AccuracyGate", "perplexity 91.3 is above the limit 73.5; take the scheme out of the search"),
    "errors": ("LoadErrors", "37 of 64 requests failed (HTTP 500); look at the engine's log"),
}


def quantize(request: dict[str, Any]) -> dict[str, Any]:
    fetching = request["trial"] == "fetch"
    behaviour.hold("fetch" if fetching else "quantize")
    model = Path(request["model"]["uri"].replace("pvc://models", request["model"]["mount"]))
    if not model.is_dir():
        uri = request["model"]["uri"]
        return failure("ModelFetch", f"{uri}: the claim has no folder {model.name}; check the path in model.uri")
    configuration = request["configuration"]
    match behaviour.misbehaviour(configuration, "quantize"):
        case "oom":
            behaviour.run_out_of_memory()
        case "crash":
            raise RuntimeError("columns=704 is not divisible by group_size=128")
        case "fill-disk":
            behaviour.fill_disk()
    scheme = configuration["scheme"]
    digest = "0" * 56 + f"{abs(hash_of(scheme)):08x}"
    path = str(model) if scheme == "BF16" else f"/store/artifacts/{digest}/model"
    artifact = {"digest": digest, "path": path, "size_bytes": 1000, "reused": False, "model_digest": "stub-model"}
    if scheme != "BF16":
        Path(path).mkdir(parents=True, exist_ok=True)
    if fetching:
        artifact |= {"facts": FACTS}
    else:
        folder = Path(request["directory"])
        (folder / ENGINE_MISBEHAVIOUR).write_text(behaviour.misbehaviour(configuration, "engine"))
        link = folder / "model"
        link.unlink(missing_ok=True)
        link.symlink_to(path)
    return {"artifact": artifact}


def measure(request: dict[str, Any]) -> dict[str, Any]:
    behaviour.hold("measure")
    behaviour.wait(request["configuration"], "measure")
    scheme = request["configuration"]["scheme"]
    rate = SPEED.get(request["pool"], SPEED["full"])[scheme]
    match behaviour.misbehaviour(request["configuration"], "measure"):
        case "missing":
            print("the load test was interrupted", flush=True)
            sys.exit(0)
        case "hang":
            behaviour.hang()
        case evaluation if evaluation in EVALUATIONS:
            return failure(*EVALUATIONS[evaluation])
    # Nobody is to compare the figures with Prometheus': then they need no time.
    windows = measured_windows(request, rate) if request["scrape_grace_s"] else table_windows(request, rate)
    if request["store"].startswith("/"):
        with (Path(request["store"]) / "measured").open("a") as measured:
            measured.write(request["trial"] + "\n")
    exact = {"value": 70.0, "low": 70.0, "high": 70.0, "n": 3}
    return {"load": {"windows": windows}, "accuracy": {"metrics": {"perplexity": exact}, "tokens": 1000}}


def verify(request: dict[str, Any]) -> dict[str, Any]:
    """Of a pod that serves a winner: it has to answer, and is then as fast as its trial, or half as fast."""
    behaviour.hold("verify")
    engine = request["engine"]
    try:
        with urlopen(f"http://{engine['host']}:{engine['port']}/health", timeout=10) as answer:
            answer.read()
    except OSError as error:
        return failure("LoadErrors", f"the engine at {engine['host']}:{engine['port']} does not answer ({error})")
    rate = SPEED.get(request["pool"], SPEED["full"])[request["configuration"]["scheme"]]
    slow = behaviour.misbehaviour(request["configuration"], "verify") == "slow"
    return {"load": {"windows": table_windows(request, rate / 2 if slow else rate)}}


def table_windows(request: dict[str, Any], rate: float) -> list[dict[str, Any]]:
    time.sleep(float(os.environ.get("STUB_SECONDS", "0.2")))
    now = time.time()
    return [
        common(rate)
        | {
            "concurrency": level,
            "repeat": repeat,
            "started": now + repeat,
            "ended": now + repeat + 1,
            "completed": 8,
            "failed": 0,
            "output_tokens_per_s": rate * level * (1 + 0.002 * repeat),
            "total_tokens_per_s": 2 * rate * level,
            "requests_per_s": rate / 32,
            "client_output_tokens_per_s": rate * level,
            "disagreement": 0.0,
        }
        for level in request["workload"]["concurrency"]
        for repeat in range(request["workload"]["repeats"])
    ]


def measured_windows(request: dict[str, Any], rate: float) -> list[dict[str, Any]]:
    workload, url = request["workload"], f"http://127.0.0.1:{request['engine']['port']}"
    wanted = workload["output_tokens"]
    asked = {"prompt_tokens": workload["input_tokens"], "max_tokens": wanted, "seconds": wanted / rate}
    seconds = workload.get("duration_s") or traffic.WINDOW_S
    restarted = os.environ.get("STUB_RESTART_ENGINE") == request["configuration"]["scheme"]
    margin_s = request["scrape_grace_s"] / 2
    time.sleep(EVALUATION_S)
    found = [
        common(rate) | one
        for level in workload["concurrency"]
        for one in traffic.windows(url, level, workload["repeats"], asked, seconds, margin_s, restarted)
    ]
    waiting = {"phase": "overhead", "done": 0.0, "message": "waiting for the last scrape"}
    print("HAQA", json.dumps(waiting), flush=True)
    time.sleep(request["scrape_grace_s"])
    return found


def common(rate: float) -> dict[str, Any]:
    latency = {name: 1000 / rate for name in ("mean", "p50", "p90", "p95", "p99")}
    return {"ttft_ms": latency, "itl_ms": latency, "tpot_ms": latency, "e2e_ms": latency, "source": "engine-metrics"}


def failure(reason: str, message: str) -> dict[str, Any]:
    return {"failure": {"reason": reason, "message": message}}


def hash_of(text: str) -> int:
    return sum(ord(letter) * pow(31, place, 2**32) for place, letter in enumerate(text)) % 2**32


STEPS = {"quantize": quantize, "measure": measure, "verify": verify}


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as process 1 it would not be heard
    step, _, file = sys.argv[1:4]
    request = json.loads(Path(file).read_text())
    report = {"contract": 1, "trial": request["trial"], **STEPS[step](request)}
    text = json.dumps(report, separators=(",", ":"))
    print("HAQA-REPORT", text, flush=True)
    Path("/dev/termination-log").write_text(text if len(text) <= 4096 else "log:")
    sys.exit(3 if "failure" in report else 0)


if __name__ == "__main__":
    # Process 1 of a container ignores a signal that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
