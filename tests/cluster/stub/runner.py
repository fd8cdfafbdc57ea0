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

import traffic

SPEED = {
    "full": {"BF16": 100.0, "W8A8-INT8": 160.0, "W4A16": 130.0},
    "avx2": {"BF16": 20.0, "W8A8-INT8": 12.0, "W4A16": 90.0},
}
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 1536,
    "intermediate_size": 4608,
    "num_hidden_layers": 4,
    "num_attention_heads": 24,
    "num_key_value_heads": 24,
    "vocab_size": 2048,
    "max_position_embeddings": 4096,
    "dtype": "bfloat16",
}


def quantize(request: dict) -> dict:
    scheme = request["configuration"]["scheme"]
    digest = "0" * 56 + f"{abs(hash_of(scheme)):08x}"
    path = "/models/model" if scheme == "BF16" else f"/store/artifacts/{digest}/model"
    artifact = {"digest": digest, "path": path, "size_bytes": 1000, "reused": False, "model_digest": "stub-model"}
    if scheme != "BF16":
        Path(path).mkdir(parents=True, exist_ok=True)
    if request["trial"] == "fetch":
        artifact |= {"config": json.dumps(CONFIG), "weight_bytes": 258_000_000}
    else:
        link = Path(request["directory"]) / "model"
        link.unlink(missing_ok=True)
        link.symlink_to(path)
    return {"artifact": artifact}


def measure(request: dict) -> dict:
    scheme = request["configuration"]["scheme"]
    rate = SPEED[request["pool"]][scheme]
    failing = os.environ.get("STUB_FAIL", "")
    if failing and failing.split("=")[0] == scheme:
        return {"failure": {"reason": failing.split("=")[1], "message": f"{scheme} was told to fail"}}
    # Nobody is to compare the figures with Prometheus': then they need no time.
    windows = measured_windows(request, rate) if request["scrape_grace_s"] else table_windows(request, rate)
    exact = {"value": 70.0, "low": 70.0, "high": 70.0, "n": 3}
    return {"load": {"windows": windows}, "accuracy": {"metrics": {"perplexity": exact}, "tokens": 1000}}


def table_windows(request: dict, rate: float) -> list[dict]:
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


def measured_windows(request: dict, rate: float) -> list[dict]:
    workload, url = request["workload"], f"http://127.0.0.1:{request['engine']['port']}"
    wanted = workload["output_tokens"]
    asked = {"prompt_tokens": workload["input_tokens"], "max_tokens": wanted, "seconds": wanted / rate}
    seconds = workload.get("duration_s") or traffic.WINDOW_S
    restarted = os.environ.get("STUB_RESTART_ENGINE") == request["configuration"]["scheme"]
    margin_s = request["scrape_grace_s"] / 2
    found = [
        common(rate) | one
        for level in workload["concurrency"]
        for one in traffic.windows(url, level, workload["repeats"], asked, seconds, margin_s, restarted)
    ]
    waiting = {"phase": "overhead", "done": 0.0, "message": "waiting for the last scrape"}
    print("HAQA", json.dumps(waiting), flush=True)
    time.sleep(request["scrape_grace_s"])
    return found


def common(rate: float) -> dict:
    latency = {name: 1000 / rate for name in ("mean", "p50", "p90", "p95", "p99")}
    return {"ttft_ms": latency, "itl_ms": latency, "tpot_ms": latency, "e2e_ms": latency, "source": "engine-metrics"}


def hash_of(text: str) -> int:
    return sum(ord(letter) * 31**place for place, letter in enumerate(text)) % 2**32


def main() -> None:
    step, _, file = sys.argv[1:4]
    request = json.loads(Path(file).read_text())
    report = {"contract": 1, "trial": request["trial"], **{"quantize": quantize, "measure": measure}[step](request)}
    text = json.dumps(report, separators=(",", ":"))
    print("HAQA-REPORT", text, flush=True)
    Path("/dev/termination-log").write_text(text if len(text) <= 4096 else "log:")
    sys.exit(3 if "failure" in report else 0)


# Process 1 of a container ignores a signal that it does not handle.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
main()
