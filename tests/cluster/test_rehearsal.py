"""A rehearsal of a GPU cluster: a model of 70 billion parameters is tuned on L40S, H100 and MI300X that nobody has.

The operator, the API server, the scheduler, Jobs, pods, resources and the runner's steps are real. Played are the GPUs'
memory and time (`rehearsal/`), by rules that are none of the control plane's. `make rehearsal` prints what it found.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.cluster.building import CannotBuild
from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.local_cluster import CannotStart
from tests.cluster.rehearsal import rig, summary
from tests.cluster.rehearsal.accuracy import PERPLEXITY
from tests.cluster.rehearsal.arguments import Arguments
from tests.cluster.rehearsal.quantizing import Making
from tests.cluster.rehearsal.tunings import LIMITS, POOLS, SMALL, rehearsed
from tests.cluster.service_client import complete
from tests.cluster.workplace import Workplace, workplace

pytestmark = pytest.mark.timeout(900)

TUNING_LIMIT_S = 420.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Kubectl]:
    """In the place of the session's: its nodes have other GPUs."""
    problem = ""
    try:
        with rig.gpu_cluster() as found:
            yield found
    except (CannotBuild, CannotStart) as error:
        problem = str(error)
    if problem:
        pytest.fail(problem, pytrace=False)


@pytest.fixture(scope="module")
def place(cluster: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    folder = tmp_path_factory.mktemp("rehearsal")
    with workplace(cluster, folder, rig.settings()) as found:
        rig.write_model(folder / "models" / rig.MODEL)
        yield found


@dataclass(frozen=True)
class Rehearsed:
    """A tuning that is over, and what became of it."""

    place: Workplace
    name: str
    tuning: Manifest
    trials: list[Manifest]

    def pool(self, name: str) -> Manifest:
        return next(pool for pool in self.tuning["status"]["pools"] if pool["name"] == name)

    def trials_of(self, pool: str) -> list[Manifest]:
        return [trial for trial in self.trials if trial["spec"]["pool"] == pool]


@pytest.fixture(scope="module")
def all_rehearsed(place: Workplace) -> dict[str, Rehearsed]:
    """Three kinds of GPUs at once; beside them, one tuning after the other on a single H100."""
    began = time.monotonic()
    place.api.apply(rehearsed("three", POOLS))
    ended = {name: over(place, name, manifest) for name, manifest in SINGLE.items()}
    ended["three"] = over(place, "three", None)
    print(f"\nall of it took {time.monotonic() - began:.0f} s")
    return ended


SINGLE = {"limits": rehearsed("limits", SMALL, **LIMITS), "small": rehearsed("small", SMALL)}


def over(place: Workplace, name: str, manifest: Manifest | None) -> Rehearsed:
    """The tuning once it is over; applied before, where a manifest is given."""
    if manifest is not None:
        place.api.apply(manifest)
    tuning = place.in_phase("Succeeded", "Failed", name=name, limit_s=TUNING_LIMIT_S)
    found = Rehearsed(place, name, tuning, place.trials(name))
    tables = (summary.winners(tuning, found.trials), summary.attempts(found.trials), summary.refusals(tuning))
    print("", f"{name}: {tuning['status']['phase']}", *tables, sep="\n\n")
    return found


@pytest.fixture(scope="module")
def found(all_rehearsed: dict[str, Rehearsed]) -> Rehearsed:
    """Three kinds of GPUs."""
    return all_rehearsed["three"]


@pytest.fixture(scope="module")
def limits(all_rehearsed: dict[str, Rehearsed]) -> Rehearsed:
    """One GPU, and settings of which most do not fit."""
    return all_rehearsed["limits"]


@pytest.fixture(scope="module")
def small(all_rehearsed: dict[str, Rehearsed]) -> Rehearsed:
    """One GPU, which the unquantized model does not fit, and limits that are relative to that."""
    return all_rehearsed["small"]


def test_every_pool_has_its_answer(found: Rehearsed) -> None:
    assert found.tuning["status"]["phase"] == "Succeeded"
    assert {pool["name"]: pool["phase"] for pool in found.tuning["status"]["pools"]} == dict.fromkeys(
        POOLS, "Succeeded"
    )


@pytest.mark.parametrize(
    ("pool", "format"),
    [
        # Few lanes beside fast tensor cores: unpacking 4 bits costs prompts more than reading them saves.
        ("h100", "FP8-DYNAMIC"),
        # Slow memory and slow links: half of the weights, or a replica on every two GPUs.
        ("l40s", "W4A16"),
        # Kernels of its maker for FP8, and none that is any good for 4 bits.
        ("mi300x", "FP8-DYNAMIC"),
    ],
)
def test_every_gpu_has_a_format_of_its_own(found: Rehearsed, pool: str, format: str) -> None:
    best = found.pool(pool)["best"]
    assert best["configuration"].startswith(f"{format}/")
    assert best["speedup"]["low"] > 1.3


def test_an_mi300x_is_served_with_the_kernels_of_its_maker(found: Rehearsed) -> None:
    assert "VLLM_ROCM_USE_AITER=True" in found.pool("mi300x")["best"]["configuration"]


@pytest.mark.parametrize("pool", POOLS)
def test_what_a_gpu_cannot_compute_is_refused_with_a_reason(found: Rehearsed, pool: str) -> None:
    reasons = {one["parameters"]: one["reason"] for one in found.pool(pool)["skipped"]}
    assert "scheme=MXFP8" in reasons or "scheme=W4A8" in reasons
    assert all(reasons.values())


@pytest.mark.parametrize("pool", ["l40s", "h100"])
def test_replicas_that_do_not_fit_their_gpus_are_not_tried(found: Rehearsed, pool: str) -> None:
    """The whole model in 16 bit on half of a replica's GPUs."""
    tried = [trial["spec"]["configuration"] for trial in found.trials_of(pool)]
    assert not [one for one in tried if one["scheme"] == "BF16" and "data-parallel-size" in one.get("engine", {})]


def test_outliers_of_this_family_are_found_by_the_accuracy_gate(found: Rehearsed) -> None:
    """INT8 for every channel without smoothing: fast, and wrong."""
    int8 = [
        trial["status"]["failure"]
        for trial in found.trials
        if trial["spec"]["configuration"]["scheme"] == "W8A8-INT8"
        and trial["spec"]["configuration"]["algorithm"] in ("rtn", "gptq")
    ]
    assert int8, "no pool tried it"
    assert {failure["reason"] for failure in int8} == {"AccuracyGate"}


def test_an_artifact_is_made_once_for_all_pools_and_tunings(
    place: Workplace, all_rehearsed: dict[str, Rehearsed]
) -> None:
    made = [making.digest for making in Making.all(place.folder / "artifacts")]
    assert len(set(made)) == len(made)
    users = defaultdict(set)
    for name, one in all_rehearsed.items():
        for trial in one.trials:
            if trial["spec"]["configuration"].get("algorithm", "none") != "none" and artifact_of(trial):
                users[artifact_of(trial)].add((name, trial["spec"]["pool"]))
    assert set(users) <= set(made)
    assert max(len(pools) for pools in users.values()) > 1, "no artifact was shared"


def artifact_of(trial: Manifest) -> str | None:
    found: str | None = trial["status"].get("artifactDigest")
    return found


def test_nobody_waits_with_the_engine_s_gpus_for_an_artifact(
    place: Workplace, all_rehearsed: dict[str, Rehearsed]
) -> None:
    """Quantizing is a Job of its own, on one GPU or none."""
    trials = [trial["metadata"]["name"] for one in all_rehearsed.values() for trial in one.trials]
    for making in Making.all(place.folder / "artifacts"):
        assert not [trial for trial in trials if making.pod.startswith(trial)], making
        assert making.gpus <= 1, making


@pytest.mark.parametrize(
    ("pool", "resource", "count"),
    [("l40s", "nvidia.com/gpu", 4), ("h100", "nvidia.com/gpu", 2), ("mi300x", "amd.com/gpu", 1)],
)
def test_the_winner_is_deployed_as_it_was_measured(found: Rehearsed, pool: str, resource: str, count: int) -> None:
    api, best = found.place.api, found.pool(pool)["best"]
    deployment = api.get("deployment", found.pool(pool)["deployment"])
    (served,) = deployment["spec"]["template"]["spec"]["containers"]
    assert served["image"] == rig.engine_images()[resource.partition(".")[0]]
    assert served["resources"]["limits"][resource] == served["resources"]["requests"][resource] == str(count)
    arguments = Arguments.parse(served["args"], {one["name"]: one.get("value", "") for one in served["env"]})
    assert arguments.accelerators == count
    assert arguments.max_model_len == 8192
    trial = next(one for one in found.trials if one["metadata"]["name"] == best["trial"])
    for name, value in trial["spec"]["configuration"].get("engine", {}).items():
        assert {**arguments.given, **arguments.env}[name] in (str(value), "1" if value is True else str(value))
    (job,) = api.list("job", f"haqa.dev/trial={best['trial']}")
    measured = next(one for one in job["spec"]["template"]["spec"]["initContainers"] if one["name"] == "vllm")
    for part in ("image", "command", "args", "env", "resources"):
        assert served[part] == measured[part], part
    assert deployment["status"]["availableReplicas"] == 1


def test_the_winner_answers(found: Rehearsed) -> None:
    service = found.place.api.get("service", found.pool("mi300x")["deployment"])
    assert complete(found.place.api, service, prompt="Hello", max_tokens=8)["usage"]["completion_tokens"] == 8


def test_memory_ends_where_the_gpu_s_does(limits: Rehearsed) -> None:
    """The control plane's estimate lets through what may fit; the engine is refused by what its GPU has."""
    ends = defaultdict(list)
    for trial in limits.trials_of("h100-single"):
        failure, settings = trial["status"].get("failure"), trial["spec"]["configuration"].get("engine", {})
        if settings:
            ends[settings["gpu-memory-utilization"]].append((settings["max-num-batched-tokens"], failure))
    ((_, fits),) = [end for end in ends[0.92] if end[0] == 2048]
    assert fits is None
    ((_, too_small),) = [end for end in ends[0.92] if end[0] == 8192]
    assert too_small["reason"] == "EngineOOM"
    assert "the KV cache is too small: one request of max-model-len 8192 needs 2.50 GiB" in too_small["message"]
    words = {2048: "no memory was left for 1024 requests at a time", 8192: "the accelerator ran out of memory"}
    assert ends[0.99]
    for tokens, out_of_memory in ends[0.99]:
        assert out_of_memory["reason"] == "EngineOOM"
        assert words[tokens] in out_of_memory["message"]


def test_what_fits_wins_where_little_does(limits: Rehearsed) -> None:
    best = limits.pool("h100-single")["best"]["configuration"]
    assert best == "FP8-DYNAMIC/rtn, gpu-memory-utilization=0.92, max-num-batched-tokens=2048"


def test_a_baseline_that_does_not_fit_is_scored_and_never_served(small: Rehearsed) -> None:
    (first,) = [trial for trial in small.trials if trial["spec"]["configuration"]["scheme"] == "BF16"]
    assert first["status"]["phase"] == "Succeeded"
    assert first["status"]["metrics"]["perplexity"]["value"] == pytest.approx(PERPLEXITY)
    assert "throughput" not in first["status"]["metrics"]
    (job,) = small.place.api.list("job", f"haqa.dev/trial={first['metadata']['name']}")
    pod = job["spec"]["template"]["spec"]
    assert "vllm" not in [one["name"] for one in (*pod.get("initContainers", ()), *pod["containers"])]


def test_a_pool_whose_baseline_does_not_fit_has_an_answer(small: Rehearsed) -> None:
    pool = small.pool("h100-single")
    assert pool["phase"] == "Succeeded", pool.get("message")
    assert pool["best"]["configuration"].startswith(("W4A16/", "FP8-DYNAMIC/"))
    assert small.tuning["status"]["phase"] == "Succeeded"
