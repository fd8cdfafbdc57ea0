"""The preforking launcher, with tiny programs in place of vLLM."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from haqa_runner.prefork import (
    FORK_SAFE_ENV,
    PreforkedLauncher,
    PreforkError,
    fork_key,
    vllm_cpu_env,
    vllm_cpu_worker_env,
)
from haqa_runner.prefork.forkkey import admits

LIMIT_S = 10.0
LINGER_S = 0.1

PRELOADED = """
    import os
    import time
    time.sleep(float(os.environ.get("IMPORTS_FOR_S", "0")))
    AT_IMPORT = os.environ.get("AT_IMPORT", "unset")
    IMPORTED_BY = os.getpid()
    os.environ["MADE_BY_IMPORT"] = "yes"
"""

# As OpenMP's library does to the thread that loads it.
BINDING = """
    import os
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
"""
IMPORTED_AFTERWARDS = """
    import os
    os.environ["AFFINITY_OF_IMPORTS"] = str(len(os.sched_getaffinity(0)))
"""

# Prints what it finds as one line of JSON, then does what its first argument says.
PROGRAM = """
    import json, multiprocessing, os, signal, subprocess, sys, time

    def report(**more):
        preloaded = sys.modules["preloaded"]
        found = {
            "pid": os.getpid(), "image": os.getppid(), "group": os.getpgrp(), "env": dict(os.environ),
            "argv": sys.argv, "cwd": os.getcwd(), "path": sys.path, "main": __name__,
            "affinity": len(os.sched_getaffinity(0)),
            "imported_by": preloaded.IMPORTED_BY, "at_import": preloaded.AT_IMPORT, **more,
        }
        print(json.dumps(found), flush=True)

    def in_spawned(code):
        report(spawned=True)
        sys.exit(code)

    if __name__ == "__main__":
        action, *arguments = sys.argv[1:]
        if action == "exit":
            report()
            sys.exit(int(arguments[0]))
        if action == "sleep":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            report(child=child.pid)
            if arguments == ["leave"]:
                sys.exit()
            time.sleep(60)
        if action == "spawn":
            os.environ.update(dict(pair.split("=") for pair in arguments))
            process = multiprocessing.get_context("spawn").Process(target=in_spawned, args=(7,))
            process.start()
            process.join(20)
            report(exitcode=process.exitcode, alive=process.is_alive())
        if action == "spawn-without-router":
            import haqa_runner.prefork.spawning as spawning
            spawning.install("/nonexistent/socket")
            import preloaded
            process = multiprocessing.get_context("spawn").Process(target=sys.exit, args=(7,))
            process.start()
            process.join(20)
            report(exitcode=process.exitcode)
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    (folder / "preloaded.py").write_text(textwrap.dedent(PRELOADED))
    (folder / "program.py").write_text(textwrap.dedent(PROGRAM))
    (folder / "binding.py").write_text(textwrap.dedent(BINDING))
    (folder / "imported_afterwards.py").write_text(textwrap.dedent(IMPORTED_AFTERWARDS))
    return folder


@pytest.fixture(scope="module")
def env(programs: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(programs)}


@pytest.fixture(scope="module")
def launcher() -> Iterator[PreforkedLauncher]:
    with PreforkedLauncher(Path(sys.executable), ["preloaded"], linger_s=LINGER_S) as started:
        yield started


def eventually(condition: Callable[[], Any]) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + LIMIT_S
    while not (value := condition()):
        assert time.monotonic() < deadline, "not within the limit"
        time.sleep(0.005)
    return value


