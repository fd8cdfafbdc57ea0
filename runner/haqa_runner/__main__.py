"""`python -m haqa_runner {quantize,serve,measure,reference,verify} --request FILE`: one step of one trial; `compare`:
two engines; `fetch`: what a winner serves."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from haqa_runner.steps import EXIT_UNREADABLE_REQUEST, RequestError, Step, read_request
from haqa_runner.supervision import supervise

COMPARE, FETCH = "compare", "fetch"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the step, or the comparison; exit code 0 = done, 3 = failed and reported, 2 = the request is unreadable."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == [FETCH]:
        from haqa_runner import fetch

        return fetch.main(words[1:])
    parser = argparse.ArgumentParser(prog="haqa_runner", description="One step of a HAQA trial.")
    parser.add_argument("step", choices=[*(step.value for step in Step), COMPARE])
    parser.add_argument("--request", type=Path, required=True, help="TrialRequest (compare: CompareRequest) as JSON")
    given = parser.parse_args(words)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        if given.step == COMPARE:
            # Brings guidellm along, which the other steps' supervisor has no use for.
            from haqa_runner.measure.compare import compare_file

            return compare_file(given.request)
        request = read_request(given.request)
    except RequestError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_UNREADABLE_REQUEST
    return supervise(Step(given.step), request)


if __name__ == "__main__":
    sys.exit(main())
