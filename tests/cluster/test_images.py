"""The project's own images as a tuning's pods start them: no root, no capability, nothing to write to but its volumes.

The runner's is built with the CUDA torch of PyPI, and once more as the one for CPUs: without Triton and without a
compiler, with PyPI's torch in place of the one that only PyTorch's own index has. The one for ROCm differs from the
first by its torch alone, which PyPI does not have, and is not built here. That the operator's stays alive in a
cluster is shown in test_installed.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.image_building import CPU_WITH_STAND_IN, IMAGES, Image, build
from tests.cluster.pod_in_podman import Machine

from haqa_contract import Configuration, TrialReport
from haqa_operator.api import NodePool, Proposal, Proposer, Trial, TuningSpec
from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.build.pool_manifests import PoolManifests
from haqa_operator.cluster.installation import Installation
from haqa_operator.cluster.names import QUANTIZE
from haqa_operator.hardware.accelerators import Accelerator, Vendor

# Building takes minutes the first time: several gigabytes are downloaded, unpacked and copied.
pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]

TINY_MODEL = Path(__file__).parents[1] / "tiny_model.py"
LIMIT_S = 600.0
CPU = Accelerator(vendor=Vendor.CPU, product="a CPU", memory_gib=16, cores=2)
CONFIGURATIONS = (Configuration.of("W8A8-INT8", "rtn"), Configuration.of("W4A16", "gptq"))
TRITONS_BUILD = """
import subprocess, tempfile
from pathlib import Path
from triton.backends import nvidia
from triton.runtime.build import _build
folder, driver = tempfile.mkdtemp(), Path(nvidia.__file__).parent
subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "/dev/null", "-o", f"{folder}/libcuda.so.1"], check=True)
print(_build("cuda_utils", str(driver / "driver.c"), folder, [folder], [str(driver / "include")], ["libcuda.so.1"], []))
"""


@pytest.fixture(scope="module", params=[IMAGES["runner"], CPU_WITH_STAND_IN], ids=["cuda", "cpu"])
def runner(request: pytest.FixtureRequest) -> Image:
    image: Image = request.param
    build(image)
    return image


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    claims = {name: tmp_path / name for name in ("models", "artifacts")}
    for folder in claims.values():
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
    yield Machine(tmp_path, claims)
    # What belongs to the pod's user is not pytest's to keep.
    shutil.rmtree(tmp_path, ignore_errors=True)


def pod_of(configuration: Configuration) -> Manifest:
    """Of the Job that makes an artifact for a CPU pool, which needs no device."""
    spec = {
        "model": {"uri": "pvc://models/tiny"},
        "nodePools": [{"name": "cpu"}],
        "artifacts": {"pvc": "artifacts"},
        "calibration": {"samples": 8, "sequenceLength": 128},
    }
    pool = NodePool.model_validate({"name": "cpu"})
    proposal = Proposal(configuration=configuration, proposer=Proposer.GRID)
    trial = Trial(name="demo-cpu-001", tuning="demo", pool="cpu", number=1, proposal=proposal)
    pods = PoolManifests("team", "demo", TuningSpec.model_validate(spec), pool, CPU, Installation())
    template: Manifest = pods.artifact_job(trial, "made", 1, {})["spec"]["template"]
    return template


def make_model(machine: Machine, image: Image) -> None:
    mounts = (f"--volume={TINY_MODEL}:/tiny_model.py:ro", f"--volume={machine.claims['models']}:/models")
    made = machine.podman(
        *mounts, "--entrypoint=python3", image.reference, "/tiny_model.py", "/models/tiny", limit_s=LIMIT_S
    )
    assert made.returncode == 0, made.stderr


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=lambda configuration: configuration.describe())
def test_a_pod_of_its_quantizes_to_the_end(runner: Image, machine: Machine, configuration: Configuration) -> None:
    make_model(machine, runner)
    done = machine.run(runner.reference, pod_of(configuration), QUANTIZE, LIMIT_S)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = TrialReport.model_validate_json(machine.message())
    assert report.failure is None
    assert report.artifact is not None
    assert report.warnings == ()
    (config,) = machine.claims["artifacts"].glob("**/config.json")
    assert "quantization_config" in json.loads(config.read_text())


def test_triton_builds_its_launcher_where_the_image_is_for_gpus(machine: Machine) -> None:
    image = IMAGES["runner"]
    build(image)
    pod = pod_of(CONFIGURATIONS[0])
    (container,) = pod["spec"]["containers"]
    container |= {"command": ["python3", "-c", TRITONS_BUILD], "args": []}
    done = machine.run(image.reference, pod, QUANTIZE, LIMIT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "cuda_utils" in done.stdout


def test_the_image_for_cpus_has_neither_triton_nor_a_compiler(machine: Machine) -> None:
    build(CPU_WITH_STAND_IN)
    found = machine.podman(
        "--entrypoint=python3",
        CPU_WITH_STAND_IN.reference,
        "-c",
        "import importlib.util, shutil; print(importlib.util.find_spec('triton'), shutil.which('gcc'))",
        limit_s=LIMIT_S,
    )
    assert found.stdout.split() == ["None", "None"], found.stderr


@pytest.mark.parametrize("command", [["haqa", "--help"], ["haqa", "schema"]], ids=" ".join)
def test_the_operators_image_has_the_command(machine: Machine, command: list[str]) -> None:
    image = IMAGES["operator"]
    build(image)
    first, *rest = command
    done = machine.podman(
        *("--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp:mode=1777", "--user=10001:10001", "--cap-drop=all"),
        *("--security-opt=no-new-privileges", f"--entrypoint={first}", image.reference, *rest),
        limit_s=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