def gone(pid: int) -> bool:
    """Whether it has ended; a process that only waits to be reaped by an ancestor has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def reports(log: Path) -> list[dict[str, Any]]:
    lines = log.read_text().splitlines() if log.exists() else []
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


@pytest.fixture
def run(launcher: PreforkedLauncher, env: dict[str, str], tmp_path: Path) -> Callable[..., Any]:
    """Launch the program to its end: exit code and reports."""

    def run(*argv: str, **more: str) -> tuple[int, list[dict[str, Any]]]:
        log = tmp_path / "log"
        log.unlink(missing_ok=True)
        process = launcher.launch(["program", *argv], env | more, tmp_path, log, LIMIT_S)
        code = process.wait(LIMIT_S)
        assert process.poll() == process.returncode == code
        return code, reports(log)

    return run


@pytest.mark.parametrize("code", [0, 3])
def test_exit_code_is_the_programs(run: Any, code: int) -> None:
    assert run("exit", str(code))[0] == code


def test_a_module_of_the_standard_library_runs_with_its_output_in_the_log(
    launcher: PreforkedLauncher, env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "in.json").write_text('{"a":1}')
    process = launcher.launch(["json.tool", "--compact", "in.json"], env, tmp_path, tmp_path / "log", LIMIT_S)
    assert process.wait(LIMIT_S) == 0
    assert (tmp_path / "log").read_text() == '{"a":1}\n'


def test_a_program_cannot_tell_that_it_was_forked(run: Any, env: dict[str, str], tmp_path: Path) -> None:
    _, [found] = run("exit", "0", COLUMNS="7")
    # What importing sets is set as well.
    assert found["env"] == env | {"COLUMNS": "7", "MADE_BY_IMPORT": "yes"}
    assert found["argv"][1:] == ["exit", "0"]
    assert found["cwd"] == found["path"][0] == str(tmp_path)
    assert found["path"][1] == env["PYTHONPATH"]
    assert found["main"] == "__main__"
    assert found["group"] == found["pid"]
    assert found["imported_by"] == found["image"]


def test_only_a_fork_safe_variable_may_differ_within_an_image(run: Any) -> None:
    first, same, other = (run("exit", "0", **more)[1][0] for more in ({}, {"LINES": "3"}, {"AT_IMPORT": "x"}))
    assert first["image"] == same["image"] != other["image"]
    assert (first["at_import"], other["at_import"]) == ("unset", "x")


def test_a_spawned_process_is_forked_in_its_parents_group(run: Any) -> None:
    code, [child, parent] = run("spawn")
    assert (code, parent["exitcode"], parent["alive"]) == (0, 7, False)
    assert child["group"] == parent["pid"]
    assert child["image"] == child["imported_by"] == parent["image"]


def test_a_spawned_process_gets_an_image_started_with_its_environment(run: Any) -> None:
    _, [child, parent] = run("spawn", "AT_IMPORT=mine")
    assert (child["at_import"], parent["at_import"]) == ("mine", "unset")
    _, [again, _] = run("spawn", "AT_IMPORT=mine")
    assert again["image"] == child["image"] != parent["image"]


def test_spawn_falls_back_to_an_ordinary_start(run: Any, tmp_path: Path) -> None:
    assert run("spawn-without-router")[1][0]["exitcode"] == 7
    assert "starting a process the ordinary way" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("method", "code"), [("terminate", -signal.SIGTERM), ("kill", -signal.SIGKILL)])
def test_a_signal_reaches_the_whole_group(
    launcher: PreforkedLauncher, env: dict[str, str], tmp_path: Path, method: str, code: int
) -> None:
    process = launcher.launch(["program", "sleep"], env, tmp_path, tmp_path / "log", LIMIT_S)
    [found] = eventually(lambda: reports(tmp_path / "log"))
    assert process.poll() is None
    getattr(process, method)()
    assert process.wait(LIMIT_S) == code
    eventually(lambda: gone(found["child"]))
    getattr(process, method)()  # harmless now


def test_wait_gives_up(launcher: PreforkedLauncher, env: dict[str, str], tmp_path: Path) -> None:
    process = launcher.launch(["program", "sleep"], env, tmp_path, tmp_path / "log", LIMIT_S)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.kill()
    process.wait(LIMIT_S)


def test_two_programs_run_at_once(launcher: PreforkedLauncher, env: dict[str, str], tmp_path: Path) -> None:
    logs = [tmp_path / "1", tmp_path / "2"]
    processes = [launcher.launch(["program", "sleep"], env, tmp_path, log, LIMIT_S) for log in logs]
    eventually(lambda: all(reports(log) for log in logs))
    processes[0].kill()
    processes[0].wait(LIMIT_S)
    assert processes[1].poll() is None
    processes[1].kill()
    processes[1].wait(LIMIT_S)


def test_what_a_program_leaves_is_killed(launcher: PreforkedLauncher, env: dict[str, str], tmp_path: Path) -> None:
    process = launcher.launch(["program", "sleep", "leave"], env, tmp_path, tmp_path / "log", LIMIT_S)
    assert process.wait(LIMIT_S) == 0
    [found] = reports(tmp_path / "log")
    eventually(lambda: gone(found["child"]))


def start_and_sleep(env: dict[str, str], log: Path) -> tuple[PreforkedLauncher, Any, dict[str, Any]]:
    launcher = PreforkedLauncher(Path(sys.executable), ["preloaded"], linger_s=LINGER_S)
    launcher.start()
    process = launcher.launch(["program", "sleep"], env, log.parent, log, LIMIT_S)
    return launcher, process, eventually(lambda: reports(log))[0]


def test_close_leaves_nothing(env: dict[str, str], tmp_path: Path) -> None:
    launcher, process, found = start_and_sleep(env, tmp_path / "log")
    launcher.close()
    assert all(gone(found[name]) for name in ("pid", "image", "child"))
    assert process.wait(LIMIT_S) == -signal.SIGKILL


@pytest.mark.parametrize("victim", ["router", "image"])
def test_children_die_with_their_server(env: dict[str, str], tmp_path: Path, victim: str) -> None:
    launcher, process, found = start_and_sleep(env, tmp_path / "log")
    assert launcher._router is not None
    os.kill(launcher._router.pid if victim == "router" else found["image"], signal.SIGKILL)
    assert process.wait(LIMIT_S) == -signal.SIGKILL
    eventually(lambda: gone(found["pid"]) and gone(found["image"]))
    if victim == "router":  # the image still lives to end its children's groups
        eventually(lambda: gone(found["child"]))
    else:
        os.kill(found["child"], signal.SIGKILL)
    launcher.close()


def test_a_killed_caller_leaves_nothing(env: dict[str, str], tmp_path: Path) -> None:
    caller_code = f"""
        import sys, time
        from pathlib import Path
        from haqa_runner.prefork import PreforkedLauncher
        launcher = PreforkedLauncher(Path(sys.executable), ["preloaded"], linger_s={LINGER_S})
        launcher.start()
        here = Path({str(tmp_path)!r})
        process = launcher.launch(["program", "sleep"], {env!r}, here, here / "log")
        print(launcher._router.pid, launcher._socket_path, flush=True)
        time.sleep(60)
    """
    runner = Path(__file__).parents[2] / "runner"
    caller = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(caller_code)],
        env=os.environ | {"PYTHONPATH": str(runner)},
        stdout=subprocess.PIPE,
    )
    with caller:
        assert caller.stdout is not None
        router, socket = caller.stdout.readline().split()
        [found] = eventually(lambda: reports(tmp_path / "log"))
        caller.kill()
    eventually(lambda: all(gone(pid) for pid in (int(router), found["pid"], found["image"], found["child"])))
    assert not Path(socket.decode()).parent.exists()


def test_an_image_that_still_imports_is_waited_for_by_who_inherits_what_imports_set(
    env: dict[str, str], tmp_path: Path
) -> None:
    """An engine's worker asks with what the imports of the engine have set, for an image that was begun without."""
    slow = {**env, "WORKERS": "1", "IMPORTS_FOR_S": "2"}
    with PreforkedLauncher(Path(sys.executable), ["preloaded"], linger_s=LINGER_S) as launcher:
        launcher.launch(["program", "exit", "0"], env, tmp_path, tmp_path / "first", LIMIT_S).wait(LIMIT_S)
        threading.Thread(target=launcher.warm, args=(slow,)).start()
        time.sleep(0.3)  # it is on its way, and has not imported yet
        for log, more in (("inherited", {"MADE_BY_IMPORT": "yes"}), ("other", {"MADE_BY_IMPORT": "no"}), ("plain", {})):
            launcher.launch(["program", "exit", "0"], slow | more, tmp_path, tmp_path / log, LIMIT_S).wait(LIMIT_S)
    image = {log: reports(tmp_path / log)[0]["imported_by"] for log in ("first", "inherited", "other", "plain")}
    assert image["inherited"] == image["plain"]
    assert len(set(image.values())) == 3


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="with one CPU there is nothing to be bound to")
def test_binding_is_for_the_children_and_not_for_imports(env: dict[str, str], tmp_path: Path) -> None:
    modules = ["binding", "imported_afterwards", "preloaded"]
    with PreforkedLauncher(Path(sys.executable), modules, linger_s=LINGER_S) as launcher:
        launcher.launch(["program", "exit", "0"], env, tmp_path, tmp_path / "log", LIMIT_S).wait(LIMIT_S)
    (report,) = reports(tmp_path / "log")
    assert report["env"]["AFFINITY_OF_IMPORTS"] == str(len(os.sched_getaffinity(0)))
    assert report["affinity"] == 1


