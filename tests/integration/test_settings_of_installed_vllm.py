"""The catalogue of settings is that of the pinned vLLM, and vLLM's own parser takes the commands made from it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from haqa_contract import Configuration, Scalar
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.serving import settings
from haqa_operator.serving.launch import engine_launch

ROOT = Path(__file__).parents[2]
SERVING = Path(settings.__file__).parent

# Runs in the serving environment: reads commands, says what the parser makes of each, and extracts the catalogue.
PROGRAM = """
import json, runpy, sys
catalogue = runpy.run_path(sys.argv[1])["extract"]()
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser(exit_on_error=False))
def parse(command):
    try:
        return {name: repr(value) for name, value in vars(parser.parse_args(command)).items()}
    except BaseException as error:
        return {"error": str(error)}
print(json.dumps({"catalogue": catalogue, "parsed": [parse(command) for command in json.load(sys.stdin)]}))
"""

SETTINGS: list[dict[str, Scalar]] = [
    {"max-num-seqs": 64, "enforce-eager": True, "enable-prefix-caching": False},
    {"max-num-batched-tokens": "2k", "kv-cache-dtype": "fp8", "linear-backend": "flashinfer-trtllm"},
    {"compilation-config": '{"cudagraph_mode": "NONE"}', "optimization-level": 0, "performance-mode": "throughput"},
    {"max-model-len": -1, "gpu-memory-utilization": 0.5, "block-size": 32, "dtype": "float32"},
    {"speculative-config": '{"method": "ngram", "num_speculative_tokens": 3}', "async-scheduling": False},
]


@pytest.fixture(scope="module")
def vllm() -> dict[str, Any]:
    cpu = Accelerator(vendor=Vendor.CPU, product="a CPU", memory_gib=8)
    commands = [
        engine_launch(
            Configuration(engine=tuple(sorted(chosen.items()))), cpu, model_path="/model", served_model_name="m"
        ).args
        for chosen in SETTINGS
    ]
    python = ROOT / ".venvs" / "serving" / "bin" / "python"
    done = subprocess.run(
        [python, "-c", PROGRAM, SERVING / "extract_settings.py"],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        timeout=280,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_generated_catalogue_is_up_to_date(vllm: dict[str, Any]) -> None:
    """If not: run extract_settings.py as its docstring says, and read the difference."""
    assert vllm["catalogue"] == json.loads((SERVING / "vllm_settings.json").read_text())


@pytest.mark.parametrize("case", range(len(SETTINGS)))
def test_vllm_takes_the_command_of_every_allowed_kind_of_setting(vllm: dict[str, Any], case: int) -> None:
    assert settings.check_settings(SETTINGS[case]) == []
    parsed = vllm["parsed"][case]
    assert "error" not in parsed
    assert parsed["model"] == "'/model'"
    assert parsed["shutdown_timeout"] == "60"


def test_values_arrive_as_meant(vllm: dict[str, Any]) -> None:
    switches, counts, *_ = vllm["parsed"]
    assert (switches["enforce_eager"], switches["enable_prefix_caching"]) == ("True", "False")
    assert counts["max_num_batched_tokens"] == "2000"
