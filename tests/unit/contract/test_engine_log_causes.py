"""Which message of a log is the root cause, and what is no message at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.contract.endings import ENDINGS

from haqa_contract import FailureReason
from haqa_contract.engine_log.causes import core_is_dead, findings
from haqa_contract.engine_log.diagnosis import core_death, diagnose
from haqa_contract.engine_log.lines import EngineLog
from haqa_contract.engine_log.messages import Kind, messages

LOGS = Path(__file__).parents[2] / "data" / "engine_logs"


def logged(process: str, text: str, level: str = "ERROR", place: str = "core.py:1510") -> str:
    return "".join(f"({process}) {level} 11-27 09:14:02 [{place}] {line}\n" for line in text.splitlines())


def traceback(raised: str) -> str:
    frame = '  File "/opt/x/site-packages/vllm/a.py", line 3, in f\n    g()\n'
    return f"Traceback (most recent call last):\n{frame}{raised}\n"


def read(text: str) -> EngineLog:
    return EngineLog(text, 1)


def cause(text: str) -> str:
    found = findings(read(text)).cause
    assert found is not None
    return found.raised[-1].text if found.raised else found.headline


def test_what_information_and_warnings_say_is_no_message() -> None:
    quiet = logged("EngineCore pid=7", traceback("ValueError: tried the fast path"), "WARNING")
    quiet += logged("EngineCore pid=7", "RuntimeError: CUDA error: out of memory", "INFO")
    assert messages(read(quiet)) == ()


def test_each_process_is_read_by_itself() -> None:
    first = logged("Worker_TP0 pid=1", "WorkerProc failed to start.\n" + traceback("ValueError: zero")).splitlines()
    second = logged("Worker_TP1 pid=2", "WorkerProc failed to start.\n" + traceback("ValueError: one")).splitlines()
    mixed = "\n".join(line for pair in zip(first, second, strict=True) for line in pair)
    assert [message.raised[0].text for message in messages(read(mixed))] == ["ValueError: zero", "ValueError: one"]


def test_the_place_of_an_exception_is_its_innermost_frame() -> None:
    (message,) = messages(read(traceback("AssertionError")))
    assert message.raised[0].where == "vllm/a.py:3 in f"


@pytest.mark.parametrize(
    ("link", "says"),
    [
        ("The above exception was the direct cause of the following exception:", "(because of KeyError: 'nova')"),
        ("During handling of the above exception, another exception occurred:", "(while handling KeyError: 'nova')"),
    ],
)
def test_a_chain_is_one_message_and_told_with_its_beginning(link: str, says: str) -> None:
    first, last = "KeyError: 'nova'", "ValueError: no such type of model here, see above"
    text = f"{traceback(first)}\n{link}\n\n{traceback(last)}"
    assert len(messages(read(text))) == 1
    message = diagnose(text, 1).message
    assert "ValueError: no such type of model here" in message
    assert says.rstrip(")") in message


def test_a_message_of_several_lines_ends_where_the_next_thing_begins() -> None:
    text = traceback("RuntimeError: first\nsecond\nthird") + "Process EngineCore:\n" + traceback("ValueError: other")
    assert messages(read(text))[0].raised[0].text == "RuntimeError: first\nsecond\nthird"


def test_values_that_an_exception_repeats_are_left_out() -> None:
    raised = (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
        "  Value error, no. [type=value_error, input_value=ArgsKwargs((), {'trust_remote_code': True}), input_type=X]"
    )
    (message,) = messages(read(traceback(raised)))
    assert "trust_remote_code" not in message.text
    (message,) = messages(
        read(
            traceback(
                "subprocess.CalledProcessError: Command '['cc', '-lout_of_memory']' returned non-zero exit status 1."
            )
        )
    )
    assert "Command 'cc' returned non-zero exit status 1." in message.text


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("ERROR 05-27 11:47:57 [core.py:396] ", "brackets, no process"),
        ("ERROR 06-21 21:40:12 llm_engine.py:128] ", "vLLM 0.5"),
        ("(VllmWorker rank=1 pid=2445156) ERROR 05-19 06:58:49 [multiproc_executor.py:470] ", "a rank"),
        ("(RayWorkerWrapper pid=5280, ip=10.0.0.4) ERROR 04-26 01:59:07 worker_base.py:157] ", "another node"),
        ("[rank0]: ", "torchrun"),
        ("\x1b[1;36m(EngineCore pid=7)\x1b[0;0m ERROR 11-27 09:14:02 [core.py:1] ", "colours"),
        ("2026-11-27T09:14:02.123456789Z (EngineCore pid=7) ERROR 11-27 09:14:02 [core.py:1] ", "kubectl --timestamps"),
        ("vllm-1  | (EngineCore pid=7) ERROR 11-27 09:14:02 [core.py:1] ", "docker compose"),
        ("(EngineCore_DP0 pid=7) (Worker_TP0 pid=9) ERROR 11-27 09:14:02 [core.py:1] ", "a process within another"),
        ("(Map(Map(Udf)) pid=7) (Worker pid=9) ERROR 11-27 09:14:02 [core.py:1] ", "Ray Data"),
        ("(llm, pid=7) (EngineCore_0 pid=9) ERROR 11-27 09:14:02 [core.py:1] ", "a named Ray actor"),
        ("[36m(RayWorkerWrapper pid=5, ip=10.0.0.4)[0m ERROR 02-18 15:16:57 a.py:5] ", "colours without escape"),
        ("^[[36m(RayWorkerWrapper pid=5)^[[0m ERROR 02-18 15:16:57 a.py:5] ", "colours of cat -v"),
        ("Aug 19 18:34:27 node-1 vllm[8727]: (EngineCore pid=8727) ", "journald"),
        ("[pod/llm-0/vllm] (EngineCore pid=7) ERROR 11-27 09:14:02 [core.py:1] ", "kubectl --prefix"),
        ("2025-03-07 18:32:47 ", "Docker Desktop"),
        ("> vllm-1  | (EngineCore pid=7) ", "quoted in a mail"),
    ],
    ids=lambda value: value if " " in value and value[0].isalpha() else None,
)
def test_prefixes_of_all_ages_are_known(prefix: str, name: str) -> None:
    text = "".join(f"{prefix}{line}\n" for line in traceback("ValueError: the flux is too high").splitlines())
    assert cause(text) == "ValueError: the flux is too high"


def test_a_process_within_another_is_read_by_itself() -> None:
    first = logged("EngineCore pid=7) (Worker_TP0 pid=1", traceback("ValueError: zero")).splitlines()
    second = logged("EngineCore pid=7) (Worker_TP1 pid=2", traceback("ValueError: one")).splitlines()
    mixed = "\n".join(line for pair in zip(first, second, strict=True) for line in pair)
    assert [message.process for message in messages(read(mixed))] == ["Worker_TP0 pid=1", "Worker_TP1 pid=2"]
    assert [message.raised[0].text for message in messages(read(mixed))] == ["ValueError: zero", "ValueError: one"]


def test_an_exception_that_ray_brings_from_another_process_is_the_one_that_was_raised_there() -> None:
    raised = (
        "ray.exceptions.RayTaskError(ValueError): ray::Worker.execute_method() (pid=9, ip=10.0.0.4)\n"
        '  File "/opt/x/site-packages/vllm/b.py", line 5, in g\n    h()\nValueError: the flux is too high'
    )
    (message,) = messages(read(traceback(raised)))
    assert message.raised[0].text == "ValueError: the flux is too high"
    assert message.raised[0].where == "vllm/b.py:5 in g"


def test_a_traceback_that_lost_its_beginning_still_says_where() -> None:
    (message,) = messages(read(traceback("KeyError: 40").partition("\n")[2]))
    assert message.raised[0].where == "vllm/a.py:3 in f"


def test_an_exception_made_of_parts_is_one_sentence() -> None:
    assert cause(traceback("RuntimeError: ('the flux ', 'is too high')")) == "RuntimeError: the flux is too high"


@pytest.mark.parametrize(
    "described", ["future: <Task finished name='Task-2' exception=ValueError('no one asks')>", "handle: <Handle f()>"]
)
def test_a_task_that_nobody_asks_for_is_no_cause(described: str) -> None:
    lost = f"Task exception was never retrieved\n{described}\n{traceback('ValueError: no one asks')}"
    assert cause(f"{lost}\n{traceback('ValueError: the flux is too high')}") == "ValueError: the flux is too high"


def test_a_worker_that_quotes_nothing_is_no_cause() -> None:
    text = logged(
        "EngineCore pid=7",
        traceback("RuntimeError: Worker failed with error '', please check the stack trace above for the root cause"),
    )
    assert findings(read(text)).cause is None
    assert "without saying why" in diagnose(text, 1).message


def test_a_process_that_the_engine_stopped_itself_is_not_what_it_died_of() -> None:
    early = logged("EngineCore pid=7", traceback("ValueError: the flux is too high"))
    later = logged("EngineCore pid=7", "Loading weights took 3 seconds", "INFO")
    stopped = "ERROR 08-27 01:19:40 multiproc_worker_utils.py:120] Worker VllmWorkerProcess pid 9 died, exit code: -15"
    assert findings(read(early + later + stopped)).death is None
    killed = stopped.replace("-15", "-9")
    assert diagnose(early + later + killed, 1).reason is FailureReason.ENGINE_OOM


def test_a_process_ended_out_of_memory_only_if_its_log_is_whole() -> None:
    pointer = traceback(
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
    )
    cut = diagnose(pointer, 1)
    assert cut.reason is FailureReason.ENGINE_LOAD_FAILED
    assert "is missing here" in cut.message
    whole = logged("EngineCore pid=7", "Starting to load model", "INFO") + pointer
    assert diagnose(whole, 1).reason is FailureReason.ENGINE_OOM


def test_what_a_process_survived_is_not_what_it_died_of() -> None:
    early = logged("EngineCore pid=7", "Usage report failed\n" + traceback("OSError: nobody answers"))
    alive = logged("EngineCore pid=7", "Loading weights took 3 seconds", "INFO")
    late = logged("EngineCore pid=7", "EngineCore failed to start.\n" + traceback("ValueError: the flux is too high"))
    assert cause(early + alive + late) == "ValueError: the flux is too high"


def test_what_was_reported_before_the_engine_was_ready_is_not_what_it_died_of() -> None:
    early = traceback("OSError: nobody answers")
    late = logged("EngineCore pid=7", "EngineCore encountered a fatal error.\n" + traceback("ValueError: flux"))
    assert cause(f"{early}\nINFO:     Application startup complete.\n{late}") == "ValueError: flux"


def test_a_rank_that_lost_another_one_is_not_the_cause() -> None:
    lost = logged("Worker_TP0 pid=1", traceback("torch.distributed.DistBackendError: Connection closed by peer"))
    dead = logged("Worker_TP1 pid=2", traceback("ValueError: the flux is too high"))
    assert cause(lost + dead) == "ValueError: the flux is too high"


def test_a_process_that_was_killed_outweighs_what_others_survived() -> None:
    early = logged("EngineCore pid=7", "Usage report failed\n" + traceback("OSError: nobody answers"))
    alive = logged("EngineCore pid=7", "Loading weights took 3 seconds", "INFO")
    killed = logged("EngineCore pid=7", "Worker proc VllmWorker-0 died unexpectedly (exit code: -9), shutting down.")
    assert diagnose(early + alive + killed, 1).reason is FailureReason.ENGINE_OOM


def test_a_refused_command_line_is_read_from_its_last_line_and_not_from_the_usage() -> None:
    text = "usage: vllm serve [-h] [--x {out of memory}]\nvllm serve: error: argument --x: expected one argument\n"
    assert [message.kind for message in messages(read(text))] == [Kind.USAGE]
    assert "refuses the argument --x: expected one argument" in diagnose(text, 2).message


def test_a_cause_is_found_while_the_api_server_still_runs() -> None:
    dead = {ending.name: ending for ending in ENDINGS if ending.exit_code is None or "core.py:1512" in ending.rest}
    assert len(dead) >= 5
    for ending in dead.values():
        failure = core_death(ending.log, ("--model", "/models/m"))
        assert failure is not None
        assert ending.says in failure.message


def test_an_engine_that_serves_or_was_asked_to_stop_is_not_dead() -> None:
    stopped = (LOGS / "started.log").read_text()
    assert "EngineDeadError" in stopped
    assert not core_is_dead(read(stopped))
    assert core_death(stopped) is None
    assert core_death((LOGS / "worker_lost.log").read_text()) is not None
    request = "ERROR:    Exception in ASGI application\n" + traceback("ValueError: a bad request")
    assert core_death(f"INFO:     Application startup complete.\n{request}") is None


def test_the_request_that_failed_is_told_where_nothing_else_is() -> None:
    request = "ERROR:    Exception in ASGI application\n" + traceback(
        "ValueError: a request that nobody foresaw, and long"
    )
    assert "ValueError: a request that nobody foresaw" in diagnose(request, None).message