def test_the_least_recently_used_image_gives_way(env: dict[str, str], tmp_path: Path) -> None:
    def image(launcher: PreforkedLauncher, value: str, count: list[int] = [0]) -> int:  # noqa: B006
        count[0] += 1
        log = tmp_path / str(count[0])
        launcher.launch(["program", "exit", "0"], env | {"AT_IMPORT": value}, tmp_path, log, LIMIT_S).wait(LIMIT_S)
        return int(reports(log)[0]["image"])

    with PreforkedLauncher(Path(sys.executable), ["preloaded"], max_images=2) as launcher:
        a, b = image(launcher, "a"), image(launcher, "b")
        assert image(launcher, "a") == a
        image(launcher, "c")
        eventually(lambda: gone(b))
        assert image(launcher, "a") == a


def test_errors_say_what_to_do(launcher: PreforkedLauncher, env: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(PreforkError, match=r"call start\(\) first"):
        PreforkedLauncher(Path(sys.executable), []).launch(["json.tool"], env, tmp_path, tmp_path / "log")
    with pytest.raises(NotADirectoryError, match="nowhere"):
        launcher.launch(["json.tool"], env, tmp_path / "nowhere", tmp_path / "log")
    with pytest.raises(PreforkError, match="does not fit a packet"):
        launcher.launch(["json.tool"], env | {"BIG": "x" * 10_000_000}, tmp_path, tmp_path / "log")


def test_a_module_that_cannot_be_preloaded_is_skipped(env: dict[str, str]) -> None:
    with PreforkedLauncher(Path(sys.executable), ["no_such_module", "preloaded"]) as launcher:
        assert launcher.warm(env, LIMIT_S) < LIMIT_S


def test_an_interpreter_that_cannot_start_is_reported(env: dict[str, str]) -> None:
    with (
        PreforkedLauncher(Path(sys.executable), ["preloaded"]) as launcher,
        pytest.raises(PreforkError, match="encodings"),
    ):
        launcher.warm(env | {"PYTHONHOME": "/nonexistent"}, LIMIT_S)


def test_the_socket_is_private(launcher: PreforkedLauncher) -> None:
    socket = Path(launcher._socket_path)
    assert socket.stat().st_mode & 0o777 == 0o600
    assert socket.parent.stat().st_mode & 0o777 == 0o700


def test_concurrent_waits_agree(launcher: PreforkedLauncher, env: dict[str, str], tmp_path: Path) -> None:
    process = launcher.launch(["program", "sleep"], env, tmp_path, tmp_path / "log", LIMIT_S)
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(process.wait(LIMIT_S))) for _ in range(4)]
    for thread in threads:
        thread.start()
    process.kill()
    for thread in threads:
        thread.join(LIMIT_S)
    assert codes == [-signal.SIGKILL] * 4


@pytest.mark.parametrize(
    ("image", "made", "wanted", "fits"),
    [
        ({"OMP_NUM_THREADS": "1"}, {}, {"OMP_NUM_THREADS": "1"}, True),
        ({"OMP_NUM_THREADS": "1"}, {}, {"OMP_NUM_THREADS": "2"}, False),
        ({}, {}, {"LD_PRELOAD": "libtcmalloc.so"}, False),
        ({"LD_PRELOAD": "libtcmalloc.so"}, {}, {}, False),
        ({}, {}, {"ONEDNN_MAX_CPU_ISA": "AVX2", "VLLM_CPU_OMP_THREADS_BIND": "0-1"}, True),
        ({}, {"CACHE": "/tmp/c"}, {"CACHE": "/tmp/c"}, True),
        ({}, {"CACHE": "/tmp/c"}, {"CACHE": "/tmp/d"}, False),
        ({"CACHE": "x"}, {"CACHE": None}, {}, True),
    ],
)
def test_which_image_fits_which_environment(
    image: dict[str, str], made: dict[str, str | None], wanted: dict[str, str], fits: bool
) -> None:
    assert admits(fork_key(image, [0]), made, fork_key(wanted, [0])) is fits
    assert not admits(fork_key(image, [0]), made, fork_key(wanted, [0, 1]))


def test_variables_that_libraries_read_while_they_load_are_not_fork_safe() -> None:
    read = {
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "OMP_NUM_THREADS",
        "GOMP_CPU_AFFINITY",
        "KMP_AFFINITY",
        "OPENBLAS_NUM_THREADS",
    }
    read |= {
        "ATEN_CPU_CAPABILITY",
        "TORCHINDUCTOR_CPP_DYNAMIC_THREADS",
        "VLLM_BATCH_INVARIANT",
        "HF_HUB_OFFLINE",
        "PATH",
    }
    assert not read & FORK_SAFE_ENV


def test_vllm_env_names_the_libgomp_of_the_serving_environment(tmp_path: Path) -> None:
    libgomp = tmp_path / "lib/python3.11/site-packages/torch/lib/libgomp.so.1"
    libgomp.parent.mkdir(parents=True)
    libgomp.touch()
    python = tmp_path / "bin/python"
    assert vllm_cpu_env({}, python)["LD_PRELOAD"] == str(libgomp)
    assert vllm_cpu_env({"LD_PRELOAD": "/x/libtcmalloc.so"}, python)["LD_PRELOAD"] == f"/x/libtcmalloc.so:{libgomp}"
    assert vllm_cpu_env({"LD_PRELOAD": "/x/libiomp5.so"}, python)["LD_PRELOAD"] == "/x/libiomp5.so"
    assert vllm_cpu_worker_env({}, python, [0, 1])["GOMP_CPU_AFFINITY"] == "0 1"
    assert vllm_cpu_worker_env({"LD_PRELOAD": "/x/libiomp5.so"}, python, [1])["KMP_AFFINITY"].endswith("proclist=[1]")
